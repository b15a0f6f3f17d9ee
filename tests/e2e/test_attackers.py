"""Attackers against the running edge (domain section 7): they learn nothing, and nobody suffers for them."""

from __future__ import annotations

import itertools
import re
import threading

import pytest
from peers.process import poll
from peers.raw import Raw
from peers.sipvicious import attack
from peers.world import KAMAILIO_ADDRESS, PHONE_ADDRESS, SEATS, SOMEBODY, STATIC_ADDRESS, World, password

pytestmark = pytest.mark.phones

SCANNER, SWEEPER, CRACKER = "127.0.0.50", "127.0.0.51", "127.0.0.52"
PLACES = {
    "alice": "a seat",
    "nobody": "no seat",
    "+4922838601": "a number",
    "+4922838677": "no number",
    "100": "digits",
}
"""Users that are and users that are not: a stranger must not tell them apart."""
METHODS = ("OPTIONS", "INVITE", "REGISTER", "MESSAGE", "SUBSCRIBE", "REFER", "NOTIFY", "PUBLISH", "INFO", "BYE",
           "UPDATE", "PRACK", "FOO")  # fmt: skip


def request(method: str, user: str, raw: Raw, more: str = "", to_tag: str = "") -> str:
    n = f"{method}{user.strip('+')}{to_tag}"
    return (
        f"{method} sip:{user}@edge.example SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.50:{raw.port};branch=z9hG4bK{n};rport\r\n"
        f"From: <sip:{user}@edge.example>;tag=f\r\nTo: <sip:{user}@edge.example>{to_tag}\r\nCall-ID: {n}\r\n"
        f"CSeq: 1 {method}\r\nContact: <sip:x@127.0.0.50:{raw.port}>\r\nMax-Forwards: 70\r\nUser-Agent: Phone 1.0\r\n"
        f"Refer-To: <sip:+4930123456@edge.example>\r\nEvent: presence\r\n{more}Content-Length: 0\r\n\r\n"
    )


def look(answer: str, user: str) -> str:
    """An answer without what differs from one to the next for everybody."""
    for pattern in (r'nonce="[^"]*"', r"branch=[^;\s]*", r";tag=[^;\s]*", r"Call-ID: .*"):
        answer = re.sub(pattern, "", answer)
    return answer.replace(f"sip:{user}@", "sip:USER@")


@pytest.mark.parametrize("method", METHODS)
def test_a_stranger_cannot_tell_users_apart(world: World, method: str) -> None:
    """7.4a, 7.4b: whatever is asked, the answer is the same for who is there and who is not, in a dialog that does not
    exist as outside of one; and nobody is called, subscribed, transferred or written to."""
    with Raw(world.edge.server(), address=SCANNER) as raw:
        for to_tag in ("", ";tag=guessed"):
            looks = {}
            for user in PLACES:
                raw.send(request(method, user, raw, to_tag=to_tag))
                answer = raw.receive()
                assert not answer.startswith("SIP/2.0 2") or method == "OPTIONS", answer
                looks[user] = look(answer, user)
            assert looks["alice"] and len(set(looks.values())) == 1, looks


def test_sipvicious_finds_nothing_and_is_banned(world: World) -> None:
    """Scanned under its own name the edge does not exist. Under a phone's name it says neither who is there nor a
    password: sweeps and guesses bring silence. A phone and a carrier go on meanwhile."""
    edge, folder, mark = world.edge, world.edge.folder, world.edge.mark
    dictionary, passwords = folder / "users.txt", folder / "passwords.txt"
    dictionary.write_text("\n".join([*PLACES, "bobby", "carol", *(str(n) for n in range(200, 260))]) + "\n")
    passwords.write_text("\n".join([*(f"guess{n}" for n in range(30)), password("alice")]) + "\n")
    at = {"server": edge.server(), "folder": folder}
    phone = world.phone("pjsua2", "bobby")

    seen = attack("svmap", address=SCANNER, agent="friendly-scanner", timeout=10, **at)
    assert edge.address not in seen, "svmap under its own name found the edge:\n" + seen

    for method in ("REGISTER", "INVITE", "OPTIONS"):
        seen = attack("svwar", "--force", "-m", method, "-d", str(dictionary), address=SWEEPER, timeout=6, **at)
        assert "reqauth" not in seen and "noauth" not in seen, f"svwar with {method}:\n{seen}"
    # svwar gives up where all are answered alike; a sweep that does not brings a minute of silence
    with Raw(edge.server(), address=SWEEPER) as raw:
        asked = itertools.count(200)

        def banned() -> bool:
            raw.send(request("REGISTER", str(next(asked)), raw))
            raw.receive(0.1)
            return bool(edge.events("alarm.raised", mark))

        poll(banned, "the sweep brings a ban")
        while raw.receive(0.1):
            pass
        raw.send(request("REGISTER", "199", raw))
        assert not raw.receive(0.5)
    assert [event["subject"] for event in edge.events("alarm.raised", mark)] == [SWEEPER]

    seen = attack("svcrack", "-u", "alice", "-d", str(passwords), address=CRACKER, timeout=10, **at)
    assert password("alice") not in seen.replace(str(passwords), ""), "svcrack found the password:\n" + seen
    banned = edge.command("bans", "list").stdout
    assert CRACKER in banned and "wrong passwords" in banned, banned
    counted = edge.metrics()
    assert counted['sip_edge_auth_failures_total{kind="wrong-password"}'] >= 5
    assert counted['sip_edge_guard_drops_total{reason="banned"}'] > 0
    assert counted['sip_edge_guard_drops_total{reason="scanner"}'] > 0

    # the phone and the carrier, while the bans run
    answering = world.carrier_answers("uas_answer")
    phone.dial(SOMEBODY)
    phone.wait_established()
    phone.hangup()
    answering.wait()
    # alice herself is not locked out, wherever she comes from
    world.register("alice", address=PHONE_ADDRESS)
    assert edge.command("bans", "lift", CRACKER).returncode == 0
    world.register("alice", address=CRACKER)


def test_calls_succeed_while_sipvicious_runs(world: World) -> None:
    """4d: svwar and svcrack send as fast as they can, each from an address of its own, and one in the name of a carrier
    that is known by its address. Meanwhile a phone calls out and a carrier calls in; no carrier is ever banned."""
    edge, folder, mark = world.edge, world.edge.folder, world.edge.mark
    passwords, users = folder / "many-passwords.txt", folder / "many-users.txt"
    passwords.write_text("\n".join(f"guess{n}" for n in range(20_000)) + "\n")
    users.write_text("\n".join(str(n) for n in range(20_000)) + "\n")
    phone = world.phone("pjsua2", "bobby")
    over = threading.Event()

    def crack(address: str) -> None:
        to = {"server": edge.server(), "folder": folder / address, "timeout": 4}
        (folder / address).mkdir()
        while not over.is_set():
            attack("svcrack", "-u", "alice", "-d", str(passwords), address=address, **to)

    def sweep(address: str) -> None:
        (folder / address).mkdir()
        to = {"server": edge.server(), "folder": folder / address, "timeout": 4}
        while not over.is_set():
            attack("svwar", "--force", "-m", "REGISTER", "-d", str(users), address=address, **to)

    attackers = [
        threading.Thread(target=how, args=(address,))
        for how, address in ((crack, "127.0.0.53"), (sweep, "127.0.0.54"), (crack, STATIC_ADDRESS))
    ]
    failures = 'sip_edge_auth_failures_total{kind="wrong-password"}'
    before = edge.metrics().get(failures, 0)
    for attacker in attackers:
        attacker.start()
    try:
        poll(lambda: edge.metrics().get(failures, 0) >= before + 10, "the attack is under way", timeout=20)
        answering, at = world.carrier_answers("uas_answer"), phone.mark
        phone.dial(SOMEBODY)
        phone.wait_established(after=at)
        phone.hangup()
        phone.wait_closed(after=at)
        answering.wait()
        at = phone.mark
        calling = world.carrier_calls("uac_until_bye", SEATS["bobby"][1])
        assert SOMEBODY in phone.wait_incoming(after=at)
        phone.answer()
        phone.wait_established(after=at)
        phone.hangup()
        calling.wait()
        world.register("alice", address=PHONE_ADDRESS)
        assert all(attacker.is_alive() for attacker in attackers)
    finally:
        over.set()
        for attacker in attackers:
            attacker.join()
    bans = edge.events("authentication.banned", mark)
    assert "127.0.0.53" in {str(ban["remote"]).split(":")[1] for ban in bans}
    silent = {str(row["source"]) for row in edge.rows("bans") if row["user"] is None}
    assert not silent & {STATIC_ADDRESS, KAMAILIO_ADDRESS, PHONE_ADDRESS}
    refused = edge.command("bans", "add", STATIC_ADDRESS, "--for", "1h")
    assert refused.returncode != 0 and "carrier" in refused.stderr + refused.stdout


def test_a_called_party_that_challenges_gets_no_digest(world: World) -> None:
    """Somebody behind a carrier that has a password of ours challenges our BYE in a realm of its own: the call is over,
    and nothing comes to try passwords on."""
    mark = world.edge.mark
    network = world.network_answers("uas_challenges_bye")
    phone = world.phone("pjsua2", "carol")
    phone.dial(SOMEBODY)
    phone.wait_established()
    phone.hangup()
    phone.wait_closed()
    seen = network.wait()
    (warned,) = edge_warnings(world, mark)
    assert (warned["carrier"], warned["realms"]) == ("network-udp", ["evil.example"])
    assert seen.one("BYE") and "evil.example" not in seen.received_text()


def edge_warnings(world: World, mark: int) -> list[dict[str, object]]:
    """What the edge said of challenges of others, once it did."""
    poll(lambda: bool(world.edge.events("carrier.foreign_challenge", mark)), "the edge saw the challenge")
    return world.edge.events("carrier.foreign_challenge", mark)
