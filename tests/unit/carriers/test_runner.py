"""All carriers at work over a driver that the test plays, on the loop's virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from config.model import Carrier, Rows
from config.snapshot import Snapshot
from config.tables.carrier_states import CarrierStateRow
from edge.carriers.line import hop_of
from edge.carriers.registration import line_token
from edge.carriers.runner import Carriers
from edge.sip.auth.digest import Credentials, challenges
from edge.sip.build import response_to
from edge.sip.flow import Address, Flow, Hop
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.transport.errors import ConnectError, ResolveError
from edge.transport.resolver import ResolvedHop

from .rig import Ids

pytestmark = pytest.mark.looptime
LOCAL = Address("192.0.2.10", 5060)
ONE, TWO = Address("203.0.113.1", 5060), Address("203.0.113.2", 5060)
REGISTERED = Carrier("one", domain="one.example", username="acc1", password="secret")
STATIC = Carrier("two", mode="static", domain="two.example", sources=("198.51.100.0/24",), password="secret")


class Network:
    """Driver, exchange, resolver, clock and store in one."""

    def __init__(self) -> None:
        self.names: dict[str, list[Address]] = {"one.example": [ONE], "two.example": [TWO]}
        self.refusing: set[Address] = set()
        self.ranks: dict[Address, int] = {}
        self.requests: list[tuple[Request, Flow, object]] = []
        self.rows: dict[str, CarrierStateRow | None] = {}
        self.kept: list[Flow] = []
        self.connections = 0

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def utcnow(self) -> datetime:
        return datetime(2026, 11, 22, 12, tzinfo=UTC)

    async def resolve(self, hop: Hop) -> list[ResolvedHop]:
        addresses = self.names.get(hop.host)
        if not addresses:
            raise ResolveError(f"{hop.host} has no address", False)
        name = hop.server_name or hop.host
        return [ResolvedHop(hop.transport or "udp", a, name, self.ranks.get(a, 0)) for a in addresses]

    async def flow_to(self, hop: ResolvedHop) -> Flow:
        if hop.address in self.refusing:
            raise ConnectError(f"{hop.address}: connection refused")
        if hop.transport == "udp":
            return Flow("udp", LOCAL, hop.address)
        self.connections += 1
        return Flow(hop.transport, LOCAL, hop.address, self.connections)

    def advertised(self, flow: Flow) -> Address:
        return LOCAL

    def keep_alive(self, flow: Flow, seconds: float | None) -> None:
        self.kept.append(flow)

    def request(self, request: Request, flow: Flow, handler: object) -> int:
        request.headers.insert_first("Via", "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKx;rport=5060")
        self.requests.append((request, flow, handler))
        return len(self.requests)

    async def clear(self) -> None:
        self.rows.clear()

    async def save(self, changes: Mapping[str, CarrierStateRow | None]) -> None:
        self.rows.update(changes)

    # the carrier's part

    def sent(self, method: str = "REGISTER", domain: str = "one.example") -> list[int]:
        """Numbers of the requests to a domain."""
        return [
            i + 1 for i, (r, _, _) in enumerate(self.requests) if r.method == method and r.uri == f"sip:{domain}"
        ]  # fmt: skip

    def answer(self, number: int, status: int, *headers: tuple[str, str], seen: str = "") -> None:
        request, _, handler = self.requests[number - 1]
        response = response_to(request, status)
        for name, value in headers:
            response.headers.add(name, value)
        if seen:
            response.headers.replace_first("via", (response.headers.get("via") or "") + seen)
        handler.on_response(number, response)  # type: ignore[attr-defined]

    def lose(self, number: int) -> None:
        self.requests[number - 1][2].on_no_response(number)  # type: ignore[attr-defined]


def start(network: Network, *carriers: Carrier, store: bool = False) -> Carriers:
    n = network
    made = Carriers(n, n, n, n, Ids(), lambda: 0.5, store=n if store else None)  # type: ignore[arg-type]
    made.apply(snapshot(*carriers))
    return made


def snapshot(*carriers: Carrier) -> Snapshot:
    return Snapshot(Rows(carriers=carriers))


async def settle() -> None:
    """Let tasks run that wait for nothing."""
    for _ in range(10):
        await asyncio.sleep(0)


async def registered(network: Network, *carriers: Carrier) -> Carriers:
    made = start(network, *carriers)
    await settle()
    for number in range(1, len(network.requests) + 1):
        if network.requests[number - 1][0].method == "REGISTER":
            network.answer(number, 200)
    await settle()
    return made


def invite(uri: str = "sip:+4930123@192.0.2.10") -> Request:
    return Request("INVITE", uri, Headers([("CSeq", "1 INVITE"), ("Call-ID", "c"), ("To", "<sip:x@y>")]))


async def stop(network: Network, carriers: Carriers) -> None:
    task = asyncio.ensure_future(carriers.stop(0.5))
    await settle()
    for number, (request, _, _) in enumerate(list(network.requests), 1):
        if request.method == "REGISTER" and request.headers.get("expires") == "0":
            network.answer(number, 200)
    await task


class TestIdentify:
    """T1.25: who may send to us."""

    @pytest.mark.parametrize(
        ("flow", "name"),
        [
            (Flow("udp", LOCAL, ONE), "one"),
            (Flow("udp", LOCAL, Address(ONE.host, 5099)), None),
            (Flow("tcp", LOCAL, Address(ONE.host, 41000), 9), None),
            (Flow("udp", LOCAL, Address("198.51.100.77", 1234)), "two"),
            (Flow("udp", LOCAL, Address("192.0.2.66", 5060)), None),
        ],
        ids=["registered flow", "other port", "other transport", "configured source", "stranger"],
    )
    async def test_by_source(self, flow: Flow, name: str | None) -> None:
        """By flow, address, source; a host alone is not enough."""
        network = Network()
        carriers = await registered(network, REGISTERED, STATIC)
        found = carriers.identify(invite(), flow)
        assert (found.name if found else None) == name
        await stop(network, carriers)

    async def test_other_port_with_our_own_contact(self) -> None:
        """A carrier that sends from another port of its host names the Contact that we registered with it."""
        network = Network()
        carriers = await registered(network, REGISTERED)
        flow = Flow("udp", LOCAL, Address(ONE.host, 5099))
        for uri, known in (
            (f"sip:+49301@192.0.2.10;line={line_token(REGISTERED)}", True),
            ("sip:+49301@192.0.2.10;line=ffffffffffff", False),
            ("sip:acc1@192.0.2.10", True),
            ("sip:acc2@192.0.2.10", False),
        ):
            assert (carriers.identify(invite(uri), flow) is not None) is known, uri
        await stop(network, carriers)

    async def test_new_connection_from_a_carrier_over_tcp(self) -> None:
        """Its port is of its choosing."""
        network = Network()
        carriers = await registered(network, replace(REGISTERED, transport="tcp"))
        assert carriers.identify(invite(), Flow("tcp", LOCAL, Address(ONE.host, 41000), 9)) is not None
        assert carriers.identify(invite(), Flow("udp", LOCAL, Address(ONE.host, 41000))) is None
        await stop(network, carriers)

    async def test_two_registrations_with_one_carrier(self) -> None:
        """Told apart by the mark in our Contact, then by the user; else the first by priority."""
        network = Network()
        second = replace(REGISTERED, name="again", username="acc2", priority=5)
        carriers = await registered(network, REGISTERED, second)
        flow = Flow("udp", LOCAL, ONE)
        found = [
            carriers.registered_over(invite(uri), flow)
            for uri in (f"sip:+49301@h;line={line_token(REGISTERED)}", "sip:acc1@h", "sip:acc2@h", "sip:+49301@h")
        ]
        assert [c.name if c else None for c in found] == ["one", "one", "again", "again"]
        await stop(network, carriers)

    async def test_lost_connection_is_no_longer_registered_over(self) -> None:
        """T1.24: refused until bound again."""
        network = Network()
        carriers = await registered(network, replace(REGISTERED, transport="tcp"))
        flow = network.requests[0][1]
        assert carriers.registered_over(invite(), flow) is not None and network.kept == [flow]
        carriers.flow_closed(flow)
        assert carriers.registered_over(invite(), flow) is None
        await settle()
        assert len(network.sent()) == 2 and network.requests[1][1] != flow
        network.answer(2, 200)
        await stop(network, carriers)


class TestWay:
    """How calls get out."""

    async def test_registered(self) -> None:
        """Over the registered flow, by the Service-Route or the outbound proxy (T1.29)."""
        network = Network()
        network.names["proxy.example"] = [ONE]
        carriers = start(network, replace(REGISTERED, outbound_proxy="sip:proxy.example"))
        await settle()
        network.answer(1, 200)
        way = await carriers.way("one")
        assert way.flow == Flow("udp", LOCAL, ONE) and way.routes == ["<sip:proxy.example;lr>"]
        assert way.contact is not None and way.contact.user == "acc1"
        await asyncio.sleep(520)
        network.answer(network.sent()[1], 200, ("Service-Route", "<sip:sr.example;lr>"))
        assert (await carriers.way("one")).routes == ["<sip:sr.example;lr>"]
        await stop(network, carriers)

    async def test_not_registered(self) -> None:
        """Says why, for the record of the call."""
        network = Network()
        carriers = start(network, REGISTERED)
        await settle()
        network.answer(1, 403)
        with pytest.raises(ConnectError, match="not registered with one: 403 Forbidden"):
            await carriers.way("one")
        with pytest.raises(ConnectError, match="not in use"):
            await carriers.way("nobody")
        assert (await carriers.way("one", anyway=True)).flow.remote == ONE, "an emergency call has nothing to lose"
        assert carriers.up() == {"one": False}
        await stop(network, carriers)

    async def test_known_by_address(self) -> None:
        """At once, before the first OPTIONS was answered; the next target where the first refuses."""
        network = Network()
        network.names["two.example"] = [TWO, ONE]
        network.refusing = {TWO}
        carriers = start(network, STATIC)
        assert (await carriers.way("two")).flow.remote == ONE
        await stop(network, carriers)

    async def test_health_of_a_carrier_known_by_address(self) -> None:
        """Silence of one that used to answer takes it down; its next address that answers takes over."""
        network = Network()
        carriers = start(network, STATIC)
        await asyncio.sleep(3)
        network.answer(1, 404)
        assert carriers.up() == {"two": True}
        await asyncio.sleep(61)
        network.lose(2)
        await asyncio.sleep(21)
        network.lose(3)
        assert carriers.up() == {"two": False}
        with pytest.raises(ConnectError, match="two is down: no answer to OPTIONS"):
            await carriers.way("two")
        assert (await carriers.way("two", anyway=True)).flow.remote == TWO
        network.names["two.example"] = [TWO, ONE]
        await asyncio.sleep(21)
        network.lose(4)
        await settle()
        network.answer(5, 200)
        assert carriers.up() == {"two": True} and (await carriers.way("two")).flow.remote == ONE
        await stop(network, carriers)


class TestAuthorize:
    """Challenges to calls (T1.29)."""

    def challenged(self, request: Request, nonce: str = "n1", stale: bool = False) -> Response:
        response = Response(407, "Proxy Authentication Required")
        for value in challenges("one.example", nonce, ["MD5"], stale):
            response.headers.add("Proxy-Authenticate", value)
        return response

    async def test_answers_a_challenge(self) -> None:
        """The same request with the next CSeq, a digest for its Request-URI, and without our old Via."""
        network = Network()
        carriers = await registered(network, REGISTERED)
        request = invite("sip:110@one.example")
        request.headers.insert_first("Via", "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1")
        again = carriers.authorize("one")(request, self.challenged(request))
        assert again is not None
        given = Credentials.parse(again.headers.get("proxy-authorization") or "")
        assert (given.uri, given.username, given.nc) == ("sip:110@one.example", "acc1", "00000001")
        assert again.cseq.number == 2 and "via" not in again.headers
        assert request.cseq.number == 1 and "proxy-authorization" not in request.headers
        assert carriers.authorize("one")(again, self.challenged(again, "n2")) is None
        await stop(network, carriers)

    async def test_next_call_is_authorized_in_advance(self) -> None:
        """The nonce is used on, with the next count."""
        network = Network()
        carriers = await registered(network, REGISTERED)
        first = invite()
        carriers.preauthorize("one", first)
        assert "proxy-authorization" not in first.headers
        carriers.authorize("one")(first, self.challenged(first))
        second = invite()
        carriers.preauthorize("one", second)
        assert Credentials.parse(second.headers.get("proxy-authorization") or "").nc == "00000002"
        assert carriers.authorize("one")(second, self.challenged(second, "n2", stale=True)) is not None
        await stop(network, carriers)

    async def test_a_stranger_in_a_dialog_gets_no_digest(self) -> None:
        """Who is called over a carrier could challenge our BYE in a realm of its own, and try passwords on the answer:
        in a dialog only realms are answered that the carrier itself has used, or its domain."""
        network = Network()
        carriers = await registered(network, replace(REGISTERED, domain="one.example"))

        def asked(realm: str, to: str = "<sip:110@one.example>;tag=theirs") -> Request | None:
            request = invite("sip:110@192.0.2.99")
            request.headers.set("To", to)
            response = Response(401, "Unauthorized")
            for value in challenges(realm, "n1", ["MD5"]):
                response.headers.add("WWW-Authenticate", value)
            return carriers.authorize("one")(request, response)

        assert asked("evil.example") is None
        assert asked("one.example") is not None
        assert asked("trunks", "<sip:110@one.example>") is not None, "outside of dialogs the carrier may have another"
        assert asked("trunks") is not None
        await stop(network, carriers)

    async def test_no_password(self) -> None:
        """A carrier that knows us by address may challenge; without a password there is nothing to say."""
        network = Network()
        carriers = start(network, replace(STATIC, password=None))
        request = invite()
        assert carriers.authorize("two")(request, self.challenged(request)) is None
        assert carriers.authorize("nobody")(request, self.challenged(request)) is None
        await stop(network, carriers)


class TestProvisioning:
    """Snapshot changes."""

    async def test_only_changed_carriers_restart(self) -> None:
        """A limit is no reason to register anew; a new password is."""
        network = Network()
        carriers = await registered(network, REGISTERED)
        carriers.apply(snapshot(replace(REGISTERED, max_calls=3)))
        await settle()
        assert len(network.requests) == 1
        found = carriers.registered_over(invite(), Flow("udp", LOCAL, ONE))
        assert found is not None and found.max_calls == 3
        carriers.apply(snapshot(replace(REGISTERED, password="new")))
        await settle()
        expires = [network.requests[n - 1][0].headers.get("expires") for n in network.sent()]
        assert expires == ["600", "0"]
        network.answer(2, 200)
        await settle()
        network.answer(3, 200)
        assert network.requests[2][0].headers.get("expires") == "600" and carriers.up() == {"one": True}
        await stop(network, carriers)

    async def test_dead_carrier_that_changes(self) -> None:
        """Its old registration cannot be taken back: the new one waits some seconds, not for ever."""
        network = Network()
        carriers = await registered(network, REGISTERED)
        carriers.apply(snapshot(replace(REGISTERED, password="new")))
        await asyncio.sleep(3.9)
        assert len(network.sent()) == 2
        carriers.apply(snapshot(replace(REGISTERED, password="newer")))
        await asyncio.sleep(0.2)
        assert len(network.sent()) == 3
        network.lose(2)
        network.answer(3, 200)
        assert carriers.up() == {"one": True} and len(network.sent()) == 3
        await stop(network, carriers)

    async def test_removed_carrier(self) -> None:
        """T1.27: unregistered, unknown from then on, its row gone."""
        network = Network()
        carriers = start(network, REGISTERED, store=True)
        await settle()
        network.answer(1, 200)
        task = asyncio.ensure_future(carriers.run())
        await asyncio.sleep(1)
        row = network.rows["one"]
        assert row is not None and (row.state, row.last_status) == ("registered", 200)
        assert row.remote == "udp:203.0.113.1:5060"
        carriers.apply(snapshot())
        await asyncio.sleep(1)
        assert network.rows == {"one": None} and carriers.states() == []
        assert network.requests[1][0].headers.get("expires") == "0"
        assert carriers.registered_over(invite(), Flow("udp", LOCAL, ONE)) is None
        await stop(network, carriers)
        await task

    async def test_nonsense_in_one_carrier_does_not_stop_the_others(self) -> None:
        """It is logged and left out."""
        network = Network()
        carriers = await registered(network, replace(REGISTERED, name="bad", domain="a b"), REGISTERED)
        assert carriers.up() == {"one": True}
        bad_source = replace(STATIC, sources=("not an address", "198.51.100.0/24"))
        carriers.apply(snapshot(REGISTERED, bad_source))
        assert carriers.identify(invite(), Flow("udp", LOCAL, Address("198.51.100.1", 5060))) is not None
        await stop(network, carriers)

    async def test_stop_does_not_wait_for_a_dead_carrier(self) -> None:
        """Ctrl-C ends within its time, though the carrier is gone."""
        network = Network()
        carriers = await registered(network, REGISTERED)
        began = network.now()
        await carriers.stop(2.0)
        assert network.now() - began == pytest.approx(2.0)


async def test_refresh_stays_where_it_is_among_the_best() -> None:
    """1.3-12: SRV shuffles equals, which is no reason to move; a better one that is back is."""
    network = Network()
    network.names["one.example"] = [ONE]
    carriers = await registered(network, REGISTERED)
    network.names["one.example"] = [TWO, ONE]
    await asyncio.sleep(511)
    assert network.requests[network.sent()[-1] - 1][1].remote == ONE
    network.answer(network.sent()[-1], 200)
    network.ranks = {ONE: 20, TWO: 10}
    await asyncio.sleep(511)
    assert network.requests[network.sent()[-1] - 1][1].remote == TWO
    network.answer(network.sent()[-1], 200)
    assert (await carriers.way("one")).flow.remote == TWO
    await stop(network, carriers)


async def test_nat_is_kept_open_and_silence_is_looked_into() -> None:
    """T1.24: OPTIONS over UDP where the carrier sees us elsewhere; no answer brings the refresh forward."""
    network = Network()
    carriers = start(network, REGISTERED)
    await settle()
    seen = ";received=9.9.9.9"
    network.answer(1, 200, seen=seen)
    network.answer(2, 200, seen=seen)
    state = carriers.state("one")
    assert state is not None and state.contact is not None and state.contact.host == "9.9.9.9"
    await asyncio.sleep(28)
    assert len(network.sent("OPTIONS")) == 1
    network.answer(3, 200)
    await asyncio.sleep(28)
    assert len(network.sent("OPTIONS")) == 2
    network.lose(network.sent("OPTIONS")[1])
    await settle()
    assert len(network.sent()) == 3
    await stop(network, carriers)


@pytest.mark.parametrize(
    ("carrier", "hop"),
    [
        (Carrier("a", domain="a.example", transport="tls"), Hop("tls", "a.example", None, "a.example")),
        (Carrier("a", domain="a.example:5070"), Hop("udp", "a.example", 5070, "a.example")),
        (
            Carrier("a", domain="a.example", outbound_proxy="sip:p.example;transport=tls", transport="udp"),
            Hop("tls", "p.example", None, "p.example"),
        ),
        (Carrier("a", domain="a.example", outbound_proxy="p.example:5061"), Hop("udp", "p.example", 5061, "p.example")),
        (Carrier("a", domain="a.example", outbound_proxy="sips:p.example"), Hop("tls", "p.example", None, "p.example")),
    ],
)
async def test_next_hop(carrier: Carrier, hop: Hop) -> None:
    """T1.5, T1.29: the outbound proxy or the domain; the TLS server name is the name before SRV."""
    assert hop_of(carrier) == hop
