"""Carriers with several outbound proxies (T1.23), and carriers that do not hear us, on a virtual clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from config.model import Carrier
from edge.carriers.runner import Carriers
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address, Flow
from edge.transport.errors import ConnectError

from .test_runner import LOCAL, ONE, STATIC, TWO, Network, settle, snapshot, start, stop

pytestmark = pytest.mark.looptime
FIRST, SECOND = "sip:first.example", "sip:second.example;transport=tcp"
PAIR = Carrier(
    "one",
    domain="one.example",
    outbound_proxy=FIRST,
    secondary_proxies=(SECOND,),
    username="acc1",
    password="secret",
)


def network_of_two() -> Network:
    network = Network()
    network.names |= {"first.example": [ONE], "second.example": [TWO]}
    return network


def to(network: Network, address: Address, method: str = "REGISTER") -> list[int]:
    """Numbers of the requests that went there."""
    return [i + 1 for i, (r, f, _) in enumerate(network.requests) if f.remote == address and r.method == method]


def standing(carriers: Carriers) -> list[str]:
    state = carriers.state("one")
    assert state is not None
    return [p.state for p in state.proxies]


async def test_all_are_registered_with_and_told_apart() -> None:
    """Each has a registration of its own: Route, Contact, Call-ID; calls go out over the first, in from both."""
    network = network_of_two()
    carriers = start(network, replace(PAIR, register_with="all"))
    await settle()
    (first,), (second,) = to(network, ONE), to(network, TWO)
    requests = [network.requests[n - 1][0] for n in (first, second)]
    assert [r.headers.get("route") for r in requests] == [
        "<sip:first.example;lr>", "<sip:second.example;transport=tcp;lr>"
    ]  # fmt: skip
    assert len({r.headers.get("call-id") for r in requests}) == 2
    marks = {r.contacts[0].uri.params.get("line") for r in requests}
    assert len(marks) == 2, "a registrar that both share would take one for the other"
    network.answer(first, 200)
    network.answer(second, 200)
    assert standing(carriers) == ["registered", "registered"]
    assert (await carriers.way("one")).flow.remote == ONE
    assert carriers.ways("one") == 2
    for number in (first, second):
        request, flow, _ = network.requests[number - 1]
        assert carriers.registered_over(request, flow) is not None
    await stop(network, carriers)
    for address in (ONE, TWO):
        assert network.requests[to(network, address)[-1] - 1][0].headers.get("expires") == "0"


async def test_a_call_goes_on_over_the_other_proxy() -> None:
    """What was tried is not tried again; with nothing left the reason is said."""
    network = network_of_two()
    carriers = start(network, replace(PAIR, register_with="all"))
    await settle()
    network.answer(to(network, ONE)[0], 200)
    network.answer(to(network, TWO)[0], 200)
    first = await carriers.way("one")
    second = await carriers.way("one", avoid={first.proxy})
    assert (first.proxy, second.proxy) == (FIRST, SECOND)
    assert second.flow.remote == TWO and second.routes == ["<sip:second.example;transport=tcp;lr>"]
    with pytest.raises(ConnectError, match="no other outbound proxy"):
        await carriers.way("one", avoid={FIRST, SECOND})
    await stop(network, carriers)


async def test_second_only_while_the_first_is_away() -> None:
    """`first`: the secondary is registered with when the primary fails, and left once the primary has held."""
    network = network_of_two()
    carriers = start(network, PAIR)
    await settle()
    assert not to(network, TWO)
    network.lose(to(network, ONE)[0])
    await settle()
    network.answer(to(network, TWO)[0], 200)
    assert standing(carriers) == ["retrying", "registered"]
    state = carriers.state("one")
    assert state is not None and state.up and state.state == "registered"
    assert state.detail == "sip:first.example: no answer"
    assert (await carriers.way("one")).flow.remote == TWO

    await asyncio.sleep(31)
    network.answer(to(network, ONE)[1], 200)
    assert standing(carriers) == ["registered", "registered"]
    assert (await carriers.way("one")).flow.remote == ONE, "calls go back at once"
    await asyncio.sleep(61)
    goodbye = to(network, TWO)[-1]
    assert network.requests[goodbye - 1][0].headers.get("expires") == "0"
    network.answer(goodbye, 200)
    assert standing(carriers) == ["registered", "stopped"]
    assert carriers.up() == {"one": True}
    await stop(network, carriers)


async def test_a_refusal_is_not_tried_at_the_next_proxy() -> None:
    """A wrong password is wrong there too, and each try may count towards a lock-out (T1.21)."""
    network = network_of_two()
    carriers = start(network, PAIR)
    await settle()
    network.answer(to(network, ONE)[0], 403)
    await settle()
    assert not to(network, TWO) and standing(carriers) == ["fault", "stopped"]
    await stop(network, carriers)


async def test_refresh_that_fails_begins_with_the_second_before_the_first_runs_out() -> None:
    """Calls go over the one that stands, though the other's registration holds for a while."""
    network = network_of_two()
    carriers = start(network, PAIR)
    await settle()
    network.answer(to(network, ONE)[0], 200)
    await asyncio.sleep(511)
    for _ in range(2):  # the refresh, and the same to the address looked up anew
        network.lose(to(network, ONE)[-1])
        await settle()
    network.answer(to(network, TWO)[0], 200)
    assert standing(carriers) == ["retrying", "registered"]
    assert (await carriers.way("one")).flow.remote == TWO
    await stop(network, carriers)


async def test_static_carriers_are_asked_at_every_proxy() -> None:
    """And calls go to the first that answers."""
    network = network_of_two()
    carriers = start(network, replace(STATIC, name="one", outbound_proxy=FIRST, secondary_proxies=(SECOND,)))
    await asyncio.sleep(6)
    for address in (ONE, TWO):
        network.answer(to(network, address, "OPTIONS")[0], 200)
    for seconds in (63, 22):
        await asyncio.sleep(seconds)
        network.lose(to(network, ONE, "OPTIONS")[-1])
        network.answer(to(network, TWO, "OPTIONS")[-1], 200)
    assert standing(carriers) == ["down", "up"]
    assert (await carriers.way("one")).flow.remote == TWO
    request = network.requests[0][0]
    assert carriers.identify(request, Flow("udp", LOCAL, TWO)) is not None
    await stop(network, carriers)


async def test_changed_proxies_register_anew_and_a_bad_one_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Another list is another registration; other limits are not."""
    network = network_of_two()
    carriers = start(network, replace(PAIR, register_with="all"))
    await settle()
    network.answer(to(network, ONE)[0], 200)
    network.answer(to(network, TWO)[0], 200)
    carriers.apply(snapshot(replace(PAIR, register_with="all", max_calls=3)))
    assert standing(carriers) == ["registered", "registered"]
    assert (await carriers.way("one")).carrier.max_calls == 3
    carriers.apply(snapshot(replace(PAIR, secondary_proxies=())))
    for address in (ONE, TWO):
        network.answer(to(network, address)[-1], 200)
    await settle()
    assert standing(carriers) == ["registering"]
    await stop(network, carriers)


# -- carriers that do not hear us


async def registered(network: Network, *carriers: Carrier) -> Carriers:
    made = start(network, *carriers)
    await settle()
    network.answer(to(network, ONE)[0], 200)
    return made


async def test_registered_but_deaf_to_options() -> None:
    """REGISTER works and OPTIONS get no answer any more: deaf, until one is answered again."""
    network = network_of_two()
    carriers = await registered(network, replace(PAIR, secondary_proxies=()))
    await asyncio.sleep(66)
    network.answer(to(network, ONE, "OPTIONS")[0], 404)
    for seconds in (67, 25):
        await asyncio.sleep(seconds)
        network.lose(to(network, ONE, "OPTIONS")[-1])
        network.answer(to(network, ONE)[-1], 200)  # it is asked to register again, and does
    state = carriers.state("one")
    assert state is not None and (state.state, state.up) == ("deaf", False)
    assert state.detail == "no answer to OPTIONS"
    with pytest.raises(ConnectError, match="no answer to OPTIONS"):
        await carriers.way("one")
    assert (await carriers.way("one", anyway=True)).flow.remote == ONE
    await asyncio.sleep(25)
    network.answer(to(network, ONE, "OPTIONS")[-1], 200)
    assert standing(carriers) == ["registered"] and carriers.up() == {"one": True}
    await stop(network, carriers)


async def test_carrier_that_knows_no_options() -> None:
    """It never answers one, which says nothing: no state, no REGISTER beyond the refresh."""
    network = network_of_two()
    carriers = await registered(network, replace(PAIR, secondary_proxies=()))
    for _ in range(4):
        await asyncio.sleep(67)
        network.lose(to(network, ONE, "OPTIONS")[-1])
        await settle()
    assert len(to(network, ONE)) == 1 and standing(carriers) == ["registered"]
    state = carriers.state("one")
    assert state is not None and state.detail == ""
    await stop(network, carriers)


async def test_registered_but_deaf_to_calls() -> None:
    """Two calls in a row without any answer: no more of them for a while, and twice as long the next time."""
    network = network_of_two()
    carriers = await registered(network, replace(PAIR, secondary_proxies=()))
    flow = (await carriers.way("one")).flow
    carriers.call_unanswered("one", flow)
    carriers.call_answered("one", flow)
    carriers.call_unanswered("one", flow)
    assert standing(carriers) == ["registered"], "one call alone may have been lost"
    carriers.call_unanswered("one", flow)
    state = carriers.state("one")
    assert state is not None and (state.state, state.up, state.detail) == ("deaf", False, "calls get no answer")
    await settle()
    assert len(to(network, ONE)) == 2, "the registration is looked into"
    network.answer(to(network, ONE)[-1], 200)
    assert standing(carriers) == ["deaf"], "which proves nothing for calls"
    await asyncio.sleep(34)
    assert standing(carriers) == ["registered"]
    carriers.call_unanswered("one", flow)
    await asyncio.sleep(50)
    assert standing(carriers) == ["deaf"]
    await asyncio.sleep(20)
    assert standing(carriers) == ["registered"]
    carriers.call_answered("one", flow)
    carriers.call_unanswered("one", flow)
    assert standing(carriers) == ["registered"]
    await stop(network, carriers)


async def test_deaf_primary_brings_the_secondary() -> None:
    """T1.23 with a primary that answers REGISTER alone."""
    network = network_of_two()
    carriers = await registered(network, PAIR)
    flow = (await carriers.way("one")).flow
    for _ in range(2):
        carriers.call_unanswered("one", flow)
    await settle()
    network.answer(to(network, TWO)[0], 200)
    assert standing(carriers) == ["deaf", "registered"]
    assert (await carriers.way("one")).flow.remote == TWO
    await stop(network, carriers)


async def test_static_carrier_deaf_to_calls() -> None:
    """OPTIONS answered, calls not: down for a while."""
    network = network_of_two()
    carriers = start(network, replace(STATIC, name="one", outbound_proxy=FIRST))
    await asyncio.sleep(6)
    network.answer(to(network, ONE, "OPTIONS")[0], 200)
    flow = (await carriers.way("one")).flow
    for _ in range(2):
        carriers.call_unanswered("one", flow)
    assert standing(carriers) == ["down"]
    await asyncio.sleep(34)
    assert standing(carriers) == ["up"]
    await stop(network, carriers)


def test_bad_proxy_is_found() -> None:
    """A secondary that is no URI keeps the whole carrier from starting, rather than failing when it is needed."""
    from edge.carriers.line import hop_of

    with pytest.raises(RemoteProtocolError):
        hop_of(replace(PAIR, outbound_proxy="sip:[::1"))
