"""The pure ledger: whole or not at all, given back once, calls per second (domain section 5)."""

from __future__ import annotations

from dialplan.model import ChannelClaim, Reason
from edge.channels.ledger import Ledger, LimitReached

NUMBER = ChannelClaim("number", "+4922838697", "in", 2)
ACCOUNT = ChannelClaim("account", "acme", "total", 3)
TRUNK = (ChannelClaim("trunk", "acme/pbx", "in", None), ChannelClaim("trunk", "acme/pbx", "total", None))
CPS = ChannelClaim("carrier", "telekom", "cps", 2)


def test_third_call_to_two_channels_is_refused_until_one_ends() -> None:
    """T5.3: the third simultaneous call is refused; after a CANCEL the next succeeds."""
    ledger = Ledger()
    assert ledger.admit("a", (NUMBER,), 0) is None
    assert ledger.admit("b", (NUMBER,), 0) is None
    reached = ledger.admit("c", (NUMBER,), 0)
    assert reached == LimitReached("number", "+4922838697", "in", 2, 2)
    assert reached.reason is Reason.NUMBER_LIMIT
    ledger.release("b")
    assert ledger.admit("c", (NUMBER,), 0) is None


def test_all_claims_or_none() -> None:
    """A call that one level refuses holds nothing at the others."""
    ledger = Ledger()
    assert ledger.admit("a", (NUMBER, ACCOUNT._replace(limit=0)), 0) is not None
    assert ledger.used(*NUMBER[:3]) == 0 and ledger.calls == 0


def test_one_row_claimed_twice_counts_twice() -> None:
    """A forwarded call is two calls of its account, however its claims are written."""
    ledger = Ledger()
    twice = (ACCOUNT._replace(limit=1), ACCOUNT._replace(limit=1))
    assert ledger.admit("a", twice, 0) == LimitReached("account", "acme", "total", 1, 1)
    assert ledger.admit("a", (ACCOUNT, ACCOUNT), 0) is None
    assert ledger.used(*ACCOUNT[:3]) == 2


def test_release_twice_gives_back_once() -> None:
    """However a call ends, its channels come back exactly once."""
    ledger = Ledger()
    ledger.admit("a", (NUMBER, ACCOUNT), 0)
    ledger.admit("b", (NUMBER, ACCOUNT), 0)
    assert list(ledger.release("a")) == [NUMBER[:3], ACCOUNT[:3]]
    assert list(ledger.release("a")) == []
    assert ledger.used(*NUMBER[:3]) == ledger.used(*ACCOUNT[:3]) == 1


def test_a_call_takes_more_as_it_goes_on() -> None:
    """What a next route needs on top is held with the rest, and given back with it."""
    ledger = Ledger()
    ledger.admit("a", (ACCOUNT,), 0)
    ledger.admit("a", (ACCOUNT, *TRUNK), 0)
    assert ledger.used(*ACCOUNT[:3]) == 2
    assert set(ledger.leases()) == {("a", *ACCOUNT[:3], 2), *(("a", *claim[:3], 1) for claim in TRUNK)}
    ledger.release("a")
    assert ledger.calls == 0 and ledger.used(*ACCOUNT[:3]) == 0


def test_a_limit_speaks_in_words() -> None:
    """A support agent reads what is full."""
    assert str(LimitReached(*NUMBER[:3], 2, 2)) == "number +4922838697: 2 of 2 channels are in use"
    assert str(LimitReached(*CPS[:3], 5, 5)) == "carrier telekom: 5 of 5 calls began within this second"


def test_a_lower_limit_drops_no_call() -> None:
    """Domain rule 5.10: what is up stays; what is new is refused, and says how many there are."""
    ledger = Ledger()
    for call in "abc":
        ledger.admit(call, (ACCOUNT,), 0)
    assert ledger.admit("d", (ACCOUNT._replace(limit=1),), 0) == LimitReached("account", "acme", "total", 1, 3)
    assert ledger.used(*ACCOUNT[:3]) == 3


def test_calls_per_second() -> None:
    """In no second begin more than `max_cps` calls; ending one does not give its second back; a refusal takes none."""
    ledger = Ledger()
    assert ledger.admit("a", (CPS,), 0.0) is None
    assert ledger.admit("x", (CPS, ACCOUNT._replace(limit=0)), 0.1) is not None
    assert ledger.admit("b", (CPS,), 0.9) is None
    ledger.release("a")
    assert ledger.admit("c", (CPS,), 0.99) == LimitReached("carrier", "telekom", "cps", 2, 2)
    assert ledger.admit("c", (CPS,), 1.0) is None
    assert ledger.admit("d", (CPS,), 1.5) is not None
    assert ledger.admit("d", (CPS,), 1.95) is None
    assert ledger.calls == 0


def test_the_metric_counts_a_call_once_at_each_level() -> None:
    """Table 5.1 as a gauge: in, out and total of a trunk are one channel; an account has a total only."""
    ledger = Ledger()
    ledger.admit("a", (NUMBER, ACCOUNT, *TRUNK), 0)
    assert ledger.by_level() == {"number": 1, "account": 1, "trunk": 1}


def test_nothing_is_claimed_by_an_emergency_call() -> None:
    """T5.8: no claims, no refusal, no count."""
    ledger = Ledger()
    assert ledger.admit("a", (), 0) is None
    assert ledger.calls == 0
