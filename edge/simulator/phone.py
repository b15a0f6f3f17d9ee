"""A phone without a person: registers as a seat, answers what rings, speaks a tone and listens for another."""

from __future__ import annotations

import asyncio

from edge.simulator.station import Conversation, Station
from edge.sip.auth.digest import answer, read_challenges
from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId


class DemoPhone(Station):
    """One seat. Raises in `register` and `dial` say what the edge answered."""

    def __init__(self, host: str, media_host: str, edge: Address, username: str, password: str, tone: float) -> None:
        super().__init__(host, 0, media_host)
        self.edge = edge
        self.username = username
        self.tone = tone
        self.rung: asyncio.Queue[Conversation] = asyncio.Queue()
        self._password = password
        self._call_id = self.ids.token()
        self._tag = self.ids.token()
        self._cseq = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def register(self, expires: int = 120) -> None:
        """Register (0 seconds: leave). Raises ConnectionError with the final status."""
        flow = await self.flow_to(self.edge)
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._register(flow, expires, None, answered)
        status = await answered
        if status != 200:
            raise ConnectionError(f"{self.username} could not register: the edge answered {status}")

    def _register(self, flow: Flow, expires: int, authorization: str | None, answered: asyncio.Future[int]) -> None:
        self._cseq += 1
        address = f"sip:{self.username}@{self.edge.host}"
        request = Request(
            "REGISTER",
            f"sip:{self.edge.host}:{self.edge.port}",
            Headers(
                [
                    ("Max-Forwards", "70"),
                    ("From", f"<{address}>;tag={self._tag}"),
                    ("To", f"<{address}>"),
                    ("Call-ID", self._call_id),
                    ("CSeq", f"{self._cseq} REGISTER"),
                    ("Contact", self.port.contact(flow, self.username)),
                    ("Expires", str(expires)),
                ]
            ),
        )
        if authorization is not None:
            request.headers.add("Authorization", authorization)
        phone = self

        class Answer:
            def on_response(self, tx: TransactionId, response: Response) -> None:
                if response.status == 401 and authorization is None:
                    phone._register(flow, expires, phone._credentials(request, response), answered)
                elif response.status >= 200 and not answered.done():
                    answered.set_result(response.status)

            def on_no_response(self, tx: TransactionId) -> None:
                if not answered.done():
                    answered.set_result(408)

        self.exchange.request(request, flow, Answer())

    def _credentials(self, request: Request, response: Response) -> str | None:
        offered = read_challenges(response.headers.get_all("www-authenticate"))
        return answer(
            offered, request.method, request.uri, self.username, self._password, self.ids.token(), 1, request.body
        )

    async def dial(self, digits: str) -> Conversation:
        """Call; wait for `answered` or `ended` of the conversation."""
        flow = await self.flow_to(self.edge)
        host = f"{self.edge.host}:{self.edge.port}"
        invite = Request(
            "INVITE",
            f"sip:{digits}@{host}",
            Headers(
                [
                    ("Max-Forwards", "70"),
                    ("From", f"<sip:{self.username}@{self.edge.host}>"),
                    ("To", f"<sip:{digits}@{self.edge.host}>"),
                ]
            ),
        )

        def authorize(sent: Request, response: Response) -> Request | None:
            value = self._credentials(sent, response)
            if value is None or "authorization" in sent.headers:
                return None
            again = Request(sent.method, sent.uri, sent.headers.copy(), sent.body)
            again.headers.remove("via")
            again.headers.set("CSeq", f"{sent.cseq.number + 1} {sent.method}")
            again.headers.add("Authorization", value)
            return again

        return await self.call(invite, flow, self.username, self.tone, authorize)

    def on_invite(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """Ring once and answer."""
        task = asyncio.get_running_loop().create_task(self._take(tx, request, flow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        talk = await self.pick_up(tx, request, flow, self.tone)
        self.ring(talk)
        self.answer(talk)
        self.rung.put_nowait(talk)
