"""The admin HTTP: what operators, Prometheus and load balancers ask."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiohttp import ClientSession

from dialplan.explain import Question
from dialplan.model import SourceKind
from edge.admin.http import AdminHttp, AdminPortTaken
from tests.unit.admin.views import NOON, RECORD, FakeViews

Server = tuple[FakeViews, ClientSession]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port of loopback, and a client for it."""
    views = FakeViews()
    http = AdminHttp(views, "127.0.0.1", 0)
    await http.start()
    async with ClientSession(f"http://127.0.0.1:{http.address[1]}") as client:
        yield views, client
    await http.stop()


async def test_alive_is_not_ready(server: Server) -> None:
    """/healthz says that the process lives; /readyz that it takes calls, and what is missing if not."""
    views, client = server
    views.lacks = ["provisioning not loaded", "relay away"]
    async with client.get("/healthz") as alive, client.get("/readyz") as ready:
        assert alive.status == 200
        assert ready.status == 503
        assert await ready.json() == {"ready": False, "missing": ["provisioning not loaded", "relay away"]}
    views.lacks = []
    async with client.get("/readyz") as ready:
        assert ready.status == 200
        assert await ready.json() == {"ready": True, "missing": []}


async def test_metrics_are_prometheus_text(server: Server) -> None:
    """Prometheus wants its own content type."""
    async with server[1].get("/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await answer.read() == b"sip_edge_live_calls 1.0\n"


async def test_live_views_are_json(server: Server) -> None:
    """Calls, registrations and carriers with all their fields, times in ISO 8601."""
    _, client = server
    async with client.get("/calls") as answer:
        (call,) = await answer.json()
        assert call["id"] == "c1" and call["caller"] == "anonymous"
        assert call["started_at"] == "2026-11-22T11:58:45+00:00"
    async with client.get("/registrations") as answer:
        assert (await answer.json())[0]["flow"] == "udp:10.0.0.5:5060"
    async with client.get("/carriers") as answer:
        assert (await answer.json())[0]["usable"] is True


async def test_traces_by_any_id_as_text_or_capture(server: Server) -> None:
    """A Call-ID may hold a slash; what is not kept is a 404 that says so."""
    _, client = server
    async with client.get("/trace/x%2Fy%40far") as answer:
        assert await answer.text() == "call c1, messages True\n"
    async with client.get("/trace/last?messages=0") as answer:
        assert await answer.text() == "call c1, messages False\n"
    async with client.get("/trace/c1?format=pcap") as answer:
        assert await answer.read() == b"\xd4\xc3\xb2\xa1capture"
        assert answer.content_type == "application/vnd.tcpdump.pcap"
    async with client.get("/trace/nobody") as answer:
        assert answer.status == 404
        assert "no messages are kept of a call 'nobody'" in (await answer.json())["error"]


async def test_why_looks_at_live_calls_first_then_at_records(server: Server) -> None:
    """A support agent asks the same way during a call and after it."""
    views, client = server
    views.records.found["c9"] = RECORD
    async with client.get("/why/c1") as answer:
        live = await answer.json()
        assert (live["table"], live["id"], live["outcome"]) == ("live", "c1", "up")
    async with client.get("/why/c9") as answer:
        assert (await answer.json())["trace"][0]["rule"] == "E10"
    async with client.get("/why/c8") as answer:
        assert answer.status == 404


async def test_explain_asks_about_one_source(server: Server) -> None:
    """Who calls and what is dialled; what is missing, or not provisioned, is said."""
    views, client = server
    async with client.get("/explain", params={"trunk": "K1/hq", "to": "0301", "caller": "+49", "anonymous": "1"}) as ok:
        assert (ok.status, await ok.text()) == (200, "How it was decided\n")
        assert views.question == Question(SourceKind.TRUNK, "K1/hq", "0301", "+49", True)
    for wrong in ({"to": "1"}, {"seat": "a"}, {"seat": "a", "carrier": "b", "to": "1"}):
        async with client.get("/explain", params=wrong) as answer:
            assert answer.status == 400
            assert "one of seat=USERNAME" in (await answer.json())["error"]
    async with client.get("/explain", params={"seat": "nobody", "to": "1"}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "there is no seat nobody")


async def test_refusals_are_asked_for_by_age_number_and_account(server: Server) -> None:
    """At most 7 days back, whatever is asked; bad questions are answered in words."""
    views, client = server
    async with client.get("/refusals", params={"since": "2h", "number": "+4922838600", "limit": "5"}) as answer:
        assert (await answer.json())[0]["reason"] == "number-limit"
    assert views.records.asked == (NOON - timedelta(hours=2), "+4922838600", None, 5)
    async with client.get("/refusals", params={"since": "30d"}) as answer:
        assert answer.status == 200
    assert views.records.asked is not None and views.records.asked[0] == NOON - timedelta(days=7)
    for question, word in (("since=yesterday", "2h"), ("limit=0", "limit"), ("limit=%C2%B2", "limit")):
        async with client.get(f"/refusals?{question}") as answer:
            assert answer.status == 400
            assert word in (await answer.json())["error"]


async def test_a_database_that_is_away_is_said(server: Server) -> None:
    """Live views go on without it; what needs it answers 503 in words."""
    views, client = server
    views.records.away = ConnectionRefusedError("no server")
    async with client.get("/refusals") as answer:
        assert answer.status == 503
        assert "the database does not answer" in (await answer.json())["error"]
    async with client.get("/calls") as answer:
        assert answer.status == 200


async def test_drain_is_an_order_and_not_a_question(server: Server) -> None:
    """POST only."""
    views, client = server
    async with client.get("/drain") as answer:
        assert answer.status == 405
    assert not views.drained
    async with client.post("/drain") as answer:
        assert await answer.json() == {"draining": True, "calls": 1}
    assert views.drained


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example:8080"}, {"Host": "evil.example"}]
)
async def test_web_pages_cannot_use_it(server: Server, headers: dict[str, str]) -> None:
    """A page in an operator's browser can neither read calls (DNS rebinding) nor drain the edge."""
    views, client = server
    async with client.post("/drain", headers=headers) as answer:
        assert answer.status == 403
    async with client.get("/calls", headers=headers) as answer:
        assert answer.status == 403
    assert not views.drained
    async with client.get("/metrics", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("host", ["localhost:8080", "[::1]:8080", "[::1]", "127.0.0.1", "10.0.0.1:80"])
async def test_addresses_may_ask(server: Server, host: str) -> None:
    """Whoever asks by address is an operator's tool."""
    async with server[1].get("/calls", headers={"Host": host}) as answer:
        assert answer.status == 200


async def test_an_unknown_path_is_answered_in_words(server: Server) -> None:
    """404 with the path, no page of a framework."""
    async with server[1].get("/nothing") as answer:
        assert answer.status == 404
        assert await answer.json() == {"error": "GET /nothing: Not Found"}


async def test_a_port_that_is_taken_is_said() -> None:
    """Starting a second edge on the same port names the port and the remedy."""
    first = AdminHttp(FakeViews(), "127.0.0.1", 0)
    await first.start()
    port = first.address[1]
    with pytest.raises(AdminPortTaken, match=rf"127\.0\.0\.1:{port}.*set another admin address"):
        await AdminHttp(FakeViews(), "127.0.0.1", port).start()
    await first.stop()
