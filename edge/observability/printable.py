"""Text from strangers for a person's terminal: nothing in it moves the cursor, changes a title or turns the line round.

Log lines need none of this: they are ASCII, with everything else escaped.
"""

from __future__ import annotations

import re

_UNSAFE = r"\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_A_LINE = re.compile(rf"[\x00-\x1f{_UNSAFE}]")
_IN_A_TEXT = re.compile(rf"[\x00-\x08\x0b-\x1f{_UNSAFE}]")
_IN_JSON = re.compile(rf"[{_UNSAFE}]")


def printable(text: str) -> str:
    """A single line: control characters, line breaks, direction marks and bytes that are no UTF-8 as `\\x1b`."""
    return _IN_A_LINE.sub(_escape, text) if not text.isascii() or not text.isprintable() else text


def printable_lines(text: str) -> str:
    """The same for a text that keeps its line ends (LF) and tabs."""
    return _IN_A_TEXT.sub(_escape, text)


def printable_json(text: str) -> str:
    """The same for a JSON document, where every such character stands within a string."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # the byte that it stands for (surrogateescape)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
