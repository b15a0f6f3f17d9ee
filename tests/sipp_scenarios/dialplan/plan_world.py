"""The dial plan on the wire: one edge, a static carrier for each identity profile, a few more, phones and PBXs.

    carriers 127.0.0.51...58 (SIPp)        edge 127.0.0.1        phones 127.0.0.71 (pjsua2), 127.0.0.72 (SIPp)
                                                                 PBXs 127.0.0.73, 127.0.0.74 (SIPp)

German account K1001 has the numbers of the golden headers (tests/unit/dialplan/golden); they belong to the carrier that
`at_home` names. UK account K2001 is that of the truth table (docs and tests/unit/dialplan/test_truth_table.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg
from peers.edge import Edge
from peers.messages import Seen, Trace
from peers.phone import Account
from peers.pjsua import Pjsua
from peers.ports import take_port, take_ports
from peers.process import PeerProcess, poll
from peers.sipp import render

PHONES, SIPP_PHONES, PBX, STATIC_PBX = "127.0.0.71", "127.0.0.72", "127.0.0.73", "127.0.0.74"

PROFILES = ("pai-from", "ppi-account", "pai-presents", "from-network", "static-no-plus")
CARRIERS: dict[str, dict[str, object]] = {
    # as in tests/unit/dialplan/test_golden_headers.py
    "pai-from": {"domain": "tel.t-online.de", "username": "+49199296000001", "identity": "pai-from"},
    "ppi-account": {
        "domain": "sipconnect.sipgate.de", "username": "1234567t0", "identity": "ppi-account", "number_format": "e164",
    },
    "pai-presents": {
        "domain": "nfon.example", "username": "KXXXabcd", "identity": "pai-presents", "number_format": "idd",
    },
    "from-network": {
        "domain": "dt-standard.example", "username": "u4711", "identity": "from-network", "number_format": "national",
    },
    "static-no-plus": {"domain": "simwood.example", "identity": "static-no-plus", "number_format": "e164"},
    "uk": {"domain": "uk.example", "home_country": "GB", "priority": 5},
    "second": {"domain": "second.example", "priority": 20, "clip_no_screening": True},
    "third": {"domain": "third.example", "priority": 30, "clip_no_screening": True},
}  # fmt: skip
ADDRESSES = {name: f"127.0.0.{51 + place}" for place, name in enumerate(CARRIERS)}

OWN, CHOSEN, SITE = "+4922838650", "+4922838651", "+4922838600"
EXTERNAL, CALLER = "+4922129191999", "+4915112345678"
ABROAD, ABROAD_TOO = "+436601234567", "+436607654321"
UK_OWN, UK_23, UK_14, UK_SITE = "+442079460001", "+442088198786", "+442070000014", "+442079460000"
LENT, LENT_TO_SEAT, LENT_TO_PHONE = "+4930777700", "+4930777701", "+4930777702"
HOME_NUMBERS = (OWN, CHOSEN, SITE)


def password(name: str) -> str:
    return f"{name}-Pass-7351"


class Station:
    """SIPp that plays one scenario over and over at an address of its own, and keeps what it saw."""

    def __init__(self, scenario: str, folder: Path, address: str, port: int = 0, **values: object) -> None:
        self.address, self.port = address, port or take_port()
        self._folder = folder
        self._runs = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.process: PeerProcess
        self.play(scenario, **values)

    def play(self, scenario: str, **values: object) -> None:
        """Go on with another scenario."""
        self.stop()
        self._runs += 1
        name = f"{self._runs}-{scenario}"
        xml = self._folder / f"{name}.xml"
        xml.write_text(render(scenario, {"headers": "", "ring_ms": 20, **values}))
        self._messages = self._folder / f"{name}.messages"
        self.process = PeerProcess(
            f"sipp {scenario} at {self.address}",
            [
                "sipp", "127.0.0.1:9", "-sf", str(xml), "-i", self.address, "-p", str(self.port), "-mi", self.address,
                "-mp", str(take_ports(6)), "-cp", str(take_port()), "-t", "u1", "-m", "100000", "-nostdin", "-aa",
                "-trace_msg", "-message_file", str(self._messages), "-max_socket", "1000",
            ],
            self._folder / f"{name}.log",
            cwd=self._folder,
            env={"TERM": "dumb"},
        )  # fmt: skip
        wanted = f":{self.port:04X}"
        poll(
            lambda: any(wanted in line for line in Path("/proc/net/udp").read_text().splitlines()[1:]),
            f"SIPp listens on {self.port}",
            5,
        )

    def stop(self) -> None:
        if hasattr(self, "process"):
            self.process.stop()

    @property
    def mark(self) -> int:
        return self._messages.stat().st_size if self._messages.exists() else 0

    def since(self, mark: int) -> Trace:
        """What was seen after a mark, without OPTIONS."""
        found = Trace()
        if self._messages.exists():
            with self._messages.open("rb") as file:
                file.seek(mark)
                data = file.read()
            for match in _MESSAGE.finditer(data):
                text = data[match.end() : match.end() + int(match.group(2))].decode("utf-8", "replace")
                found.append(Seen("out" if match.group(1) == b"sent" else "in", text))
        return Trace(m for m in found if "OPTIONS" not in m.header("CSeq"))


_MESSAGE = re.compile(rb"^UDP message (sent|received) [(\[](\d+)[^\n]*\n\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Seens:
    """One call as everybody saw it."""

    status: int
    """The final response the caller got."""
    caller: Trace
    """What a carrier or PBX saw that called; empty for phones."""
    stations: Mapping[str, Trace]
    call: str
    """The edge's id of the call."""

    def at(self, name: str) -> Seen:
        """The only INVITE that this station got."""
        return self.stations[name].one("INVITE", "in")

    @property
    def reached(self) -> list[str]:
        """The stations that got an INVITE."""
        return [name for name, trace in self.stations.items() if trace.requests("INVITE", "in")]


class PlanWorld:
    """The edge with everything around it. Calls are made one at a time: what the stations saw meanwhile is theirs."""

    def __init__(self, folder: Path, settings: Mapping[str, object] | None = None) -> None:
        self.folder = folder
        self.edge = Edge(folder / "edge", settings={"register_max_expires": 86400, **(settings or {})}, media_ports=60)
        self.stations: dict[str, Station] = {}
        self.phones: dict[str, Pjsua] = {}
        self.ports = {name: take_port() for name in CARRIERS}
        self._batches = 0

    def start(self, phones: Sequence[str] = ("a.mueller", "j.smith", "d.lent")) -> None:
        for name in CARRIERS:
            self.stations[name] = Station("uas_answer", self.folder / name, ADDRESSES[name], self.ports[name])
        self.edge.start()
        self.edge.provision(document(self))
        self.at_home("pai-from")
        for name in phones:
            account = Account(name, password(name), self.edge.server(), expires=3600)
            self.phones[name] = Pjsua(account, self.folder / name, address=PHONES)
        for phone in self.phones.values():
            phone.wait_registered()

    def stop(self) -> None:
        for phone in self.phones.values():
            phone.stop()
        for station in self.stations.values():
            station.stop()
        self.edge.stop()

    def discard(self) -> None:
        """End whatever is left of it."""
        for peer in (*self.phones.values(), *self.stations.values()):
            peer.stop()
        self.edge.discard()

    def register(
        self, name: str, scenario: str = "uas_answer", *, address: str = SIPP_PHONES, **values: object
    ) -> None:
        """A phone or PBX that registers and plays a scenario; the station has its name."""
        port = take_port()
        self.batch("register", [()], address=address, port=port, username=name, password=password(name), expires=86400)
        self.stations[name] = Station(scenario, self.folder / name, address, port, **values)

    # -- calls -------------------------------------------------------------------------------------------------------

    def dial(self, phone: str, digits: str, headers: Mapping[str, str] | None = None, talk: float = 0.0) -> Seens:
        """A phone dials, and hangs up as soon as somebody answers."""
        who = self.phones[phone]
        marks, mark, logged = self.marks(), who.mark, self.edge.mark
        who.dial(f"sip:{quote(digits, safe='+*')}@{self.edge.server()}", headers)
        if who.wait_for(r"^(ESTABLISHED|CLOSED)", 30, mark).group(1) == "ESTABLISHED":
            who.hangup()
            who.wait_closed(after=mark)
            status = 200
        else:
            status = int(who.wait_closed(after=mark).split()[0])
        return Seens(status, Trace(), self.since(marks), self.call_since(logged))

    def batch(
        self, scenario: str, rows: Sequence[Sequence[str]], *, address: str, port: int = 0, **values: object
    ) -> Trace:
        """SIPp plays a calling scenario once for each row, one after the other; `[field0]` ... are its columns."""
        self._batches += 1
        folder = self.folder / "batches"
        folder.mkdir(exist_ok=True)
        name = f"{self._batches}-{scenario}"
        (folder / f"{name}.csv").write_text("SEQUENTIAL\n" + "".join(";".join(row) + ";\n" for row in rows))
        xml = folder / f"{name}.xml"
        xml.write_text(render(scenario, {"headers": "", "talk_ms": 10, **values}))
        messages, errors = folder / f"{name}.messages", folder / f"{name}.errors"
        process = PeerProcess(
            f"sipp {scenario}",
            [
                "sipp", self.edge.server(), "-sf", str(xml), "-i", address, "-p", str(port or take_port()),
                "-mi", address, "-mp", str(take_ports(6)), "-cp", str(take_port()), "-t", "u1",
                "-inf", str(folder / f"{name}.csv"), "-m", str(len(rows)), "-l", "1", "-r", "200", "-nostdin",
                "-trace_msg", "-message_file", str(messages), "-trace_err", "-error_file", str(errors),
                "-cid_str", "%u-%p-%s", "-timeout", "60s", "-timeout_error",
            ],
            folder / f"{name}.log",
            cwd=folder,
            env={"TERM": "dumb"},
        )  # fmt: skip
        status = process.wait(70)
        process.stop()
        data = messages.read_bytes() if messages.exists() else b""
        found = Trace()
        for match in _MESSAGE.finditer(data):
            text = data[match.end() : match.end() + int(match.group(2))].decode("utf-8", "replace")
            found.append(Seen("out" if match.group(1) == b"sent" else "in", text))
        said = errors.read_text(errors="replace") if errors.exists() else ""
        assert status == 0, f"sipp {scenario} ended with {status}:\n{said[:3000]}\n{found.ladder()}"
        return found

    def come_in(
        self,
        carrier: str,
        called: str,
        *,
        status: int = 200,
        caller: str = CALLER,
        headers: Sequence[str] = (),
        **values: object,
    ) -> Seens:
        """A carrier calls us, and hangs up as soon as somebody answers; `status` is what it must get."""
        marks, logged = self.marks(), self.edge.mark
        scenario = "uac_basic" if status == 200 else "uac_refused"
        trace = self.batch(
            scenario, [()], address=ADDRESSES[carrier], called=called, caller=caller, status=status,
            headers="\n".join(headers), **{"from_host": "far.example", "from_display": "", **values},
        )  # fmt: skip
        return Seens(status, trace, self.since(marks), self.call_since(logged))

    def call_since(self, logged: int, *names: str) -> str:
        """The edge's id of the call that it logged first after this mark of its log, with an event of these names."""
        wanted = names or ("call.offered", "call.refused")
        found: list[str] = []

        def told() -> bool:
            found[:] = [str(e["call"]) for e in self.edge.events(after=logged) if e["event"] in wanted]
            return bool(found)

        poll(told, "the edge has logged the call")
        return found[0]

    def marks(self) -> dict[str, int]:
        """A place in what each station sees."""
        return {name: station.mark for name, station in self.stations.items()}

    def since(self, marks: Mapping[str, int]) -> dict[str, Trace]:
        """What the stations have seen since, once every call is over and everybody has seen its end."""
        poll(lambda: not self.edge.rows("calls"), "no call is left in the edge")
        found: dict[str, Trace] = {}

        def over() -> bool:
            found.update({name: s.since(marks[name]) for name, s in self.stations.items() if name in marks})
            return all(_is_over(trace) for trace in found.values())

        poll(over, "every station that answered has seen the end of the call")
        return found

    # -- provisioning and records -----------------------------------------------------------------------------------

    def sql(self, statement: str, *arguments: object) -> list[dict[str, object]]:
        """A statement on the edge's database."""

        async def run() -> list[dict[str, object]]:
            connection = await asyncpg.connect(f"postgresql://postgres@/postgres?host={self._socket_folder()}")
            try:
                return [dict(row) for row in await connection.fetch(statement, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def change(self, *statements: str) -> None:
        """Change provisioning, and wait until the edge works with it."""
        before = self.edge.metric("sip_edge_snapshot_version")
        self.sql("; ".join(statements)) if len(statements) == 1 else self._all(statements)
        poll(lambda: self.edge.metric("sip_edge_snapshot_version") > before, "the edge has taken the change")

    def _all(self, statements: Sequence[str]) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(f"postgresql://postgres@/postgres?host={self._socket_folder()}")
            try:
                async with connection.transaction():
                    for statement in statements:
                        await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    @contextmanager
    def changed(self, table: str, key: str, value: str, **columns: object) -> Iterator[None]:
        """One row otherwise, for a while."""
        names = ", ".join(columns)
        before = self.sql(f"SELECT {names} FROM sip_edge.{table} WHERE {key} = $1", value)[0]
        self.change(_update(table, key, value, columns))
        try:
            yield
        finally:
            self.change(_update(table, key, value, before))

    def at_home(self, carrier: str) -> None:
        """Make this carrier the one that has the German numbers, and that alone shows numbers of others."""
        numbers = ", ".join(f"'{n}'" for n in HOME_NUMBERS)
        names = ", ".join(f"'{n}'" for n in PROFILES)
        self.change(
            f"UPDATE sip_edge.carriers SET clip_no_screening = name = '{carrier}' WHERE name IN ({names})",
            f"UPDATE sip_edge.numbers SET carrier = '{carrier}' WHERE number IN ({numbers})",
        )

    def stop_database(self) -> None:
        """The database is gone, as after a crash."""
        pid = self.edge.data / "database/postmaster.pid"
        os.kill(int(pid.read_text().split()[0]), signal.SIGINT)
        poll(lambda: not pid.exists(), "the database has ended")

    def _socket_folder(self) -> str:
        return (self.edge.data / "database/postmaster.pid").read_text().splitlines()[4]

    def record(self, call: str) -> dict[str, object]:
        """The record of a call by the edge's id, once it is written."""
        found: list[dict[str, object]] = []

        def written() -> bool:
            status, body = self.edge.get(f"/why/{call}")
            found[:] = [json.loads(body)] if status == 200 else []
            return bool(found) and found[0]["table"] == "call_records"

        poll(written, f"the record of call {call} is written")
        return found[0]


def _is_over(trace: Trace) -> bool:
    answered = {m.header("Call-ID") for m in trace.responses(200, "INVITE", "out")}
    return answered <= {m.header("Call-ID") for m in trace.requests("BYE", "in")}


def _update(table: str, key: str, value: str, columns: Mapping[str, object]) -> str:
    sets = ", ".join(f"{name} = {_literal(v)}" for name, v in columns.items())
    return f"UPDATE sip_edge.{table} SET {sets} WHERE {key} = {_literal(value)}"


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "'{" + ",".join(str(v) for v in value) + "}'"
    return "'" + str(value).replace("'", "''") + "'"


def document(world: PlanWorld) -> dict[str, object]:
    """The provisioning document."""
    carriers = [
        {
            "name": name,
            "mode": "static",
            "outbound_proxy": f"sip:{ADDRESSES[name]}:{world.ports[name]};transport=udp",
            "sources": [ADDRESSES[name]],
            "t38": "off",
            **values,
        }
        for name, values in CARRIERS.items()
    ]

    def number(digits: str, route: object, account: str = "K1001", carrier: str = "second", **more: object) -> object:
        return {"number": digits, "account": account, "carrier": carrier, "route": route, "channels": 4, **more}

    def seat(username: str, account: str = "K1001", **more: object) -> object:
        return {"username": username, "account": account, "password": password(username), **more}

    return {
        "version": 1,
        "carriers": carriers,
        "accounts": [
            {
                "id": "K1001", "name": "Beispiel GmbH", "country": "DE", "area_code": "228", "parallel_calls": 30,
                "emergency_number": SITE, "allowed_destinations": ["+49", "+43", "+44", "+33"],
            },
            {
                "id": "K2001", "name": "Example Ltd", "country": "GB", "time_zone": "Europe/London", "area_code": "20",
                "parallel_calls": 10, "emergency_number": UK_SITE, "allowed_destinations": ["*"],
            },
            {"id": "K3001", "name": "Verleiher AG", "country": "DE", "emergency_number": LENT},
        ],
        "external_numbers": [{"number": EXTERNAL, "account": "K1001", "status": "verified", "method": "call",
                              "verified_at": "2026-11-20T10:00:00Z"}],
        "trunks": [
            {
                "name": "hq", "account": "K1001", "username": "hq-k1001", "password": password("hq-k1001"),
                "default_number": SITE, "parallel_calls": 3, "clip_no_screening": True,
            },
            {
                "name": "office", "account": "K2001", "mode": "static", "sources": [STATIC_PBX],
                "default_number": UK_OWN,
            },
        ],
        "seats": [
            seat("a.mueller", name="Anna Mueller", extension="201", primary_number=OWN, external_numbers=[EXTERNAL]),
            seat("b.schmidt", name="Bernd Schmidt", extension="202", primary_number=CHOSEN),
            seat("desk.one", extension="203"),
            seat("desk.busy", extension="204"),
            seat("desk.slow", extension="205"),
            seat("desk.away", extension="206"),
            seat("desk.shy", extension="207", reject_anonymous=True),
            seat("c.lent", extension="208", primary_number=LENT_TO_SEAT),
            seat("d.lent", extension="209", primary_number=LENT_TO_PHONE),
            seat("j.smith", "K2001", name="John Smith", extension="201", primary_number=UK_OWN),
            seat("a.jones", "K2001", name="Alice Jones", extension="231", primary_number=UK_23),
        ],
        "blocks": [
            {
                "prefix": "+49228777", "digits": 2, "account": "K1001", "carrier": "second", "channels": 2,
                "ranges": [
                    {"prefix": "+492287770", "route": {"trunk": "hq"}},
                    {"prefix": "+4922877720", "route": {"seat": "desk.one"}, "channels": 1},
                    {"prefix": "+492287771", "route": {"trunk": "hq"}, "status": "pending"},
                ],
            },
        ],
        "numbers": [
            number(SITE, {"trunk": "hq"}, carrier="pai-from"),
            number(OWN, {"seat": "a.mueller"}, carrier="pai-from"),
            number(CHOSEN, {"seat": "b.schmidt"}, carrier="pai-from", cli_prefix="23"),
            number(UK_OWN, {"seat": "j.smith"}, "K2001", "uk"),
            number(UK_SITE, {"seat": "j.smith"}, "K2001", "uk"),
            number(UK_23, {"seat": "a.jones"}, "K2001", "uk", cli_prefix="23"),
            number(UK_14, {"seat": "a.jones"}, "K2001", "uk", cli_prefix="14"),
            number("+4930777100", {"seat": "desk.one"}),
            number("+4930777101", {"extension": "203"}),
            number("+4930777102", {"reject": 410}),
            number("+4930777103", {"seat": "desk.one"}, status="pending"),
            number("+4930777104", {"seat": "desk.one"}, status="cancelled"),
            number("+4930777105", {"seat": "desk.one"}, valid_from="2040-01-01"),
            number("+4930777106", "none"),
            number("+4930777107", {"forward": ABROAD}),
            number("+4930777108", {"seat": "desk.shy"}),
            number("+4930777109", {"seat": "desk.away"}),
            number("+4930777110", {"seat": "desk.busy"}, on_busy={"seat": "desk.one"}),
            number("+4930777111", {"seat": "desk.slow"}, on_no_answer={"seat": "desk.one"}, no_answer_after=1),
            number("+4930777112", {"seat": "desk.away"}, on_unreachable={"forward": ABROAD}),
            number("+4930777113", {"seat": "desk.slow"}, channels=1, on_limit={"seat": "desk.one"}),
            number("+4930777114", {"seat": "desk.busy"}, on_busy={"reject": 480}),
            number("+4930777115", {"seat": "desk.busy"}, on_busy={"seat": "desk.away"},
                   on_unreachable={"seat": "desk.busy"}),
            number("+4930777116", {"seat": "desk.slow"}, channels=2),
            number("+4930777117", {"seat": "desk.slow"}, channels=1, on_limit={"reject": 480}),
            number("+4930777118", {"forward": "+4930777107"}),
            number(LENT, {"trunk": "hq"}, "K3001", served_account="K1001"),
            number(LENT_TO_SEAT, {"seat": "c.lent"}, "K3001", served_account="K1001"),
            number(LENT_TO_PHONE, {"seat": "d.lent"}, "K3001", served_account="K1001"),
        ],
    }  # fmt: skip
