"""HTTP for operators and their machines, on loopback: health, metrics, live views, traces.

Nothing here asks for a password: who can reach the address may see calls and traces, so it is bound to loopback unless
the settings say otherwise. Requests that a web page made a browser send are turned away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

from aiohttp import web

from config.away import AWAY
from config.errors import ConfigError
from dialplan.explain import Question
from dialplan.model import SourceKind
from edge.admin.text import json_text, parse_age
from edge.admin.views import AdminViews, CallView, CarrierView, LimitView, RegistrationView

PCAP_TYPE = "application/vnd.tcpdump.pcap"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_VIEWS: Final = web.AppKey("views", AdminViews)
_LARGEST_BODY = 64 << 20
_OPEN = frozenset({"/metrics", "/healthz", "/readyz"})

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminPortTaken(Exception):
    """The address cannot be listened on; the text names it and the remedy."""


class AdminHttp:
    """The admin HTTP server on `host`:`port`."""

    def __init__(self, views: AdminViews, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._runner = web.AppRunner(application(views), access_log=None, shutdown_timeout=2.0)

    async def start(self) -> None:
        """Listen. Raises AdminPortTaken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as e:
            await self._runner.cleanup()
            raise AdminPortTaken(
                f"admin HTTP cannot listen on {self._host}:{self._port}: {e.strerror or e}. "
                "Stop what uses the port or set another admin address"
            ) from e

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens (the port that was given, for port 0)."""
        host, port = self._runner.addresses[0][:2]
        return str(host), int(port)

    async def stop(self) -> None:
        """Close; requests under way are given two seconds."""
        await self._runner.cleanup()


def application(views: AdminViews) -> web.Application:
    """The routes, for a server or a test."""
    app = web.Application(middlewares=[_errors, _no_browsers], client_max_size=_LARGEST_BODY)
    app[_VIEWS] = views
    app.add_routes([
        web.get("/metrics", _metrics),
        web.get("/healthz", _healthz),
        web.get("/readyz", _readyz),
        web.get("/state", _state),
        web.get("/calls", _calls),
        web.get("/limits", _limits),
        web.get("/registrations", _registrations),
        web.get("/carriers", _carriers),
        web.get("/refusals", _refusals),
        web.get("/trace/{key:.+}", _trace),
        web.get("/why/{key:.+}", _why),
        web.get("/explain", _explain),
        web.get("/faxes", _faxes),
        web.post("/faxes", _send_fax),
        web.get("/faxes/{fax}", _fax),
        web.post("/faxes/{fax}/resend", _resend_fax),
        web.get("/bans", _bans),
        web.post("/bans", _add_ban),
        web.post("/bans/lift", _lift_ban),
        web.get("/budgets", _budgets),
        web.post("/budgets/reset", _reset_budget),
        web.post("/drain", _drain),
        web.post("/upgrade", _upgrade),
        web.post("/erase", _erase),
        web.post("/reload", _reload),
    ])  # fmt: skip
    return app


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(text=json_text(value), status=status, content_type="application/json")


def _error(status: int, text: str) -> web.Response:
    return _json({"error": text}, status)


@web.middleware
async def _errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as e:
        return _error(e.status, f"{request.method} {request.path}: {e.reason}")
    except (ValueError, ConfigError) as e:
        return _error(400, str(e))
    except AWAY as e:
        return _error(503, f"the database does not answer ({type(e).__name__}: {e})")


@web.middleware
async def _no_browsers(request: web.Request, handler: _Handler) -> web.StreamResponse:
    # A page from elsewhere can make a browser on this machine send requests (by a name that resolves to 127.0.0.1 it
    # could even read the answers): such requests carry Origin, or a Host that is no address.
    if request.path not in _OPEN:
        host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        if "Origin" in request.headers or not _is_address(host.strip("[]")):
            return _error(403, "ask by address (127.0.0.1) and not from a web page")
    return await handler(request)


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=request.app[_VIEWS].metrics(), headers={"Content-Type": _METRICS_TYPE})


async def _healthz(_request: web.Request) -> web.Response:
    return _json({"alive": True})


async def _readyz(request: web.Request) -> web.Response:
    missing = list(request.app[_VIEWS].missing())
    return _json({"ready": not missing, "missing": missing}, 503 if missing else 200)


async def _state(request: web.Request) -> web.Response:
    return _json({"missing": list(request.app[_VIEWS].missing())})


def _rows(values: Sequence[CallView | RegistrationView | CarrierView | LimitView]) -> list[Mapping[str, object]]:
    return [asdict(v) for v in values]


async def _calls(request: web.Request) -> web.Response:
    return _json(_rows(request.app[_VIEWS].calls()))


async def _registrations(request: web.Request) -> web.Response:
    return _json(_rows(request.app[_VIEWS].registrations()))


async def _carriers(request: web.Request) -> web.Response:
    return _json(_rows(request.app[_VIEWS].carriers()))


async def _limits(request: web.Request) -> web.Response:
    return _json(_rows(request.app[_VIEWS].limits()))


async def _refusals(request: web.Request) -> web.Response:
    views, query = request.app[_VIEWS], request.query
    age = min(parse_age(query.get("since", "7d")), timedelta(days=7))
    limit = query.get("limit", "200")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= 10_000):
        raise ValueError("limit must be a number from 1 to 10000")
    rows = await views.records.refusals(
        views.utc() - age,
        query.get("number"),
        query.get("account"),
        int(limit),
        limits_only=query.get("limits") == "1",
    )
    return _json(rows)


async def _trace(request: web.Request) -> web.Response:
    views, key = request.app[_VIEWS], request.match_info["key"]
    if request.query.get("format") == "pcap":
        capture = views.pcap(key)
        if capture is not None:
            return web.Response(body=capture, content_type=PCAP_TYPE)
    else:
        messages = request.query.get("messages", "1") != "0"
        text = views.ladder(key, messages)
        if text is None and (record := await _on_record(views, key)) is not None:
            text = views.ladder(record, messages)  # on disk calls are found by our id only
        if text is not None:
            return web.Response(text=text)
    return _error(404, f"no messages are kept of a call {key!r}: it is unknown, or too long ago")


async def _on_record(views: AdminViews, key: str) -> str | None:
    try:
        found = await views.records.find(key)
    except AWAY:
        return None
    return str(found["id"]) if found is not None else None


async def _why(request: web.Request) -> web.Response:
    views, key = request.app[_VIEWS], request.match_info["key"]
    live = views.so_far(key)
    if live is not None:
        return _json(live)
    found = await views.records.find(key)
    return _json(found) if found is not None else _error(404, f"no call {key!r} is up, and none is on record")


async def _explain(request: web.Request) -> web.Response:
    query = request.query
    sources = [(kind, query[kind.value]) for kind in SourceKind if kind.value in query]
    if len(sources) != 1 or "to" not in query:
        raise ValueError("ask with to=NUMBER and one of seat=USERNAME, trunk=ACCOUNT/NAME and carrier=NAME")
    ((kind, source),) = sources
    asked = Question(kind, source, query["to"], query.get("caller", ""), query.get("anonymous") == "1")
    return web.Response(text=request.app[_VIEWS].explain(asked))


async def _faxes(request: web.Request) -> web.Response:
    views, query = request.app[_VIEWS], request.query
    since = views.utc() - parse_age(query.get("since", "7d"))
    return _json(await views.faxes.listed(query.get("account"), since, 1000))


async def _fax(request: web.Request) -> web.Response:
    key = request.match_info["fax"]
    found = await request.app[_VIEWS].faxes.shown(key)
    return _json(found) if found is not None else _error(404, f"no fax {key!r} is on record")


async def _resend_fax(request: web.Request) -> web.Response:
    key = request.match_info["fax"]
    if await request.app[_VIEWS].faxes.resend(key):
        return _json({"fax": key, "mail": "queued"})
    return _error(404, f"fax {key!r} has no mail that could go again: unknown, sent by us, or its document was removed")


async def _send_fax(request: web.Request) -> web.Response:
    query = request.query
    if missing := [name for name in ("account", "from", "to") if not query.get(name)]:
        raise ValueError(f"ask with account, from and to, and a PDF as body; missing: {', '.join(missing)}")
    resolution = query.get("resolution", "fine")
    if resolution not in ("standard", "fine", "superfine"):
        raise ValueError("resolution is standard, fine or superfine")
    pdf = await request.read()
    fax = await request.app[_VIEWS].faxes.send(query["account"], query["from"], query["to"], pdf, resolution)
    return _json({"fax": fax})


async def _reload(request: web.Request) -> web.Response:
    changed, restart = await request.app[_VIEWS].reload()
    return _json({"changed": changed, "restart": restart})


async def _erase(request: web.Request) -> web.Response:
    return _json({"gone": await request.app[_VIEWS].erase()})


async def _bans(request: web.Request) -> web.Response:
    listed = request.app[_VIEWS].bans.listed()
    return _json([{"source": b.source, "user": b.user, "until": b.until, "reason": b.reason} for b in listed])


async def _add_ban(request: web.Request) -> web.Response:
    query = request.query
    banned = request.app[_VIEWS].bans.add(query.get("source", ""), parse_age(query.get("for", "1h")))
    return _json({"source": banned})


async def _lift_ban(request: web.Request) -> web.Response:
    query = request.query
    source, user = query.get("source", ""), query.get("user")
    if request.app[_VIEWS].bans.lift(source, user):
        return _json({"source": source, "user": user})
    return _error(404, f"{source} is not banned" + (f" for {user}" if user else "") + ", and nothing is counted")


async def _budgets(request: web.Request) -> web.Response:
    return _json(request.app[_VIEWS].budgets())


async def _reset_budget(request: web.Request) -> web.Response:
    level, key = request.query.get("level", ""), request.query.get("key", "")
    if await request.app[_VIEWS].reset_budget(level, key):
        return _json({"level": level, "key": key})
    return _error(404, f"there is no budget of {level} {key}: levels are account, trunk (ACCOUNT/NAME) and seat")


async def _upgrade(request: web.Request) -> web.Response:
    return _json({"upgrading": True, "calls": request.app[_VIEWS].upgrade()})


async def _drain(request: web.Request) -> web.Response:
    return _json({"draining": True, "calls": request.app[_VIEWS].drain()})
