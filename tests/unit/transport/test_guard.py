"""What is turned away before it is parsed (domain rules 7.3, 7.4, 7.12)."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from edge.transport.guard import Guard, GuardLimits, Verdict

from .shell import wire

DATA = wire()


def test_flood_is_cut_to_the_rate() -> None:
    """7.4d: a token bucket per source; it fills again with time."""
    guard = Guard(GuardLimits(rate=10, burst=20))
    at_once = [guard.admit(DATA, "198.51.100.1", 0.0) for _ in range(30)]
    assert at_once == [Verdict.PASS] * 20 + [Verdict.RATE] * 10
    later = [guard.admit(DATA, "198.51.100.1", 1.0) for _ in range(30)]
    assert later.count(Verdict.PASS) == 10
    assert guard.admit(DATA, "198.51.100.2", 1.0) is Verdict.PASS, "others have their own"


def test_ipv6_is_counted_by_64() -> None:
    """7.4c: a /64 is one source, since one subscriber has all of it."""
    guard = Guard(GuardLimits(rate=1, burst=2))
    verdicts = [guard.admit(DATA, f"2001:db8:0:1::{i:x}", 0.0) for i in range(4)]
    assert verdicts == [Verdict.PASS] * 2 + [Verdict.RATE] * 2
    assert guard.admit(DATA, "2001:db8:0:2::1", 0.0) is Verdict.PASS
    assert guard.source_of("2001:db8:0:1:aaaa::1") == "2001:db8:0:1::/64"


def test_carriers_are_never_limited() -> None:
    """7.4d: exempt networks cannot be starved or banned; what they send is still bounded in size."""
    guard = Guard(GuardLimits(rate=1, burst=1), [ip_network("203.0.113.0/29"), ip_network("2001:db8:5::7/128")])
    guard.ban("203.0.113.1", 100, 0.0)
    for host in ("203.0.113.1", "2001:db8:5::7"):
        assert {guard.admit(DATA, host, 0.0) for _ in range(50)} == {Verdict.PASS}
    assert guard.admit(DATA, "203.0.113.8", 0.0) is Verdict.PASS
    assert guard.admit(DATA, "203.0.113.8", 0.0) is Verdict.RATE
    guard.exempt([])
    assert guard.admit(DATA, "203.0.113.1", 0.0) is Verdict.BANNED, "a carrier that was removed"


def test_rate_is_for_strangers() -> None:
    """7.4d: an office whose phones are registered, or a carrier that we registered with, may send ten times the rate;
    scanners behind its address are dropped all the same, and a ban holds."""
    guard = Guard(GuardLimits(rate=1, burst=3), known={"198.51.100.1"}.__contains__)
    verdicts = [guard.admit(DATA, "198.51.100.1", 0.0) for _ in range(40)]
    assert verdicts == [Verdict.PASS] * 30 + [Verdict.RATE] * 10
    guard = Guard(GuardLimits(rate=1, burst=2), known={"198.51.100.1"}.__contains__)
    assert [guard.admit(DATA, "198.51.100.2", 0.0) for _ in range(3)][2] is Verdict.RATE
    assert guard.admit(wire(more="User-Agent: sipvicious\r\n"), "198.51.100.1", 0.0) is Verdict.SCANNER
    guard.ban("198.51.100.1", 10, 0.0)
    assert guard.admit(DATA, "198.51.100.1", 1.0) is Verdict.BANNED


def test_ban_lasts_as_long_as_it_was_asked_for() -> None:
    """7.4c: whoever saw the failures asks for the ban; connections are turned away too."""
    refused: list[Verdict] = []
    guard = Guard(refused=refused.append)
    guard.ban("198.51.100.1", 900, 10.0)
    guard.ban("198.51.100.1", 5, 10.0)
    assert guard.banned(10.0) == [("198.51.100.1", 900.0, "")]
    assert guard.admit(DATA, "198.51.100.1", 909.0) is Verdict.BANNED
    assert guard.admit_connection("198.51.100.1", 0, 909.0) is Verdict.BANNED
    assert guard.admit(DATA, "198.51.100.1", 910.0) is Verdict.PASS
    assert guard.banned(910.0) == []
    assert refused == [Verdict.BANNED, Verdict.BANNED]


def test_ban_can_be_lifted() -> None:
    """An operator lets a customer back in."""
    guard = Guard()
    guard.ban("198.51.100.1", 900, 0.0)
    assert guard.unban("198.51.100.1")
    assert guard.admit(DATA, "198.51.100.1", 1.0) is Verdict.PASS
    assert not guard.unban("198.51.100.1") and not guard.unban("198.51.100.9")


@pytest.mark.parametrize("agent", ["friendly-scanner", "sipvicious 0.3", "SIPCLI/v1.8", "VaxSIPUserAgent/3.1"])
def test_scanners_are_dropped_and_not_banned(agent: str) -> None:
    """7.3: by User-Agent; no ban, since the source of a datagram may be forged to shut out a customer."""
    guard = Guard()
    data = wire(more=f"User-Agent: {agent}\r\n")
    assert guard.admit(data, "198.51.100.1", 0.0) is Verdict.SCANNER
    assert guard.admit(DATA, "198.51.100.1", 0.0) is Verdict.PASS
    assert guard.admit(wire(more=f"Subject: {agent}\r\n"), "198.51.100.1", 0.0) is Verdict.PASS, "another field"


def test_binary_and_oversized_datagrams_are_dropped() -> None:
    """7.12: neither is worth a parser."""
    guard = Guard(GuardLimits(datagram=4000))
    assert guard.admit(b"\x16\x03\x01" * 20, "198.51.100.1", 0.0) is Verdict.GARBAGE
    assert guard.admit(b"\xff\xfe", "198.51.100.1", 0.0) is Verdict.GARBAGE
    assert guard.admit(DATA + b"x" * 4000, "198.51.100.1", 0.0) is Verdict.OVERSIZED
    for keep_alive in (b"", b"\r\n\r\n", b"\0\0\0\0"):
        assert guard.admit(keep_alive, "198.51.100.1", 0.0) is Verdict.PASS


def test_memory_is_bounded_under_forged_sources_and_bans_survive() -> None:
    """A flood from a million forged addresses costs neither memory nor a ban."""
    guard = Guard()
    guard.ban("198.51.100.1", 900, 0.0)
    for i in range(150_000):
        guard.admit(b"", f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", i / 100_000)
    assert len(guard._sources) <= 65536
    assert guard.admit(DATA, "198.51.100.1", 2.0) is Verdict.BANNED


def test_connections_of_a_source_are_limited() -> None:
    """7.12: open sockets are a resource too."""
    guard = Guard(GuardLimits(connections=3))
    assert guard.admit_connection("198.51.100.1", 2, 0.0) is Verdict.PASS
    assert guard.admit_connection("198.51.100.1", 3, 0.0) is Verdict.CONNECTIONS
    assert guard.admit_connection("198.51.100.2", 0, 0.0, crowded=True) is Verdict.CONNECTIONS
    known = Guard(known=lambda host: True)
    assert known.admit_connection("198.51.100.2", 0, 0.0, crowded=True) is Verdict.PASS, "the last places are theirs"


def test_forged_addresses_share_one_bucket() -> None:
    """7.4d: any number of strangers takes no more than `strangers` messages a second; carriers and known ones go on."""
    guard = Guard(GuardLimits(strangers=100), [ip_network("203.0.113.1/32")], known={"198.51.100.1"}.__contains__)
    verdicts = [guard.admit(DATA, f"10.0.{i >> 8}.{i & 255}", 0.0) for i in range(1000)]
    assert verdicts == [Verdict.PASS] * 100 + [Verdict.FLOOD] * 900
    assert {guard.admit(DATA, host, 0.0) for host in ("203.0.113.1", "198.51.100.1") for _ in range(100)} == {
        Verdict.PASS
    }
    assert guard.admit_stream("192.0.2.9", 400, 0.0) is Verdict.PASS, "each transport has its own"


def test_connections_that_open_and_close() -> None:
    """A source opens no more than its rate, all strangers together no more than theirs."""
    guard = Guard(GuardLimits(connects=10, all_connects=60), known={"198.51.100.1"}.__contains__)
    verdicts = [guard.admit_connection("192.0.2.1", 0, 0.0) for _ in range(70)]
    assert verdicts == [Verdict.PASS] * 50 + [Verdict.RATE] * 20
    others = [guard.admit_connection(f"192.0.2.{i}", 0, 0.0) for i in range(2, 22)]
    assert others == [Verdict.PASS] * 10 + [Verdict.FLOOD] * 10
    assert {guard.admit_connection("198.51.100.1", 0, 0.0) for _ in range(200)} == {Verdict.PASS}


def test_what_comes_over_a_connection_counts() -> None:
    """A thousand requests in one segment are a thousand requests."""
    guard = Guard(GuardLimits(rate=10, burst=20), known={"198.51.100.1"}.__contains__)
    assert guard.admit_stream("192.0.2.1", 60_000, 0.0) is Verdict.RATE
    assert guard.admit_stream("192.0.2.1", 3_000, 0.0) is Verdict.PASS
    assert guard.admit_stream("198.51.100.1", 60_000, 0.0) is Verdict.PASS


def test_silence_to_strangers() -> None:
    """7.4a: where the operator lists the networks of its customers, nobody else hears anything."""
    guard = Guard(None, [ip_network("203.0.113.1/32")], known={"198.51.100.1"}.__contains__,
                  welcome=[ip_network("192.0.2.0/25")])  # fmt: skip
    for host, verdict in (
        ("203.0.113.1", Verdict.PASS), ("198.51.100.1", Verdict.PASS), ("192.0.2.1", Verdict.PASS),
        ("192.0.2.200", Verdict.STRANGER), ("2001:db8::1", Verdict.STRANGER),
    ):  # fmt: skip
        assert guard.admit(DATA, host, 0.0) is verdict
        assert guard.admit_connection(host, 0, 0.0) is verdict


def test_a_ban_closes_connections() -> None:
    """Whoever guesses over a connection loses it; carriers keep theirs."""
    closed: list[str] = []
    guard = Guard(exempt=[ip_network("203.0.113.1/32")])
    guard.on_ban = closed.append
    guard.ban("2001:db8::1", 900, 0.0, "wrong passwords")
    guard.ban("203.0.113.1", 900, 0.0)
    assert closed == ["2001:db8::/64"]
    assert guard.banned(0.0) == [("2001:db8::/64", 900.0, "wrong passwords")]
