"""Starting, stopping and provisioning the edge as an operator does, and what is said when something is wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import tones
from peers.certificates import Certificate
from peers.edge import Edge
from peers.fixtures import Peers
from peers.phone import Account, Phone
from peers.pjsua import Pjsua
from peers.process import poll
from peers.raw import Raw

pytestmark = pytest.mark.phones

PASSWORDS = {"annie": "ann-Pass-1", "benno": "ben-Pass-2"}
DOCUMENT: dict[str, object] = {
    "version": 1,
    "accounts": [{"id": "K1", "name": "Example", "country": "DE", "area_code": "228"}],
    "seats": [
        {"username": "annie", "account": "K1", "password": PASSWORDS["annie"], "extension": "201"},
        {"username": "benno", "account": "K1", "password": PASSWORDS["benno"], "extension": "202"},
    ],
}


@pytest.fixture
def edge(folder: Path, certificate: Certificate) -> Iterator[Edge]:
    """An edge of this test alone, not started; whatever still runs of it is ended."""
    made = Edge(folder / "edge", certificate=certificate)
    yield made
    made.discard()


def test_port_that_is_taken(edge: Edge) -> None:
    """A port in use ends the start with a message that names it, at once and not as a traceback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((edge.address, edge.port))
        process = edge.launch()
        assert process.wait(20) != 0
    said = "\n".join(process.output.lines)
    assert str(edge.port) in said
    assert "Traceback" not in said


def test_database_that_is_not_there(edge: Edge) -> None:
    """A database that does not answer is named with its host, without its password."""
    edge.set(database_url="postgresql://edge:Secret-Word@127.0.0.1:1/edge")
    done = edge.command("provision", "export")
    assert done.returncode != 0
    assert "127.0.0.1" in done.stderr
    assert "Secret-Word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"listeners": ["udp:127.0.0.1:notaport"]}, "listeners"),
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"media_ports": "9-5"}, "media_ports"),
        ({"tls_certificate": "/nonexistent.pem", "tls_key": "/nonexistent.key"}, "/nonexistent.pem"),
    ],
)
def test_wrong_settings(edge: Edge, settings: dict[str, object], named: str) -> None:
    """A settings file with an error names the key."""
    edge.set(**settings)
    process = edge.launch()
    assert process.wait(20) != 0
    said = "\n".join(process.output.lines)
    assert named in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("seat", "named"),
    [
        ("{username: annie, account: K9, password: annie-Pass-9}", "K9"),
        ("{username: annie, account: K1, colour: red}", "colour"),
        ("{username: annie, account: K1, extension: '112'}", "extension"),
    ],
    ids=["unknown-account", "unknown-key", "broken-rule"],
)
def test_wrong_document_changes_nothing(edge: Edge, seat: str, named: str) -> None:
    """A provisioning file with an error is refused whole, with file, line and key."""
    edge.start()
    edge.provision(DOCUMENT)
    before = edge.command("provision", "export").stdout
    bad = edge.folder / "bad.yaml"
    bad.write_text(f"version: 1\naccounts:\n  - {{id: K1, name: Changed}}\nseats:\n  - {seat}\n")
    done = edge.command("provision", "apply", str(bad))
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "bad.yaml:5" in said
    assert named in said
    assert "Traceback" not in said
    assert edge.command("provision", "export").stdout == before
    edge.stop()


def test_export_can_be_applied(edge: Edge) -> None:
    """Applying an export changes nothing, and shows no secret."""
    edge.start()
    edge.provision(DOCUMENT)
    exported = edge.command("provision", "export")
    assert exported.returncode == 0
    assert not any(secret in exported.stdout for secret in PASSWORDS.values())
    again = edge.folder / "again.yaml"
    again.write_text(exported.stdout)
    done = edge.command("provision", "apply", str(again))
    assert done.returncode == 0, done.stderr
    assert edge.command("provision", "export").stdout == exported.stdout
    edge.stop()


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_registrations_survive(edge: Edge, peers: Peers, how: str) -> None:
    """After a restart, and after a crash, a phone is called without having registered again; also one that had just
    heard the 200 to its REGISTER."""
    edge.start()
    edge.provision(DOCUMENT)
    ann = peers.phone("baresip", Account("annie", PASSWORDS["annie"], edge.server(), expires=600), tone=440)
    ben = peers.pjsua(Account("benno", PASSWORDS["benno"], edge.server(), expires=600), tone=1010)
    ann.wait_registered()
    ben.wait_registered()
    poll(lambda: edge.metric("sip_edge_registrations") == 2, "both are registered")
    if how == "crash":
        edge.kill()
        edge.start()
    else:
        edge.restart()
    ann.dial("202")
    ben.wait_incoming()
    ben.answer()
    ann.wait_established()
    tones.talk()
    ann.hangup()
    ben.wait_closed()
    peers.stop_phones()
    tones.assert_heard(ben.recording, 440)
    edge.assert_at_rest(0)
    edge.stop()


def call_up(edge: Edge, peers: Peers) -> tuple[Phone, Pjsua]:
    """Start the edge; Annie has called Benno, who answered."""
    edge.start()
    edge.provision(DOCUMENT)
    ann = peers.phone("baresip", Account("annie", PASSWORDS["annie"], edge.server()), tone=440)
    ben = peers.pjsua(Account("benno", PASSWORDS["benno"], edge.server()), tone=1010)
    ann.wait_registered()
    ben.wait_registered()
    ann.dial("202")
    ben.wait_incoming()
    ben.answer()
    ann.wait_established()
    return ann, ben


def test_new_seat_without_a_restart(edge: Edge, peers: Peers) -> None:
    """What is provisioned while the edge runs holds within a second; a live call is not touched."""
    ann, ben = call_up(edge, peers)
    seats = [*DOCUMENT["seats"], {"username": "cindy", "account": "K1", "password": "cindy-Pass-3", "extension": "203"}]  # type: ignore[misc]
    edge.provision({**DOCUMENT, "seats": seats})
    cid = peers.pjsua(Account("cindy", "cindy-Pass-3", edge.server()))
    cid.wait_registered(3)
    assert len(edge.rows("calls")) == 1
    ben.hangup()
    ann.wait_closed()
    peers.stop_phones()
    edge.stop()


def test_stopping_with_a_call_up(edge: Edge, peers: Peers) -> None:
    """SIGTERM ends live calls with a BYE to both sides, and the daemon ends cleanly."""
    ann, ben = call_up(edge, peers)
    ben.wait_established()
    edge.stop()
    ann.wait_closed()
    ben.wait_closed()


def test_draining_with_a_call_up(edge: Edge, peers: Peers) -> None:
    """`sip-edge drain`: new calls get 503 with Retry-After, so does OPTIONS; `/readyz` says so and `/healthz` is well.
    The call that is up goes on, and its end is the daemon's, which nobody needs to end."""
    ann, ben = call_up(edge, peers)
    done = edge.command("drain")
    assert done.returncode == 0 and "1" in done.stdout
    refused = peers.sipp(
        "uac_phone_refused", remote=edge.server(), called="201", caller="benno", username="benno",
        password=PASSWORDS["benno"], challenge=401, status=503,
    ).wait()  # fmt: skip
    assert refused.responses(503)[0].header("Retry-After") == "5"
    with Raw(edge.server()) as border:
        border.send(
            f"OPTIONS sip:{edge.server()} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{border.port};branch=z9hG4bKdrain\r\n"
            f"From: <sip:border@127.0.0.1>;tag=1\r\nTo: <sip:{edge.server()}>\r\nCall-ID: drain\r\nCSeq: 1 OPTIONS\r\n"
            "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
        answer = border.final()
        assert answer is not None and (answer.status, answer.header("Retry-After")) == (503, "5")
    assert edge.get("/healthz")[0] == 200
    status, why = edge.get("/readyz")
    assert (status, "draining" in why) == (503, True)
    tones.talk()
    ann.hangup()
    ben.wait_closed()
    assert edge.process.wait(15) == 0
    peers.stop_phones()
    tones.assert_heard(ben.recording, 440)
