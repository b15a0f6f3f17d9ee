"""Transfers: the orders that matter one by one, and every order at random (RFC 5589; docs/calls.md)."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialplan.model import Reason, Refusal
from edge.b2bua import events as ev
from edge.b2bua import transfer, transfers
from edge.b2bua.bridge import BridgeLeg
from edge.b2bua.call import Phase
from edge.b2bua.refer import Replaces
from edge.b2bua.uas_leg import UasLeg
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import request
from tests.unit.b2bua.transfer_world import INVITE, HandRunner, PeerLeg, World, sdp

ANY = Replaces("c", "t", "f")
CANCEL = INVITE.replace("INVITE", "CANCEL")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def blind(world: World, transferor: str = "b1") -> tuple[HandRunner, HandRunner, PeerLeg, PeerLeg]:
    """A call between anna and boris, of whom one has sent REFER: both calls, who remains, and the target."""
    home = world.runners[0] if world.runners else HandRunner(world, "home", sdp("anna")).up("anna", "boris")
    remaining = home.legs["a" if transferor == "b1" else "b1"]
    world.transfer(home, transferor)
    world.settle()
    away = world.runners[-1]
    target = away.legs["b1"]
    assert isinstance(remaining, PeerLeg) and isinstance(target, PeerLeg)
    return home, away, remaining, target


def take(world: World, leg: PeerLeg) -> None:
    """The peer agrees to what it is asked."""
    leg.answer(ev.ModifyAnswered(leg.id, sdp(leg.name, version=2)))
    world.settle()


def part(world: World, leg: PeerLeg) -> None:
    """The peer answers its BYE."""
    for then in leg.parting:
        then()
    world.settle()


def joined(world: World, one: tuple[HandRunner, PeerLeg], other: tuple[HandRunner, PeerLeg]) -> None:
    """Digits and texts of each reach the other, and the end of one ends the other."""
    (_, first), (_, second) = one, other
    first.say(ev.InfoReceived(first.id, "x", b"1"))
    second.say(ev.InfoReceived(second.id, "x", b"2"))
    assert (second.digits, first.digits) == ([b"1"], [b"2"])
    text = ev.Text("text/plain", b"hello")
    first.say(ev.TextReceived(first.id, TransactionId(7), text))
    assert (second.texts, first.text_answers) == ([text], [(7, 200)])
    first.say(ev.Released(first.id, 16))
    assert second.byes == 1
    world.check_ended()


@pytest.mark.parametrize("transferor", ["b1", "a"])
def test_blind(world: World, transferor: str) -> None:
    """100, 180, 200 to the transferor, who is released before the remaining party is asked; then both are one call."""
    home, away, remaining, target = blind(world, transferor)
    leaving = home.legs[transferor]
    assert isinstance(leaving, PeerLeg)
    away.branch(ev.Ringing("b1"))
    away.branch(ev.Ringing("b1"))
    assert world.notified == [100, 180]
    away.branch(ev.Answered("b1", sdp("target")))
    world.settle()
    assert (world.notified, leaving.byes, remaining.asked) == ([100, 180, 200], 1, [])
    part(world, leaving)
    assert remaining.asked == [sdp("target").replace(b"s=-", b"s=home")]
    assert away.media.passive and home.media.deleted == 0
    take(world, remaining)
    assert away in world.marked and home.conversation == away.conversation
    joined(world, (home, remaining), (away, target))


def test_no_answer_to_bye_does_not_stop_it(world: World) -> None:
    """A transferor that is gone without a word only costs half a second."""
    _, away, remaining, _ = blind(world)
    away.branch(ev.Answered("b1", sdp("target")))
    world.settle()
    assert not remaining.asked
    world.wait()
    assert len(remaining.asked) == 1


def test_target_is_offered_what_is_not_held(world: World) -> None:
    """The transferor held first: the target must not be told to hold; the remaining party is taken off hold."""
    home = HandRunner(world, "home", sdp("anna")).up("anna", "boris")
    anna, boris = home.legs["a"], home.legs["b1"]
    assert isinstance(anna, PeerLeg) and isinstance(boris, PeerLeg)
    boris.say(ev.ModifyOffered("b1", sdp("boris", "sendonly", 2)))
    world.settle()
    anna.answer(ev.ModifyAnswered("a", sdp("anna", "recvonly", 2)))
    world.settle()
    assert b"a=recvonly" in boris.told[-1]
    _, away, _, _ = blind(world)
    offer = away.legs["a"]
    assert isinstance(offer, BridgeLeg) and offer.offer is not None
    assert b"recvonly" not in offer.offer and b"s=home" in offer.offer


@pytest.mark.parametrize("status", [486, 480, 603, 404])
def test_target_fails(world: World, status: int) -> None:
    """The transferor hears why, has the call as it was, and may try again."""
    home, away, anna, _ = blind(world)
    boris = home.legs["b1"]
    assert isinstance(boris, PeerLeg)
    away.branch(ev.Rejected("b1", status))
    world.settle()
    assert world.notified == [100, status] and not boris.gone and home.transfer is None
    boris.say(ev.InfoReceived("b1", "x", b"5"))
    assert anna.digits == [b"5"]
    world.notified.clear()
    world.transfer(home, "b1")
    world.settle()
    assert world.notified == [100]


def test_dial_plan_refuses(world: World) -> None:
    """What the transferor may not call is refused by NOTIFY, not by a status that would end the dialog (RFC 5057)."""
    world.refuse = Refusal(Reason.DESTINATION_NOT_ALLOWED)
    home = HandRunner(world, "home", sdp("anna")).up("anna", "boris")
    world.transfer(home, "b1")
    world.settle()
    assert world.notified == [100, 403]
    assert home.call.phase is Phase.UP and len(world.runners) == 1


def test_transferor_leaves_early(world: World) -> None:
    """BYE right after REFER: the remaining party waits, and is joined when the target answers."""
    home, away, anna, target = blind(world)
    boris = home.legs["b1"]
    assert isinstance(boris, PeerLeg)
    boris.say(ev.Released("b1", 16))
    assert not anna.gone and home.call.phase is Phase.UP
    away.branch(ev.Answered("b1", sdp("target")))
    world.settle()
    take(world, anna)
    joined(world, (home, anna), (away, target))


def test_transferor_leaves_early_and_the_target_fails(world: World) -> None:
    """Nobody is left for the remaining party."""
    home, away, anna, _ = blind(world)
    boris = home.legs["b1"]
    assert isinstance(boris, PeerLeg)
    boris.say(ev.Released("b1", 16))
    away.branch(ev.Rejected("b1", 486, 17))
    world.settle()
    assert anna.byes == 1
    world.check_ended()


def test_a_change_that_waited_for_the_transferor_is_refused(world: World) -> None:
    """The remaining party's re-INVITE must not hang when the one who was asked is gone."""
    home = HandRunner(world, "home", sdp("anna")).up("anna", "boris")
    anna, boris = home.legs["a"], home.legs["b1"]
    assert isinstance(anna, PeerLeg) and isinstance(boris, PeerLeg)
    blind(world)
    anna.say(ev.ModifyOffered("a", sdp("anna", "sendonly", 2)))
    world.settle()
    assert boris.asked and anna.owed == 1
    boris.say(ev.Released("b1", 16))
    world.settle()
    assert anna.owed == 0 and home.settled


def test_remaining_party_leaves(world: World) -> None:
    """The target stops ringing, the transferor is released and told."""
    home, away, anna, target = blind(world)
    boris = home.legs["b1"]
    assert isinstance(boris, PeerLeg)
    anna.say(ev.Released("a", 16))
    world.settle()
    assert world.notified[-1] == 487 and boris.byes == 1
    assert away.finished[0].outcome == "cancelled"
    away.branch(ev.Rejected("b1", 487))
    target.gone = True
    world.check_ended()


def test_remaining_party_declines_the_media(world: World) -> None:
    """The transferor is gone by then: both that are left are released, nobody hangs."""
    _, away, anna, target = blind(world)
    away.branch(ev.Answered("b1", sdp("target")))
    world.wait()
    anna.answer(ev.ModifyRefused("a", 488))
    world.settle()
    assert (anna.byes, target.byes) == (1, 1)
    world.check_ended()


def test_glare_with_the_remaining_party_is_repeated(world: World) -> None:
    """491: the offer is made again (RFC 3261 section 14.1)."""
    home, away, anna, target = blind(world)
    away.branch(ev.Answered("b1", sdp("target")))
    world.wait()
    anna.answer(ev.ModifyRefused("a", 491))
    world.settle()
    assert not anna.asked
    world.wait()
    take(world, anna)
    joined(world, (home, anna), (away, target))


def test_who_still_holds_is_heard_of(world: World) -> None:
    """The remaining party answers that it holds: the target is told."""
    home, away, anna, target = blind(world)
    away.branch(ev.Answered("b1", sdp("target")))
    world.wait()
    anna.answer(ev.ModifyAnswered("a", sdp("anna", "sendonly", 3)))
    world.settle()
    assert len(target.asked) == 1 and b"a=sendonly" in (target.asked[0] or b"")
    target.answer(ev.ModifyAnswered("b1", sdp("target", "recvonly", 2)))
    world.settle()
    assert len(anna.asked) == 1 and b"a=recvonly" in (anna.asked[0] or b"")
    anna.answer(ev.ModifyAnswered("a", sdp("anna", "sendonly", 4)))
    world.settle()
    assert not target.asked and home.settled and away.settled


def attended(world: World) -> tuple[HandRunner, HandRunner, PeerLeg, PeerLeg]:
    """Boris is called by anna, calls carla, and joins them: both calls, anna and carla."""
    home = HandRunner(world, "home", sdp("anna")).up("anna", "boris")
    away = HandRunner(world, "away", sdp("boris2")).up("boris2", "carla")
    consultation, carla, anna = away.legs["a"], away.legs["b1"], home.legs["a"]
    assert isinstance(consultation, PeerLeg) and isinstance(carla, PeerLeg) and isinstance(anna, PeerLeg)
    world.found = away, consultation
    world.transfer(home, "b1", ANY)
    world.settle()
    return home, away, anna, carla


def test_attended(world: World) -> None:
    """Carla is offered anna's media over anna's relay session, anna carla's; both calls live until the end."""
    home, away, anna, carla = attended(world)
    assert b"o=anna" in (carla.asked[0] or b"") and b"s=home" in (carla.asked[0] or b"")
    take(world, carla)
    assert world.notified == [100, 200] and len(world.retired) == 2
    world.wait()
    take(world, anna)
    assert away.media.passive and away.media.deleted == 1
    assert not home.finished and not away.finished
    joined(world, (home, anna), (away, carla))


def test_consultation_declines(world: World) -> None:
    """Both calls are as they were, the consultation over its own relay session again."""
    _, away, _, carla = attended(world)
    consultation = world.found[1] if world.found else None
    carla.answer(ev.ModifyRefused("b1", 488))
    world.settle()
    assert world.notified == [100, 488] and not away.media.passive
    assert consultation is not None and away.legs["a"] is consultation
    carla.say(ev.InfoReceived("b1", "x", b"7"))
    assert consultation.digits == [b"7"]


def test_consultation_that_is_joined_already_declines(world: World) -> None:
    """Carla was transferred to by boris and is to be joined once more: her call has no relay session of its own any
    more, also where that comes to nothing."""
    _, away, anna, carla = attended(world)
    take(world, carla)
    world.wait()
    take(world, anna)
    assert away.media.deleted == 1
    other = HandRunner(world, "other", sdp("dora")).up("dora", "emil")
    world.found = away, carla
    world.transfer(other, "b1", ANY)
    world.settle()
    anna.answer(ev.ModifyRefused("a", 488))
    world.settle()
    assert world.notified == [100, 488] and away.media.passive


def test_consulted_party_hangs_up(world: World) -> None:
    """Carla hangs up while she is asked: boris is released there, and has anna as before."""
    home, away, anna, carla = attended(world)
    carla.say(ev.Released("b1", 16))
    world.settle()
    assert world.found is not None and world.found[1].byes == 1
    assert away.finished and home.call.phase is Phase.UP and world.notified == [100, 480]
    boris = home.legs["b1"]
    assert isinstance(boris, PeerLeg)
    boris.say(ev.InfoReceived("b1", "x", b"5"))
    assert anna.digits == [b"5"]


def test_a_conversation_is_not_joined_with_itself(world: World) -> None:
    """Replaces that names the other end of the same conversation: nobody would be left in it."""
    home, away, anna, target = blind(world)
    away.branch(ev.Answered("b1", sdp("target")))
    world.wait()
    take(world, anna)
    world.found = away, target
    world.transfer(home, "a", ANY)
    world.settle()
    assert world.notified == [100, 481]
    joined(world, (home, anna), (away, target))


def test_consultation_is_left_alone_when_the_caller_hangs_up(world: World) -> None:
    """Anna gave up while boris transferred her: boris and carla talk on, over their own media."""
    home, away, anna, carla = attended(world)
    consultation = away.legs["a"]
    anna.say(ev.Released("a", 16))
    world.settle()
    assert home.finished and not away.finished
    take(world, carla)
    world.wait()
    world.wait()
    assert world.found is not None and away.legs["a"] is world.found[1] and consultation is not world.found[1]
    assert carla.asked and b"o=boris2" in (carla.asked[-1] or b"") and b"s=away" in (carla.asked[-1] or b"")


def semi_attended(world: World) -> tuple[HandRunner, HandRunner, PeerLeg, PeerLeg, UasLeg]:
    """Anna talks to boris, who calls carla and joins them while carla's phone rings: both calls, anna, carla, and
    the leg of boris's unanswered INVITE."""
    home = HandRunner(world, "home", sdp("anna")).up("anna", "boris")
    away = HandRunner(world, "away", sdp("boris2"))
    leg = away.ring("boris2")
    anna, carla = home.legs["a"], away.legs["b1"]
    assert isinstance(anna, PeerLeg) and isinstance(carla, PeerLeg)
    world.found = away, leg
    world.transfer(home, "b1", ANY)
    world.settle()
    return home, away, anna, carla, leg


def finals(runner: HandRunner) -> list[int]:
    """Final answers to the INVITE that made a call."""
    return [status for status in runner.port.statuses() if status >= 200]


@pytest.mark.parametrize("gives_up", [False, True])
def test_semi_attended(world: World, gives_up: bool) -> None:
    """Carla's phone rings on, also where boris's phone gives its INVITE up; she gets anna, boris's INVITE 487."""
    home, away, anna, carla, leg = semi_attended(world)
    assert world.notified == [100, 180]
    if gives_up:
        leg.on_cancel(request(CANCEL))
    assert finals(away) == [487] * gives_up and not away.over and not carla.asked
    away.branch(ev.Answered("b1", sdp("carla")))
    world.settle()
    assert b"o=anna" in (carla.asked[0] or b"") and b"s=home" in (carla.asked[0] or b"")
    take(world, carla)
    assert world.notified == [100, 180, 200] and finals(away) == [487]
    if not gives_up:
        assert "cause=200" in (away.port.responses[-1][1].headers.get("reason") or "")
    world.wait()
    take(world, anna)
    joined(world, (home, anna), (away, carla))


def test_semi_attended_and_busy(world: World) -> None:
    """Boris hears it on both ways, and has anna again."""
    home, away, anna, _, leg = semi_attended(world)
    away.branch(ev.Rejected("b1", 486, 17))
    world.settle()
    assert world.notified == [100, 180, 486] and finals(away) == [486] and leg.gone
    boris = home.legs["b1"]
    assert isinstance(boris, PeerLeg)
    boris.say(ev.InfoReceived("b1", "x", b"5"))
    assert anna.digits == [b"5"]


def test_semi_attended_and_the_transferor_leaves(world: World) -> None:
    """BYE and CANCEL right after the REFER, as most phones do; carla answers later."""
    home, away, anna, carla, leg = semi_attended(world)
    boris = home.legs["b1"]
    assert isinstance(boris, PeerLeg)
    leg.on_cancel(request(CANCEL))
    boris.say(ev.Released("b1", 16))
    away.branch(ev.Answered("b1", sdp("carla")))
    world.settle()
    take(world, carla)
    world.wait()
    take(world, anna)
    joined(world, (home, anna), (away, carla))


@pytest.mark.parametrize("gives_up", [False, True])
def test_semi_attended_and_the_caller_leaves(world: World, gives_up: bool) -> None:
    """Carla's phone rings for boris again, if he still waits; else it stops."""
    _, away, anna, carla, leg = semi_attended(world)
    if gives_up:
        leg.on_cancel(request(CANCEL))
    anna.say(ev.Released("a", 16))
    world.settle()
    assert world.notified[-1] == 487
    if gives_up:
        assert away.finished[0].outcome == "cancelled"
        return
    away.branch(ev.Answered("b1", sdp("carla")))
    world.settle()
    assert finals(away) == [200] and not carla.gone


def test_semi_attended_and_the_target_declines_the_media(world: World) -> None:
    """Carla answered boris's call and refuses anna's: she is released, boris keeps anna."""
    home, away, _, carla, _ = semi_attended(world)
    away.branch(ev.Answered("b1", sdp("carla")))
    world.settle()
    carla.answer(ev.ModifyRefused("b1", 488))
    world.settle()
    assert world.notified[-1] == 488 and finals(away) == [480] and carla.byes == 1
    assert away.finished and not home.over


def test_unknown_replaces(world: World) -> None:
    """481, by NOTIFY; the call goes on."""
    home = HandRunner(world, "home", sdp("anna")).up("anna", "boris")
    world.transfer(home, "b1", ANY)
    world.settle()
    assert world.notified == [100, 481] and home.call.phase is Phase.UP and home.transfer is None


def test_transfer_of_a_transfer(world: World) -> None:
    """Who was reached by a transfer transfers on: three calls, two bridges, one conversation, one relay session."""
    home, away, anna, _ = blind(world)
    away.branch(ev.Answered("b1", sdp("target")))
    world.wait()
    take(world, anna)
    world.notified.clear()
    world.transfer(away, "b1")
    world.settle()
    third = world.runners[-1]
    third.branch(ev.Answered("b1", sdp("last")))
    world.wait()
    assert b"o=last" in (anna.asked[0] or b"")
    take(world, anna)
    last = third.legs["b1"]
    assert isinstance(last, PeerLeg)
    joined(world, (home, anna), (third, last))


def test_a_fault_of_ours_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks in a transfer: both calls end, and the transferor is released."""
    world.faults_wanted = True

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setitem(transfers._DO, transfer.Join, broken)
    _, away, _, _ = blind(world)
    away.branch(ev.Answered("b1", sdp("target")))
    world.settle()
    assert [str(error) for error in world.faults] == ["broken"]
    world.check_ended()


# -- every order ------------------------------------------------------------------------------------------------------


def choices(world: World, rng: random.Random) -> list[object]:
    """What may happen now, as functions without arguments."""
    found: list[object] = []
    for leg in world.peers:
        if leg.asked:
            answer: ev.CallEvent = rng.choice(
                [
                    ev.ModifyAnswered(leg.id, sdp(leg.name, rng.choice(["sendrecv", "recvonly"]), rng.randint(2, 99))),
                    ev.ModifyRefused(leg.id, rng.choice([491, 488])),
                ]
            )
            found += [lambda leg=leg, answer=answer: leg.answer(answer)] * 3
        if leg.parting:
            found += [lambda leg=leg: leg.parting.pop()()] * 2
    for runner in world.runners:
        for leg in list(runner.legs.values()):
            if not isinstance(leg, PeerLeg) or leg.gone:
                continue
            if leg.id in runner.calling:
                event = rng.choice(
                    [
                        ev.Ringing(leg.id),
                        ev.Answered(leg.id, sdp(leg.name)),
                        ev.Answered(leg.id, sdp(leg.name)),
                        ev.Rejected(leg.id, rng.choice([486, 503, 487])),
                    ]
                )
                found.append(lambda runner=runner, event=event: runner.branch(event))
            else:
                spoken: ev.CallEvent = rng.choice(
                    [ev.Released(leg.id, 16), ev.InfoReceived(leg.id, "x", b"1"), ev.MediaTimedOut()]
                    if rng.random() < 0.15
                    else [ev.ModifyOffered(leg.id, sdp(leg.name, "sendonly", rng.randint(2, 99)))]
                )
                if not (isinstance(spoken, ev.ModifyOffered) and (leg.owed or leg.asked)):
                    found.append(lambda leg=leg, spoken=spoken: leg.say(spoken))
        if rng.random() < 0.01:
            found.append(lambda runner=runner: runner.post("a", ev.Ended(41, "operator")))
        if not runner.over and runner.transfer is None and not runner.consulted and rng.random() < 0.3:
            candidates = [
                i
                for i, leg in runner.legs.items()
                if isinstance(leg, PeerLeg) and not leg.gone and runner.call.other(i) is not None
            ]
            if candidates and len(world.runners) < 6:
                chosen = rng.choice(candidates)
                found.append(lambda runner=runner, chosen=chosen: refer(world, rng, runner, chosen))
    if world.tasks:
        found += [lambda: world.step(world.tasks.pop(0))] * 6
    timers = [entry for entry in world.timers if entry]
    if timers:
        due = rng.choice(timers)
        found.append(lambda: due.pop()())
    return found


def refer(world: World, rng: random.Random, runner: HandRunner, leg_id: str) -> None:
    """A REFER, blind or with a consultation, which may be unknown."""
    world.refuse = Refusal(Reason.UNKNOWN_NUMBER) if rng.random() < 0.1 else None
    world.found = None
    others = [
        (r, leg)
        for r in world.runners
        for i, leg in r.legs.items()
        if r is not runner
        and not r.over
        and not leg.gone
        and (isinstance(leg, UasLeg) or (isinstance(leg, PeerLeg) and r.call.other(i) is not None))
    ]
    attended_one = rng.random() < 0.5
    if attended_one and others:
        world.found = rng.choice(others)
    world.finals += 1
    world.transfer(runner, leg_id, ANY if attended_one else None)


@settings(max_examples=1200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_promises_hold_in_every_order(seed: int) -> None:
    """Whatever happens to calls that are transferred: each finishes once, no leg is left, each REFER gets one final
    NOTIFY, each 2xx its ACK, and no re-INVITE stays without an answer."""
    with pytest.MonkeyPatch.context() as patch:
        world = World(patch, seed, limit=0.1, phones=2)
        rng = world.rng
        HandRunner(world, "one", sdp("anna")).up("anna", "boris")
        HandRunner(world, "two", sdp("carla")).up("carla", "boris2")
        three = HandRunner(world, "three", sdp("boris3"))
        ringing = three.ring("boris3")
        for _ in range(150):
            what = choices(world, rng)
            if ringing.waits_on is not None and rng.random() < 0.2:
                what.append(lambda: ringing.on_cancel(request(CANCEL)))
            if not what:
                break
            rng.choice(what)()  # type: ignore[operator]
        rest(world)
        world.check_ended()
        assert not [leg.name for leg in world.peers if leg.owed], "a re-INVITE without an answer"
        assert len([s for s in three.port.statuses() if s >= 200]) == 1, "an INVITE without its one answer"
        assert world.finals == world.final_notifies, "a REFER that never heard how it ended"


def rest(world: World) -> None:
    """Peers answer what they are asked and hang up."""
    for _ in range(300):
        if world.tasks:
            world.settle()
            continue
        waiting = [leg for leg in world.peers if leg.asked]
        ringing = [(r, leg) for r in world.runners for leg in list(r.calling)]
        live = [r for r in world.runners if not r.over]
        if waiting:
            waiting[0].answer(ev.ModifyAnswered(waiting[0].id, sdp(waiting[0].name, version=7)))
        elif any(leg.parting for leg in world.peers):
            next(leg for leg in world.peers if leg.parting).parting.pop()()
        elif any(world.timers):
            world.wait()
        elif ringing:
            ringing[0][0].branch(ev.Rejected(ringing[0][1], 487))
        elif live:
            live[0].post("a", ev.Ended(41, "end of the world"))
        else:
            return
    raise AssertionError("the world does not come to rest")
