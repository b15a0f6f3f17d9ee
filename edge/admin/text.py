"""Text that the admin HTTP and the commands share."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

from edge.observability.printable import printable_json

_AGE = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_age(text: str) -> timedelta:
    """`90s`, `15m`, `2h`, `7d`. ValueError in words."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no length of time: write 90s, 15m, 2h or 7d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def json_text(value: object) -> str:
    """JSON for people and programs: times in ISO 8601."""
    return printable_json(json.dumps(value, default=_jsonable, ensure_ascii=False, indent=1)) + "\n"


def _jsonable(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
