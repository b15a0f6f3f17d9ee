"""A carrier with two outbound proxies, two Kamailios, one of which dies in the middle (domain rule T1.23)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import tones
from peers.certificates import Certificate
from peers.edge import Edge
from peers.fixtures import Peers
from peers.kamailio import Kamailio
from peers.phone import Account, Phone
from peers.ports import take_port
from peers.process import poll

pytestmark = pytest.mark.phones
NUMBER, SOMEBODY = "+4930555101", "+4930123456"
SEATS = {"carol": NUMBER, "david": "+4930555102"}
NETWORK = "127.0.0.22"
PASSWORD = "carol-Pass-7351"


class Pair:
    """The edge, registered with two proxies of one carrier; behind both the same network."""

    def __init__(
        self, folder: Path, certificate: Certificate, peers: Peers, transport: str, deaf: bool = False
    ) -> None:
        """`deaf`: the first proxy answers REGISTER and nothing else."""
        self.peers = peers
        self.transport = transport
        self.network_port = take_port()
        self.first, self.second = (
            peers.kamailio(
                {"account": PASSWORD},
                address=address,
                certificate=certificate,
                numbers={NUMBER: "line"},
                network=f"sip:{NETWORK}:{self.network_port}",
                deaf=deaf and address == "127.0.0.21",
            )
            for address in ("127.0.0.21", "127.0.0.23")
        )
        self.edge = Edge(folder / "edge", certificate=certificate)

    def start(self) -> None:
        """Start the edge and wait until both proxies have taken it."""
        self.edge.start()
        self.edge.provision(self.document())
        poll(lambda: self.states() == ["registered", "registered"], "both proxies have taken us")

    def document(self) -> dict[str, object]:
        proxies = [f"sip:{k.server(self.transport)};transport={self.transport}" for k in (self.first, self.second)]
        carrier = {
            "name": "pair",
            "domain": "carrier.example",
            "outbound_proxy": proxies[0],
            "secondary_proxies": proxies[1:],
            "register_with": "all",
            "username": "line",
            "auth_username": "account",
            "password": PASSWORD,
            "t38": "off",
        }
        return {
            "version": 1,
            "carriers": [carrier],
            "accounts": [{"id": "K1", "status": "active", "area_code": "228", "parallel_calls": 5}],
            "seats": [
                {"username": seat, "account": "K1", "password": PASSWORD, "primary_number": number}
                for seat, number in SEATS.items()
            ],
            "numbers": [
                {"number": number, "account": "K1", "carrier": "pair", "route": {"seat": seat}, "channels": 5}
                for seat, number in SEATS.items()
            ],
        }

    def states(self) -> list[str]:
        row = self.edge.rows("carriers")[0] if self.edge.rows("carriers") else {}
        return [str(proxy["state"]) for proxy in row.get("proxies", [])]  # type: ignore[attr-defined]

    def phone(self, seat: str = "carol") -> Phone:
        account = Account(seat, PASSWORD, self.edge.server(), expires=300)
        phone = self.peers.phone("pjsua2", account, address="127.0.0.31", tone=1750)
        phone.wait_registered()
        return phone

    def comes_in(self, phone: Phone, kamailio: Kamailio) -> None:
        """A call comes in over this proxy, and our BYE leaves over the same (its dialog's flow)."""
        before = {
            k: len(k.trace.requests("BYE", "in")) for k in (self.first, self.second) if k is kamailio or k.running
        }
        mark = phone.mark
        caller = self.peers.sipp(
            "uac_until_bye",
            remote=kamailio.server(),
            address=NETWORK,
            called=NUMBER,
            caller=SOMEBODY,
            host=kamailio.domain,
        )
        phone.wait_incoming(after=mark)
        phone.answer()
        phone.wait_established(after=mark)
        caller.wait_for(status=200)
        phone.hangup()
        caller.wait()
        for each, count in before.items():
            assert len(each.trace.requests("BYE", "in")) == count + (each is kamailio)

    def goes_out(self, phone: Phone, kamailio: Kamailio, hear: bool = False) -> None:
        """A call goes out over this proxy."""
        mark = phone.mark
        network = self.peers.sipp("uas_answer", address=NETWORK, port=self.network_port)
        phone.dial(SOMEBODY)
        phone.wait_established(timeout=20, after=mark)
        if hear:
            tones.talk()
        phone.hangup()
        network.wait()
        poll(lambda: bool(kamailio.trace.requests("BYE", "in")), "the BYE went the way of the INVITE")


@pytest.fixture
def pair(request: pytest.FixtureRequest, folder: Path, certificate: Certificate, peers: Peers) -> Iterator[Pair]:
    transport, _, deaf = request.param.partition("-")
    made = Pair(folder, certificate, peers, transport, bool(deaf))
    try:
        made.start()
        yield made
        if transport == "tls":  # over UDP the edge would wait for answers of the dead
            made.edge.stop()
    finally:
        made.edge.discard()


@pytest.mark.parametrize("pair", ["udp", "tls"], indirect=True)
def test_one_of_two_dies(pair: Pair) -> None:
    """Calls in over both, out over the first; when it dies they go on over the second, and every place says so.

    Over TLS the edge sees the connection go; over UDP the first call finds it out and goes on over the second.
    """
    edge = pair.edge
    phone = pair.phone()
    pair.comes_in(phone, pair.second)
    pair.comes_in(phone, pair.first)
    pair.goes_out(phone, pair.first)

    mark, log = phone.mark, edge.mark
    orphan = pair.peers.sipp("uas_answer", address=NETWORK, port=pair.network_port)
    phone.dial(SOMEBODY)
    phone.wait_established(after=mark)
    pair.first.kill()
    if pair.transport == "tls":
        poll(lambda: pair.states() == ["retrying", "registered"], "the edge knows that the first proxy is gone")
    phone.hangup()
    phone.wait_closed(after=mark)
    orphan.stop()

    pair.goes_out(phone, pair.second)
    pair.comes_in(phone, pair.second)
    pair.goes_out(phone, pair.second, hear=True)
    (row,) = edge.rows("carriers")
    assert row["usable"]
    assert edge.metrics()['sip_edge_carrier_up{carrier="pair"}'] == 1
    if pair.transport == "tls":
        shown = edge.command("carriers").stdout
        assert row["state"] == "registered" and "retrying" in shown and "127.0.0.23" in shown
        assert any(
            'carrier="pair"' in key and 'state="retrying"' in key and "127.0.0.21" in key for key in edge.metrics()
        )
        assert any("connection" in str(e["detail"]) for e in edge.events("carrier.state", log))
    pair.peers.stop_phones()
    tones.assert_heard(phone.recording, 1750)
    poll(lambda: not edge.rows("calls"), "no call is left")
    assert edge.metric("sip_edge_internal_errors_total") == 0


@pytest.mark.parametrize("pair", ["udp-deaf"], indirect=True)
def test_registered_but_deaf(pair: Pair) -> None:
    """The first proxy takes our REGISTER and loses every call: the calls that find it out go on over the second, the
    next ones go there at once, and command, log and metric say deaf rather than registered."""
    edge = pair.edge
    network = pair.peers.sipp("uas_answer", address=NETWORK, port=pair.network_port, calls=3)
    phones = [pair.phone("carol"), pair.phone("david")]
    for phone in phones:
        phone.dial(SOMEBODY)
    for phone in phones:
        phone.wait_established(timeout=20)
        phone.hangup()
    poll(lambda: pair.states() == ["deaf", "registered"], "the first proxy counts as deaf")
    mark = phones[0].mark
    phones[0].dial(SOMEBODY)
    phones[0].wait_established(timeout=5, after=mark)
    phones[0].hangup()
    network.wait()
    assert "deaf" in edge.command("carriers").stdout
    assert any('state="deaf"' in key and "127.0.0.21" in key for key in edge.metrics())
    (row,) = edge.rows("carriers")
    assert row["usable"] and "calls get no answer" in str(row["proxies"])
    assert any("deaf" in str(event["proxies"]) for event in edge.events("carrier.state"))

    # a wrong password is told from an outage, wherever one looks
    document = pair.document()
    (carrier,) = document["carriers"]  # type: ignore[misc]
    alone = {key: value for key, value in carrier.items() if key not in ("secondary_proxies", "register_with")}
    wrong = alone | {"name": "wrong", "outbound_proxy": carrier["secondary_proxies"][0], "password": "another"}
    away = alone | {"name": "away", "outbound_proxy": f"sip:127.0.0.24:{take_port()};transport=tcp"}
    edge.provision(document | {"carriers": [carrier, wrong, away]})
    edge.wait_carrier("wrong", "fault")
    edge.wait_carrier("away", "retrying")
    rows = {str(row["name"]): row for row in edge.rows("carriers")}
    assert "user or password refused" in str(rows["wrong"]["last_answer"])
    assert "Connect" in str(rows["away"]["last_answer"]) or "refused" in str(rows["away"]["last_answer"])
    assert {"fault", "retrying"} <= set(edge.command("carriers").stdout.split())
    states = [key for key in edge.metrics() if key.startswith("sip_edge_carrier_state")]
    assert any('carrier="wrong"' in key and 'state="fault"' in key for key in states)
    assert any('carrier="away"' in key and 'state="retrying"' in key for key in states)
    levels = {str(e["carrier"]): e["level"] for e in edge.events("carrier.state")}
    assert (levels["wrong"], levels["away"]) == ("error", "warning")
