"""Another program takes the place of the running one (`sip-edge upgrade`): nobody is to notice."""

from __future__ import annotations

import socket
import ssl

import pytest
from peers import tones
from peers.world import SEATS, World

pytestmark = pytest.mark.phones


def live(world: World) -> list[dict[str, object]]:
    return world.edge.rows("calls")


def upgrade(world: World) -> None:
    """Go over to the program that is installed, and wait until it runs."""
    mark = world.edge.mark
    done = world.edge.command("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    world.edge.process.wait_for("edge.started", 20, after=mark)


def flows(world: World) -> dict[str, str]:
    """Where each phone is reached: over TCP and TLS the address and port of the connection that it opened."""
    return {str(row["name"]): str(row["flow"]) for row in world.edge.rows("registrations")}


def test_phones_over_tcp_and_tls(world: World) -> None:
    """Connections stay: what is up goes on and can be changed, what rings is answered, and phones are called and call
    without having registered again. Twice, since the second upgrade finds TLS connections that the first one kept."""
    alice = world.phone("pjsua2", "alice", "tls", tone=440)
    bob = world.phone("baresip", "bobby", "tcp", tone=1010, address="127.0.0.32")
    carol = world.phone("linphone", "carol", "tls", address="127.0.0.33")
    david = world.phone("pjsua2", "david", "tcp", tone=570, address="127.0.0.34")
    erika = world.phone("baresip", "erika", "tls", tone=1750, address="127.0.0.35")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    bob.wait_established()
    david.dial(SEATS["erika"][0])
    erika.wait_incoming()
    david.wait_ringing()
    before, opened = flows(world), world.edge.metric("sip_edge_connections")
    assert {flow.partition(":")[0] for flow in before.values()} == {"tcp", "tls"} and len(before) == 5
    for time in (1, 2):
        upgrade(world)
        assert flows(world) == before
        assert world.edge.metric("sip_edge_connections") == opened, "a carrier's connection is gone"
        if time == 1:
            erika.answer()
            david.wait_established()
        bob.hold()
        bob.resume()
        alice.hold()
        alice.resume()
        mark = carol.mark
        calling = world.network_calls("uac_until_bye", SEATS["carol"][1])
        carol.wait_incoming(after=mark)
        carol.answer()
        calling.wait_for(method="INVITE", status=200)
        carol.hangup()
        calling.wait()
    tones.talk()
    alice.hangup()
    bob.wait_closed()
    erika.hangup()
    david.wait_closed()
    assert flows(world) == before
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(bob.recording, 440)
    tones.assert_heard(david.recording, 1750)


def test_half_a_message(world: World) -> None:
    """What has come of a message before the upgrade counts: its end comes to the new program, over TCP and TLS, and
    its answer goes back over the same connection."""
    edge = world.edge
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((edge.address, edge.port), timeout=5)
    secured = context.wrap_socket(socket.create_connection((edge.address, edge.tls_port), timeout=5))
    with plain, secured:
        for there, name in ((plain, "TCP"), (secured, "TLS")):
            there.sendall(options(name, 1))
            assert b" 200 OK\r\n" in there.recv(4096)
            there.sendall(options(name, 2)[:50])
        opened = edge.metric("sip_edge_connections")
        upgrade(world)
        assert edge.metric("sip_edge_connections") == opened
        for there, name in ((plain, "TCP"), (secured, "TLS")):
            there.sendall(options(name, 2)[50:] + options(name, 3))
            answers = there.recv(4096)
            while answers.count(b"\r\n\r\n") < 2:
                answers += there.recv(4096)
            assert answers.count(b"SIP/2.0 200 OK\r\n") == 2
            there.sendall(b"\r\n\r\n")
            assert there.recv(10) == b"\r\n"


def options(transport: str, number: int) -> bytes:
    return (
        f"OPTIONS sip:edge.example SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} 127.0.0.1:9;branch=z9hG4bK{transport}{number}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:a@edge.example>;tag=1\r\nTo: <sip:edge.example>\r\n"
        f"Call-ID: half-{transport}\r\nCSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def test_upgrade_with_calls(world: World) -> None:
    """`sip-edge upgrade`: the same process with another program; a call that is up and one that rings go on, an INVITE
    that comes meanwhile waits in the socket and is answered, registrations hold."""
    alice = world.phone("pjsua2", "alice", tone=440)
    bob = world.phone("pjsua2", "bobby", tone=1010, address="127.0.0.32")
    carol = world.phone("baresip", "carol")
    erika = world.phone("baresip", "erika")
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    erika.dial(SEATS["carol"][0])
    carol.wait_incoming()
    erika.wait_ringing()
    pid = world.edge.process.process.pid
    mark = world.edge.mark
    calls = {row["id"] for row in live(world)}
    done = world.edge.command("upgrade")
    assert done.returncode == 0 and "2 calls" in done.stdout, done.stdout + done.stderr
    world.edge.process.wait_for("edge.upgrading", after=mark)
    late = world.carrier_calls("uac_refused", "+4922838677", status=404)
    world.edge.process.wait_for("edge.started", after=mark)
    late.wait()
    assert {row["id"] for row in live(world)} == calls
    assert world.edge.process.process.pid == pid and world.edge.process.running
    carol.answer()
    erika.wait_established()
    erika.hangup()
    carol.wait_closed()
    tones.talk()
    bob.hangup()
    alice.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)


def test_upgrade_to_something_broken(world: World) -> None:
    """Settings that cannot be read: the program that runs goes on, and says why."""
    mark = world.edge.mark
    good = world.edge.config.read_text()
    world.edge.config.write_text(good + "no_such_setting = 1\n")
    try:
        world.edge.command("upgrade", "--admin", f"http://127.0.0.1:{world.edge.admin_port}")
        world.edge.process.wait_for("edge.not_upgraded.*no_such_setting", after=mark)
    finally:
        world.edge.config.write_text(good)
    assert world.edge.ready()
