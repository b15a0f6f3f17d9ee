"""The way from a command to the running daemon: its admin HTTP."""

from __future__ import annotations

import json
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from edge.cli.output import CommandError, Row

_TIMEOUT = 10.0
_LONG_TIMEOUT = 320.0


class EdgeAway(CommandError):
    """No daemon answers; the text says where it was looked for and what to do."""


class EdgeClient:
    """Asks the daemon at `url` (`http://127.0.0.1:8080`)."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        # Never through a proxy of the environment: the daemon is on this machine.
        self._opener: OpenerDirector = build_opener(ProxyHandler({}))

    def rows(self, path: str, **query: str | None) -> list[Row]:
        """A list of rows. Raises EdgeAway, CommandError."""
        value = json.loads(self.get(path, "", **query))
        return [row for row in value if isinstance(row, dict)]

    def row(self, path: str, key: str = "", *, post: bool = False, then: str = "") -> Row:
        """One object; `key` is the part of the path that a person typed, `then` what follows it. Raises EdgeAway,
        CommandError."""
        value = json.loads(self._ask(path + quote(key, safe="") + then, post=post))
        if not isinstance(value, dict):
            raise CommandError(f"{self._url} does not speak like a sip-edge")
        return value

    def get(self, path: str, key: str = "", **query: str | None) -> bytes:
        """The body of an answer. Raises EdgeAway, CommandError."""
        asked = {k: v for k, v in query.items() if v is not None}
        return self._ask(path + quote(key, safe="") + (f"?{urlencode(asked)}" if asked else ""))

    def send(self, path: str, body: bytes, **query: str) -> Row:
        """POST `body`, which the daemon may take its time over; one object. Raises EdgeAway, CommandError."""
        value = json.loads(self._ask(f"{path}?{urlencode(query)}", post=True, body=body, timeout=_LONG_TIMEOUT))
        return value if isinstance(value, dict) else {}

    def _ask(self, path: str, *, post: bool = False, body: bytes | None = None, timeout: float = _TIMEOUT) -> bytes:
        request = Request(self._url + path, body, method="POST" if post else "GET")
        if body is not None:
            request.add_header("Content-Type", "application/octet-stream")
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                said: bytes = answer.read()
                return said
        except HTTPError as e:
            with e:
                raise CommandError(_said(e)) from None
        except (URLError, HTTPException, OSError) as e:
            reason = e.reason if isinstance(e, URLError) else e
            raise EdgeAway(
                f"no edge answers at {self._url} ({reason}): start it with `sip-edge run`, or say with --admin where it"
                " is"
            ) from None


def _said(error: HTTPError) -> str:
    try:
        value = json.loads(error.read())
    except ValueError:
        value = None
    return str(value["error"]) if isinstance(value, dict) and "error" in value else f"{error.url}: HTTP {error.code}"
