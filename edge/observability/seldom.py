"""Log lines that anybody may cause, and that an operator wants to read once. Pure."""

from __future__ import annotations

from typing import Final

_EVERY: Final = 60.0
_MOST: Final = 4096


class Seldom:
    """Says yes once a minute for each thing; at most so many things are remembered."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, thing: str, now: float) -> bool:
        """Whether it is time to speak of `thing` again; then the minute begins anew."""
        last = self._last.pop(thing, None)
        if last is not None and now - last < _EVERY:
            self._last[thing] = last
            return False
        if len(self._last) >= _MOST:
            del self._last[next(iter(self._last))]
        self._last[thing] = now
        return True
