"""The index of all bindings: order of contacts, flows that close, expiry."""

from __future__ import annotations

from dataclasses import replace

from edge.registrar.bindings import Accepted, Aor, Binding, Rules, update
from edge.registrar.location import Location
from edge.sip.flow import Flow

from .phones import TCP, TLS, UDP, register

A, B = Aor("seat", "201"), Aor("seat", "202")


def bind(location: Location, aor: Aor, contact: str, flow: Flow, now: float, expires: int = 300) -> Binding:
    request = register(contact, call_id=contact, cseq=int(now) + 1, expires=expires)
    result = update(location.get(aor), aor, request, flow, Rules(), now)
    assert isinstance(result, Accepted)
    location.put(aor, result.bindings)
    return (result.added or result.refreshed)[0]


def uris(bindings: list[Binding]) -> list[str]:
    return [str(b.uri) for b in bindings]


def test_order_is_reachable_then_q_then_newest() -> None:
    """RFC 3261 section 16.6: higher q first; what cannot be reached is tried last, whatever its q."""
    location = Location()
    bind(location, A, "<sip:old@10.0.0.1>;q=0.5", UDP, 0)
    bind(location, A, "<sip:new@10.0.0.1>;q=0.5", UDP, 1)
    bind(location, A, "<sip:best@10.0.0.1>;q=0.9", UDP, 2)
    bind(location, A, "<sip:dead@10.0.0.1>;q=1.0", TCP, 3)
    location.flow_closed(TCP)
    assert uris(location.contacts(A, 10)) == [
        "sip:best@10.0.0.1",
        "sip:new@10.0.0.1",
        "sip:old@10.0.0.1",
        "sip:dead@10.0.0.1",
    ]


def test_closed_connection_takes_its_flow_from_all_its_bindings() -> None:
    """RFC 5626 section 5.3: a flow that failed is not used again; other flows are untouched."""
    location = Location()
    bind(location, A, "<sip:a@10.0.0.1>", TCP, 0)
    bind(location, A, "<sip:b@10.0.0.2>", TLS, 0)
    bind(location, B, "<sip:c@10.0.0.1>", TCP, 0)
    assert {b.aor for b in location.flow_closed(TCP)} == {A, B}
    assert [b.flow for b in location.contacts(A, 1)] == [TLS, None]
    assert not location.contacts(B, 1)[0].reachable
    assert location.at(TCP) == frozenset() and location.at(TLS) == {A}


def test_udp_has_nothing_to_close() -> None:
    """A UDP flow outlives what a socket reports of it."""
    location = Location()
    bind(location, A, "<sip:a@10.0.0.1>", UDP, 0)
    assert location.flow_closed(UDP) == []
    assert location.contacts(A, 1)[0].reachable


def test_a_connection_without_nat_can_be_made_anew() -> None:
    """A contact at its own public address is resolved where its connection is gone."""
    location = Location()
    bind(location, A, "<sip:pbx@198.51.100.7:5060;transport=tcp>", TCP, 0)
    location.flow_closed(TCP)
    (b,) = location.contacts(A, 1)
    assert b.flow is None and b.reachable


def test_expiry() -> None:
    """A binding is not used from its end on, and leaves the index when its time is called; a refresh keeps it."""
    location = Location()
    bind(location, A, "<sip:a@h>", UDP, 0, expires=60)
    bind(location, B, "<sip:b@h>", UDP, 0, expires=60)
    bind(location, B, "<sip:b@h>", UDP, 30, expires=60)
    assert location.next_expiry() == 60
    assert location.contacts(A, 60) == []
    assert uris(location.expire(60)) == ["sip:a@h"]
    assert len(location) == 1 and location.next_expiry() == 90
    assert uris(location.expire(90)) == ["sip:b@h"]
    assert len(location) == 0 and location.next_expiry() is None and location.at(UDP) == frozenset()


def test_refreshes_do_not_pile_up_deadlines() -> None:
    """Memory stays with the bindings, not with the refreshes."""
    location = Location()
    for now in range(1000):
        bind(location, A, "<sip:a@h>", UDP, now)
    assert len(location._heap) < 100
    assert location.expire(999 + 299) == [] and len(location.expire(999 + 300)) == 1


def test_marking_a_binding_that_has_moved_on() -> None:
    """An OPTIONS verdict about a binding that was refreshed meanwhile says nothing of the new one."""
    location = Location()
    old = bind(location, A, "<sip:a@h>", UDP, 0)
    assert location.mark(old, answers=False)
    assert not location.contacts(A, 1)[0].reachable
    bind(location, A, "<sip:a@h>", UDP, 5)
    assert location.contacts(A, 6)[0].reachable
    assert not location.mark(replace(old, answers=False), answers=False)
