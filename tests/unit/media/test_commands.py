"""The command language of RTPProxy, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.relay import rtpproxy_commands as commands
from media.relay.port import RelayError
from media.relay.rtpproxy_commands import Counters, RelayAddress


def test_commands_as_the_engine_reads_them() -> None:
    """One line each; U's first tag and L's second are the side the address came from."""
    made = commands.update("c1", 2, "a", "192.0.2.1", 4000, ipv6=False, notify="fd:7", network="main")
    assert made == "Ul{main} c1 192.0.2.1 4000 a;2 b fd:7 c1/2\n"
    made = commands.update("c1", 0, "b", "::1", 4000, ipv6=True, notify="fd:7", network="v6", fixed=True, timeout=9)
    assert made == "U6al{v6} c1 ::1 4000 b;0 a fd:7 c1/0 && S ttl=9\n"
    made = commands.lookup("c1", 0, "b", "192.0.2.1", 4000, ipv6=False, network="main", timeout=60)
    assert made == "Ll{main} c1 192.0.2.1 4000 a;0 b && S ttl=60\n"
    assert commands.query("c1", 0, "a") == "Q c1 a;0 b npkts_ina npkts_ino nrelayed rtpa_nlost rtpa_javg\n"
    assert commands.delete("c1") == "D c1 a b\n"


@pytest.mark.parametrize(
    ("reply", "given_address"),
    [
        ("23000 127.0.0.1", RelayAddress("127.0.0.1", 23000)),
        ("23000 ::1 6", RelayAddress("::1", 23000)),
        ("23000 127.0.0.1 && 0", RelayAddress("127.0.0.1", 23000)),
        ("0", None),
    ],
)
def test_addresses(reply: str, given_address: RelayAddress | None) -> None:
    """The reply to U and L; 0 is a medium the engine does not know."""
    assert commands.read_address(reply) == given_address


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("E72", "out of ports"),
        ("E31", "no address for that network"),
        ("E98", "no new sessions"),
        ("E1", "refused a command: 'E1'"),
        ("", "refused"),
        ("23000", "no definite address"),
    ],
)
def test_errors_in_words(reply: str, words: str) -> None:
    """What an operator can act on."""
    with pytest.raises(RelayError, match=words):
        commands.read_address(reply)


def test_counters() -> None:
    """Four numbers and the jitter, or a medium that is not known."""
    assert commands.read_counters("4 1 5 2 46.126890") == Counters(4, 1, 5, 2, 46.12689)
    assert commands.read_counters("E50") is None
    assert commands.read_media("7 4", "60") == 2
    assert commands.read_media("7 4", "E50") == 3


@given(st.text(max_size=40))
def test_no_reply_breaks_the_reader(reply: str) -> None:
    """A value or RelayError, whatever comes."""
    for read in (commands.read_address, commands.read_counters):
        try:
            read(reply)
        except RelayError:
            pass
