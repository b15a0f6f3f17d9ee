"""What strangers send never steers the terminal of the person who reads it."""

from __future__ import annotations

import json

import pytest

from edge.admin.text import json_text
from edge.cli.output import text
from edge.observability.ladder import render
from edge.observability.printable import printable, printable_lines
from edge.observability.trace import Tap
from edge.sip.flow import Address, Flow

EVIL = "\x1b]0;owned\x07\x9b2J\u202egnp.exe\u2066\x00\x7f\udcff\r\nHTTP"


@pytest.mark.parametrize(
    "given, shown",
    [
        ("Müller 30 €", "Müller 30 €"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b", "\\x9b"),
        ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
        ("\u202eabc", "\\u202eabc"),
        ("\udcff", "\\xff"),
        ("\x00\x7f", "\\x00\\x7f"),
    ],
)
def test_a_line(given: str, shown: str) -> None:
    assert printable(given) == shown
    assert text(given) == shown, "cells of tables are made so"


def test_lines_keep_their_ends() -> None:
    assert printable_lines("a\n\tb\r\x1b") == "a\n\tb\\x0d\\x1b"


def test_json_stays_json() -> None:
    """The admin HTTP answers with it (a User-Agent that is no UTF-8 must not make it fail), and `--json` prints it."""
    said = json_text({"user_agent": EVIL})
    assert json.loads(said) == {"user_agent": EVIL}
    assert said.encode("utf-8").isascii() and not any(c < 32 and c != 10 for c in said.encode())


def test_a_ladder_is_plain_text() -> None:
    data = (
        b"OPTIONS sip:\x1b]0;x\x07@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nCall-ID: a\r\n"
        b"CSeq: 1 OPTIONS\r\nUser-Agent: \x1b[31mred\xc2\x9b\xff\0\r\nReason: \x1b[2J\r\n\r\n\x1b[2J"
    )
    tap = Tap(1 << 20)
    tap.message("in", data, Flow("udp", Address("192.0.2.1", 5060), Address("198.51.100.7", 5060)), 0.0)
    tap.link("call", "a")
    found = tap.find("call")
    assert found is not None
    shown = render(found, 0.0)
    assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert "\\x1b[31mred" in shown
