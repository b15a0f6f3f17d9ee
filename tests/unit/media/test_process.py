"""Options of the relay process and its socket files."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from media.relay.process import BadOption, Bind, RelayOptions, clear_stale, parse_arguments


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("192.0.2.1", Bind("192.0.2.1")),
        ("dmz@10.0.0.1=203.0.113.9", Bind("10.0.0.1", "dmz", "203.0.113.9")),
        ("v6@2001:db8::1", Bind("2001:db8::1", "v6")),
    ],
)
def test_binds(text: str, bind: Bind) -> None:
    """[LABEL@]ADDRESS[=ADVERTISED]"""
    assert Bind.parse(text) == bind


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("eth0", "IP addresses"),
        ("0.0.0.0", "one address"),
        ("::", "one address"),
        ("10.0.0.1=2001:db8::1", "other family"),
        ("a b@10.0.0.1", "letters and digits"),
        ("@10.0.0.1", "letters and digits"),
    ],
)
def test_binds_that_cannot_be(text: str, words: str) -> None:
    """The option, the fault and the remedy are named."""
    with pytest.raises(BadOption, match=words):
        Bind.parse(text)


def test_options_survive_the_command_line() -> None:
    """What the child is started with is what was asked for."""
    options = RelayOptions(
        "/run/x", (Bind("10.0.0.1", "dmz", "203.0.113.9"), Bind("::1", "v6")), (3000, 3999), 9, 99, "info", 30
    )
    assert parse_arguments(options.command_line()) == options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (RelayOptions("/s", ports=(80, 9000)), "--ports"),
        (RelayOptions("/s", ports=(9000, 8000)), "--ports"),
        (RelayOptions("/s", ports=(9000, 70000)), "--ports"),
        (RelayOptions("/s", timeout=0), "--timeout"),
        (RelayOptions("/s", bind=(Bind("10.0.0.1"), Bind("10.0.0.2"))), "label of its own"),
        (RelayOptions("/" + "s" * 120), "shorter directory"),
    ],
)
def test_options_that_cannot_be(options: RelayOptions, words: str) -> None:
    """Wrong settings are refused before anything starts."""
    with pytest.raises(BadOption, match=words):
        options.check()


def test_a_stale_socket_is_removed_and_a_live_one_is_not(tmp_path: Path) -> None:
    """A relay that was killed leaves its socket file; two relays at one path are refused."""
    path = tmp_path / "s"
    clear_stale(str(path))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(BadOption, match="another relay answers"):
            clear_stale(str(path))
    assert path.exists()
    clear_stale(str(path))
    assert not path.exists()
