"""RFC 4028 in both roles, and the two waits after requests that crossed (RFC 3261 section 14.1)."""

from __future__ import annotations

import pytest

from edge.b2bua import events as ev
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import FLOW, SDP_A, SDP_B, reply, request
from tests.unit.b2bua.test_legs import IN_DIALOG, A, B

ASKED = "Supported: timer\nSession-Expires: 1800;refresher={}\nAllow: INVITE, ACK, BYE, UPDATE"
CONTACT = "<sip:bob@192.0.2.8>"


def up(extra: str) -> A:
    a = A(extra)
    a.up()
    return a


def answered(**headers: str) -> B:
    b = B()
    b.hear(200, body=SDP_B, Contact=CONTACT, **headers)
    b.leg.ack(None)
    return b


def refresh(a: A, cseq: int, extra: str = "Supported: timer", method: str = "UPDATE") -> None:
    a.leg.on_request(TransactionId(cseq), request(IN_DIALOG.format(method=method, cseq=cseq) + extra), FLOW)


def answer(side: A | B, status: int, **headers: str) -> None:
    """The peer answers what was sent last."""
    tx, sent, handler = side.port.last()
    handler.on_response(tx, reply(sent, status, **headers))


def test_we_refresh_again_and_again() -> None:
    """Section 7.4: each refresh says the interval and the roles as they are, and starts the next one."""
    a = up(ASKED.format("uas"))
    for at in (900, 1800, 2700):
        a.port.advance(at)
        sent = a.port.last()[1]
        assert sent.method == "UPDATE" and len(a.port.requests) == at // 900
        assert sent.headers.get("session-expires") == "1800;refresher=uac"
        answer(a, 200, Session_Expires="1800;refresher=uac")
    assert a.events == []


def test_peer_that_no_longer_speaks_of_the_timer_is_still_refreshed() -> None:
    """A 2xx without Session-Expires must not leave a call without anybody who notices that it died."""
    a = up(ASKED.format("uas"))
    a.port.advance(900)
    answer(a, 200)
    a.port.advance(1800)
    assert a.port.methods() == ["UPDATE", "UPDATE"]
    answer(a, 481)
    assert [type(e) for e in a.events] == [ev.Released]


def test_caller_that_refreshes_is_waited_for() -> None:
    """Section 9: each refresh starts the interval anew, also one that does not say it; without one the call ends."""
    a = up(ASKED.format("uac"))
    a.port.advance(1000)
    refresh(a, 11)
    assert a.port.responses[-1][1].headers.get("session-expires") == "1800;refresher=uac"
    a.port.advance(2760)
    assert a.port.methods() == []
    a.port.advance(2800)
    assert a.port.methods() == ["BYE"]


def test_roles_change_with_a_refresh() -> None:
    """Section 7.4: the peer hands the refreshing over, and takes it back."""
    a = up(ASKED.format("uac"))
    refresh(a, 11, "Supported: timer\nSession-Expires: 600;refresher=uas")
    assert a.port.responses[-1][1].headers.get("session-expires") == "600;refresher=uas"
    a.port.advance(300)
    assert a.port.methods() == ["UPDATE"]
    answer(a, 200, Session_Expires="600;refresher=uas")
    a.port.advance(860)
    assert a.port.methods() == ["UPDATE"]
    a.port.advance(880)
    assert a.port.methods() == ["UPDATE", "BYE"]


def test_reinvite_that_forgets_the_timer_keeps_it() -> None:
    """A hold without Session-Expires and without Supported: we take over the refreshing, and end nobody's call."""
    a = up(ASKED.format("uac"))
    refresh(a, 11, "X: y")
    assert "session-expires" not in a.port.responses[-1][1].headers
    a.port.advance(901)
    assert a.port.methods() == ["UPDATE"]


def test_caller_that_knows_timers_and_asks_for_none_gets_one() -> None:
    """Section 9: so that one who vanishes in mid-call is found. A caller that does not know them is left alone."""
    a = up("Supported: timer\nMin-SE: 2000")
    b = A("Supported: timer\nMin-SE: 2000")
    b.leg.accept(SDP_B)
    assert b.port.responses[-1][1].headers.get("session-expires") == "2000;refresher=uac"
    a.port.advance(2000)
    assert a.port.methods() == ["BYE"]
    old = up("X: y")
    old.port.advance(10_000)
    assert old.port.methods() == []


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_too_brief_inside_a_dialog(method: str) -> None:
    """Section 9: 422 with what is the least."""
    a = up(ASKED.format("uac"))
    refresh(a, 11, "Supported: timer\nSession-Expires: 30", method)
    response = a.port.responses[-1][1]
    assert (response.status, response.headers.get("min-se")) == (422, "90")


@pytest.mark.parametrize("min_se", ["1800", "90", "x"])
def test_422_that_wants_nothing_longer_is_given_up(min_se: str) -> None:
    """A peer that refuses its own interval is not asked in a circle: the next try comes after half a minute."""
    b = answered(Session_Expires="1800;refresher=uac", Allow="UPDATE")
    b.port.advance(900)
    answer(b, 422, Min_SE=min_se)
    assert b.port.methods() == ["INVITE", "UPDATE"]
    b.port.advance(931)
    assert b.port.methods() == ["INVITE", "UPDATE", "UPDATE"]


def test_422_to_a_refresh_is_answered_with_more() -> None:
    """Section 7.3: at once, with the interval that the peer wants; twice it is not tried."""
    b = answered(Session_Expires="1800;refresher=uac", Allow="UPDATE")
    b.port.advance(900)
    answer(b, 422, Min_SE="3600")
    assert b.port.last()[1].headers.get("session-expires") == "3600;refresher=uac"
    answer(b, 200, Session_Expires="3600;refresher=uac")
    b.port.advance(900 + 1799)
    assert b.port.methods() == ["INVITE", "UPDATE", "UPDATE"]
    b.port.advance(900 + 1801)
    assert b.port.methods() == ["INVITE", "UPDATE", "UPDATE", "UPDATE"]


def test_called_side_without_timers_is_left_alone() -> None:
    """Section 7.2: no Session-Expires in the 2xx, no timer."""
    b = answered(Allow="UPDATE")
    b.port.advance(10_000)
    assert b.port.methods() == ["INVITE"]


def test_waits_after_491() -> None:
    """RFC 3261 section 14.1: who made the Call-ID waits 2.1 to 4 s, the other 0 to 2 s; not always the same."""
    a, b = A(), B()
    ours = {b.leg.back_off() for _ in range(200)}
    theirs = {a.leg.back_off() for _ in range(200)}
    assert min(ours) >= 2.1 and max(ours) <= 4.0 and len(ours) > 50
    assert min(theirs) >= 0.0 and max(theirs) <= 2.0 and len(theirs) > 50


@pytest.mark.parametrize(("side", "least", "most"), [("a", 0.0, 2.0), ("b", 2.1, 4.0)])
def test_refresh_that_crossed_comes_again(side: str, least: float, most: float) -> None:
    """RFC 3261 section 14.1: within its window."""
    leg: A | B = (
        up(ASKED.format("uas")) if side == "a" else answered(Session_Expires="1800;refresher=uac", Allow="UPDATE")
    )
    leg.port.advance(900)
    count = len(leg.port.requests)
    answer(leg, 491)
    leg.port.advance(900 + least - 0.01 if least else 900)
    assert len(leg.port.requests) == count
    leg.port.advance(900 + most)
    assert len(leg.port.requests) == count + 1


def test_required_extension_inside_a_dialog() -> None:
    """RFC 3261 section 8.2.2.3: 420 also there; BYE ends the call whatever it requires."""
    a = up("X: y")
    refresh(a, 11, "Require: nothing-that-exists", "INVITE")
    assert a.port.responses[-1][1].status == 420
    assert a.port.responses[-1][1].headers.get("unsupported") == "nothing-that-exists"
    refresh(a, 12, "Require: timer")
    assert a.port.responses[-1][1].status == 200
    refresh(a, 13, "Require: nothing-that-exists", "BYE")
    assert a.port.responses[-1][1].status == 200


def test_modification_asks_for_the_timer_too() -> None:
    """Section 7.4: a hold is a refresh as well."""
    b = answered(Session_Expires="1800;refresher=uas")
    b.leg.modify(SDP_A.replace(b"1 1 IN", b"1 2 IN"), update=False)
    sent: Request = b.port.last()[1]
    assert sent.method == "INVITE" and sent.headers.get("session-expires") == "1800;refresher=uas"
