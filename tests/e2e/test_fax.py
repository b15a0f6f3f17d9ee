"""Faxes through the running daemon, over real SIP, with spandsp as the far end and a mail server that keeps all.

All ways of agreeing on T.38, or not, run at the same time, as they would on a busy edge (domain rules 4.1, 4.2).
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pypdfium2
import pytest
from peers import fax_flows
from peers.fax_machine import FaxCall, Manner, ended
from peers.fax_world import (
    BOX,
    CALLER,
    CARELESS_BOX,
    DEAD,
    DIFFICULT,
    EXTENSION,
    FORWARDED,
    GATE_BOX,
    LOCKED,
    PASSWORD,
    PBX,
    PICTURES,
    SECRETIVE,
    SHY,
    Far,
    World,
    far_side,
    pages,
)
from peers.fixtures import artifacts, keep
from peers.process import poll
from PIL import Image

from media.fax.document import render_for_fax
from tests.unit.media.fax.rig import picture, received, same, tiff

pytestmark = [pytest.mark.phones, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The edge, for this module."""
    with artifacts(request) as folder:
        world = World(folder)
        try:
            yield world
            world.edge.stop()
        finally:
            world.edge.discard()


@pytest.fixture
async def far(request: pytest.FixtureRequest, world: World, folder: Path) -> AsyncIterator[Far]:
    """See far_side; at the end of a test the edge is at rest."""
    mark = world.edge.mark
    async with far_side(world, folder) as far:
        yield far
    try:
        await asyncio.to_thread(world.edge.assert_at_rest, mark, "fax.mail_failed|fax.not_taken")
    except AssertionError:
        keep(request.node)
        raise


FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
WAYS = {
    "our re-INVITE": Manner(),
    "refused": Manner(to_t38=(488,)),
    "415, then G.711 again": Manner(to_t38=(415,), then_audio=True),
    "200 with port 0": Manner(to_t38=(0,)),
    "491 first": Manner(to_t38=(491, 200)),
    "late 200": Manner(wait=6.5),
    "its own re-INVITE": Manner(own=0.3, to_t38=(491,)),
    "image at once": Manner(first="image"),
    "audio and image at once": Manner(first="both"),
    "refresh in T.38": Manner(refresh=True),
}
OVER_G711 = {"refused": "t38-refused", "415, then G.711 again": "t38-refused", "200 with port 0": "t38-refused"}


async def test_a_busy_hour(far: Far) -> None:
    """Everything at the same time: it takes as long as its longest fax, and nothing disturbs anything else."""
    # Each flow waits in a thread of its own.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * len(fax_flows.FLOWS)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(every_way_to_agree(far))
        tasks.create_task(faxes_that_fail(far))
        tasks.create_task(sending_and_passing_through(far))
        tasks.create_task(t38_of_others(far))
        tasks.create_task(mail_servers_that_refuse(far))
        tasks.create_task(media_must_be_encrypted(far))
        tasks.create_task(every_flow(far))


async def every_way_to_agree(far: Far) -> None:
    """Ten faxes at once, each with another far end: all arrive whole, over T.38 wherever both sides can.

    Refusals are followed by G.711, glare by a second offer, a late 200 is obeyed, a refresh leaves the media alone."""
    calls = {name: await far.send(BOX, manner) for name, manner in WAYS.items()}
    locked = await far.send(LOCKED, Manner())
    shy = await far.send(SHY, Manner(), far.other)
    next_route = await far.send(PBX, Manner())
    for name, call in calls.items():
        result = await ended(call)
        assert (result.code, result.pages) == (0, 2), (name, call.said, result)
        mail = await far.mail_of(
            call, transport=OVER_G711.get(name, "t38"), result="complete", pages=2, t30_code=0, poor_quality=False
        )
        assert all(same(a, b) for a, b in zip(pages(mail), PICTURES, strict=True)), name
        assert CALLER in mail["Subject"] and "2 Seiten" in mail["Subject"]
    assert [s for s in calls["491 first"].said if s == "offered image"] == ["offered image"] * 2
    assert b"m=audio 0" in calls["audio and image at once"].answers[0]
    refreshed = calls["refresh in T.38"]
    assert refreshed.answers[-1] in [*refreshed.answers[:-1], *refreshed.offers], "the refresh was answered differently"
    # others, at the same time
    assert (await ended(locked)).code == 0
    mail = await far.mail_of(locked, encrypted=True, result="complete")
    with pytest.raises(pypdfium2.PdfiumError):
        pages(mail)
    assert all(same(a, b) for a, b in zip(pages(mail, PASSWORD), PICTURES, strict=True))
    assert (await ended(shy)).code == 0
    await far.mail_of(shy, transport="g711", result="complete")
    assert shy.offers == [], "T.38 was offered to a carrier that has it off"
    assert (await ended(next_route)).code == 0
    await far.mail_of(next_route, fax_box="office", result="complete", number=PBX)


async def faxes_that_fail(far: Far) -> None:
    """Hang-ups, a caller who is no fax, a withheld number, an offer we cannot take: each ends in its record and mail.

    A carrier that agrees to T.38 twice and sends none is not offered it again (domain rule 4.8.37)."""
    silent = [await far.send(DEAD, Manner(mute=True, hang_up_at=15.0), far.silent) for _ in range(2)]
    early = await far.send(BOX, Manner(hang_up_at=1.0))
    mute = await far.send(BOX, Manner(mute=True, hang_up_at=5.0, to_t38=(488,)), caller="anonymous")
    partial = await far.send(BOX, Manner(first="image", hang_up_after=1))
    opus = await far.send(BOX, Manner(first="opus"))

    await ended(opus)
    assert opus.status == 488
    await ended(early)
    mail = await far.mail_of(early, result="failed", pages=0, t30_code=49, call_id=early.leg.call_id)
    assert "Kein Fax" in mail["Subject"] and not list(mail.iter_attachments())
    await ended(mute)
    mail = await far.mail_of(mute, result="failed", caller_withheld=True, transport="t38-refused")
    assert CALLER not in str(mail) and "unterdrückter Rufnummer" in mail["Subject"]
    await ended(partial)
    mail = await far.mail_of(partial, result="partial", pages=1, transport="t38")
    assert "Unvollständiges Fax" in mail["Subject"]
    assert same(*pages(mail), PICTURES[0])

    for call in silent:
        await ended(call)
        assert "offered image" in call.said
        await far.mail_of(call, result="failed", t38_packets=0, transport="t38")
    third = await far.send(DEAD, Manner(mute=True, hang_up_at=5.0), far.silent)
    await ended(third)
    assert third.offers == []
    assert far.world.edge.events("fax.t38_off")

    listed = await asyncio.to_thread(far.world.edge.command, "fax", "list")
    assert "partial" in listed.stdout and "delivered" in listed.stdout, listed.stderr
    fax = await far.id_of(partial)
    resent = await asyncio.to_thread(far.world.edge.command, "fax", "resend", fax)
    assert resent.returncode == 0, resent.stderr
    again = await far.mailbox.of(fax, count=2)
    assert again["Message-ID"] == f"<fax-{fax}@edge.example>"
    shown = await asyncio.to_thread(far.world.edge.command, "fax", "show", fax)
    assert "page 1" in shown.stdout and BOX in shown.stdout


async def mail_servers_that_refuse(far: Far) -> None:
    """Refused for good: failed, with an error in the log. Busy, or gone after all was said: tried again. A server that
    says nothing holds up no other mail. `fax resend` mails each once it can be."""
    calls = {name: await far.send(number, Manner(hang_up_at=1.0)) for name, number in DIFFICULT.items()}
    for call in calls.values():
        await ended(call)
    want = {"refused": ("failed", "550"), "busy": ("queued", "451"), "gone": ("queued", ""), "silent": ("queued", "")}
    for name, (state, error) in want.items():
        row = await far.row(await far.id_of(calls[name]), partial(_tried, hangs=name == "silent"))
        assert (row["mail"], row["result"]) == (state, "failed") and error in str(row["last_error"]), (name, row)
    refused = await far.id_of(calls["refused"])
    assert [e["fax"] for e in far.world.edge.events("fax.mail_failed")] == [refused]
    far.mailbox.difficult = False
    for name in ("refused", "busy", "gone"):
        fax = await far.id_of(calls[name])
        resent = await asyncio.to_thread(far.world.edge.command, "fax", "resend", fax)
        assert resent.returncode == 0, resent.stderr
        mail = await far.mailbox.of(fax)
        assert mail["Message-ID"] == f"<fax-{fax}@edge.example>" and "Kein Fax" in mail["Subject"]


def _tried(row: dict[str, object], hangs: bool) -> bool:
    """Whether a mail was tried once."""
    return row["tries"] == 1 and (hangs or row["last_error"] is not None)


async def media_must_be_encrypted(far: Far) -> None:
    """A carrier with `srtp: required`: G.711 alone, encrypted by rtpengine. T.38, which nobody can encrypt, is neither
    offered nor taken (T1.9), and plain G.711 is refused."""
    call = await far.send(SECRETIVE, Manner(), far.strict)
    later = await far.send(SECRETIVE, Manner(own=1.0), far.strict)
    refused = [await far.send(CARELESS_BOX, Manner(first=first), far.careless) for first in ("audio", "image")]
    for one in refused:
        await ended(one)
        assert one.status == 488
    for one in (call, later):
        assert (await ended(one)).code == 0, one.said
        assert one.offers == []
        mail = await far.mail_of(one, transport="g711", result="complete", pages=2)
        assert all(same(a, b) for a, b in zip(pages(mail), PICTURES, strict=True))
    assert "refused 488" in later.said


async def sending_and_passing_through(far: Far) -> None:
    """Calls out of the edge: its own faxes, and those of others."""
    sent = await begin_sending(far)
    passed = await begin_passing_through(far)
    await check_sent(far, *sent)
    await check_passed(passed)


def letter(folder: Path) -> tuple[Path, Path]:
    """A PDF, and what it looks like as a fax."""
    pdf, expected = folder / "letter.pdf", folder / "expected.tif"
    sheet = Image.new("1", (850, 400), 1)
    sheet.paste(picture(3, rows=300, width=700, marks=20), (50, 50))
    sheet.save(pdf, resolution=100)
    render_for_fax(pdf, expected)
    return pdf, expected


async def begin_sending(far: Far) -> tuple[list[tuple[FaxCall, str]], Path]:
    """`sip-edge fax send` calls out through the dial plan: over T.38 where the far end asks for it, else over G.711.
    A busy number is a fax that failed. What arrives is the PDF as it was rendered, pixel for pixel."""
    pdf, expected = letter(far.folder)
    calls: list[tuple[FaxCall, str]] = []
    for manner in (Manner(own=1.0), Manner(), Manner(answer=486)):
        far.carrier.manner = manner
        words = ("fax", "send", "--account", "K1", "--from", BOX, "--to", "+4930999888", str(pdf))
        done = await asyncio.to_thread(far.world.edge.command, *words)
        assert done.returncode == 0, done.stderr
        calls.append((await far.carrier.incoming.get(), done.stdout.split()[1]))
    strange = await asyncio.to_thread(
        far.world.edge.command, "fax", "send", "--account", "K1", "--from", CALLER, "--to", "+4930999888", str(pdf)
    )
    assert strange.returncode == 1 and "no number of account K1" in strange.stderr
    return calls, expected


async def check_sent(far: Far, calls: list[tuple[FaxCall, str]], expected: Path) -> None:
    """Records and pages of what was sent."""
    for (call, fax), transport in zip(calls, ("t38", "g711", None), strict=True):
        result = await ended(call)
        row = await far.row(fax)
        assert (row["direction"], row["account"], row["number"], row["called"]) == ("out", "K1", BOX, "+4930999888")
        if transport is None:
            assert (row["result"], row["pages"]) == ("failed", 0) and "486" in str(row["sip_reason"])
            continue
        assert (result.code, result.pages) == (0, 1), (call.said, result)
        assert (row["result"], row["transport"], row["pages"]) == ("complete", transport, 1)
        with Image.open(expected) as image:
            assert same(*received(call.job.folder), image.copy())


async def begin_passing_through(far: Far) -> list[tuple[FaxCall, FaxCall]]:
    """A fax between two others crosses the edge: T.38 is relayed and a refresh of it leaves the media alone; where one
    side refuses T.38, the other hears it and both go on with the G.711 they had."""
    ends: list[tuple[FaxCall, FaxCall]] = []
    for sender, receiver in (
        (Manner(refresh=True), Manner(own=1.0)),
        (Manner(to_t38=(488,)), Manner(own=1.0)),
        (Manner(own=1.0), Manner(to_t38=(415,))),
    ):
        far.carrier.manner = receiver
        out = await far.send(FORWARDED, sender)
        ends.append((out, await far.carrier.incoming.get()))
    return ends


async def check_passed(ends: list[tuple[FaxCall, FaxCall]]) -> None:
    """What came through."""
    for (out, into), transport in zip(ends, ("t38", "g711", "g711"), strict=True):
        into_result, out_result = await ended(into), await ended(out)
        for result in (into_result, out_result):
            assert (result.code, result.pages, result.transport) == (0, 2, transport), (out.said, into.said, result)
        assert all(same(a, b) for a, b in zip(received(into.job.folder), PICTURES, strict=True))
    (refreshed, unaware), (_, refused), (refused_too, _) = ends
    assert refreshed.said.count("refresh") == 1 and refreshed.said.count("took") == 1
    assert unaware.offers == [], "a refresh of one side reached the other"
    assert "refused 488" in refused.said and "refused 415" in refused_too.said


async def t38_of_others(far: Far) -> None:
    """rtpengine makes all T.38 of one side: its UDPTL, its gateway, the modems of G.711 behind it. Both directions, and
    through the edge to a PBX, which counts what came over the wire."""
    far.office.manner = Manner(own=1.0)
    through = await far.send(EXTENSION, Manner(), far.gate)
    inner = await far.office.incoming.get()
    calls = {
        "our re-INVITE": await far.send(GATE_BOX, Manner(), far.gate),
        "image at once": await far.send(GATE_BOX, Manner(first="image"), far.gate),
        "its re-INVITE": await far.send(GATE_BOX, Manner(own=0.3, to_t38=(491,)), far.gate),
    }
    pdf, expected = letter(far.folder)
    far.gate.manner = Manner(own=1.0)
    words = ("fax", "send", "--account", "K1", "--from", GATE_BOX, "--to", "+4930777888", str(pdf))
    done = await asyncio.to_thread(far.world.edge.command, *words)
    assert done.returncode == 0, done.stderr
    sent = await far.gate.incoming.get()
    for name, call in calls.items():
        result = await ended(call)
        assert (result.code, result.pages, result.transport) == (0, 2, "g711"), (name, call.said, result)
        mail = await far.mail_of(call, transport="t38", result="complete", pages=2, poor_quality=False)
        assert all(same(a, b) for a, b in zip(pages(mail), PICTURES, strict=True)), name
    result = await ended(sent)
    assert (result.code, result.pages, result.transport) == (0, 1, "g711"), (sent.said, result)
    row = await far.row(done.stdout.split()[1])
    assert (row["result"], row["transport"]) == ("complete", "t38") and int(str(row["t38_packets"])) > 20
    with Image.open(expected) as image:
        assert same(*received(sent.job.folder), image.copy())
    into, out = await ended(inner), await ended(through)
    assert (into.code, into.pages, into.transport, into.lost_packets) == (0, 2, "t38", 0), (inner.said, into)
    assert (out.code, out.transport) == (0, "g711") and into.t38_packets > 100
    assert all(same(a, b) for a, b in zip(received(inner.job.folder), PICTURES, strict=True))


async def every_flow(far: Far) -> None:
    """The signalling of each flow of domain rule 4.1 with SIPp, all at once; each ends in its record and a notice."""

    async def play(name: str) -> None:
        trace = await asyncio.to_thread(fax_flows.run, far.world, name, far.folder)
        call_id = fax_flows.check(name, trace)
        transport = fax_flows.FLOWS[name].transport
        if transport is None:
            return
        row = await far.row(await far.id_of(call_id))
        assert (row["transport"], row["result"], row["pages"]) == (transport, "failed", 0), (name, row)
        mail = await far.mailbox.of(str(row["id"]))
        assert "Kein Fax" in mail["Subject"] and not list(mail.iter_attachments()), name

    ended = await asyncio.gather(*map(play, fax_flows.FLOWS), return_exceptions=True)
    failures = {name: why for name, why in zip(fax_flows.FLOWS, ended, strict=True) if why is not None}
    assert not failures, "\n\n".join(f"{name}: {why}" for name, why in failures.items())


async def test_disk_full(far: Far) -> None:
    """Page 2 finds no room: it is not confirmed, and page 1 is delivered once there is room, with the reason. A call
    that finds none from the start is refused."""
    spool = far.world.edge.data / "fax"
    if not mounted("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(spool)):
        pytest.skip("this user may not mount a file system")
    filler = spool / "filler"
    try:
        call = await far.send(BOX, Manner(first="image"))
        async with asyncio.timeout(60):
            await call.confirmed.wait()
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        result = await ended(call)
        assert (result.pages, result.code == 0) == (1, False), "a page was confirmed that is not on the disk"
        late = await far.send(BOX, Manner())
        await ended(late)
        assert late.status == 503
        poll(lambda: any("No space" in str(e) for e in far.world.edge.events("call.refused")), "the log has the reason")
        filler.unlink()
        # A fax that ends has the outbox look for others.
        await ended(await far.send(BOX, Manner(hang_up_at=0.5)))
        mail = await far.mail_of(call, result="partial", pages=1, t30_code=-2, transport="t38")
        assert "Unvollständiges Fax" in mail["Subject"] and same(*pages(mail), PICTURES[0])
    finally:
        await asyncio.to_thread(poll, lambda: mounted("umount", str(spool)), "the full disk is gone", 20)


def mounted(*command: str) -> bool:
    """Run mount or umount; whether it succeeded."""
    return subprocess.run(command, capture_output=True).returncode == 0


async def test_mail_server_is_away(far: Far) -> None:
    """It refuses connections, then takes one and says nothing; then the daemon dies. When it works again each fax is
    mailed by itself, once; log and metric say what happened. The wall clock of the next daemon is eleven minutes ahead,
    so that the pauses are over."""
    edge = far.world.edge
    await far.post.close()
    first = await far.send(BOX, Manner(first="image"), document=tiff(far.folder / "one.tif", PICTURES[:1]))
    await ended(first)
    waiting = await far.id_of(first)
    row = await far.row(waiting, partial(_tried, hangs=False))
    assert (row["mail"], row["result"], row["pages"]) == ("queued", "complete", 1)
    (delayed,) = (event for event in edge.events("fax.mail_delayed") if event["fax"] == waiting)
    assert delayed["again_in_s"] == 60 and "Connect" in str(delayed["error"])
    assert edge.metrics()['sip_edge_fax_mails_total{result="delayed"}'] > 0
    await far.post.open(dumb=True)
    second = await far.send(BOX, Manner(hang_up_at=1.0))
    await ended(second)
    hanging = await far.id_of(second)
    await far.row(hanging, partial(_tried, hangs=True))
    async with asyncio.timeout(10):
        await far.post.visited.wait()
    await asyncio.to_thread(edge.kill)
    await far.post.open()
    edge.also = {"LD_PRELOAD": FAKETIME, "FAKETIME": "+11m", "DONT_FAKE_MONOTONIC": "1"}
    try:
        await asyncio.to_thread(edge.start)
        for fax in (waiting, hanging):
            await far.mailbox.of(fax)
            row = await far.row(fax, lambda row: row["mail"] == "delivered")
            assert row["tries"] == 2
        assert edge.metrics()['sip_edge_fax_mails_total{result="delivered"}'] == 2
    finally:
        edge.also = {}
    assert same(*pages(await far.mailbox.of(waiting)), PICTURES[0])
    assert "Kein Fax" in (await far.mailbox.of(hanging))["Subject"]


async def test_kill_in_the_middle(far: Far) -> None:
    """kill -9 after the first page was confirmed over T.38 and over G.711: after the restart every confirmed page is
    mailed, marked incomplete."""
    document = tiff(far.folder / "six.tif", PICTURES * 3)
    calls = [
        await far.send(BOX, manner, document=document) for manner in (Manner(first="image"), Manner(to_t38=(488,)))
    ]
    faxes = [await far.id_of(call) for call in calls]
    async with asyncio.timeout(60):
        for call in calls:
            await call.confirmed.wait()
    await asyncio.to_thread(far.world.edge.kill)
    confirmed = [sum(said.startswith("page ") for said in call.said) for call in calls]
    await asyncio.to_thread(far.world.edge.start)
    for fax, sure, transport in zip(faxes, confirmed, ("t38", "t38-refused"), strict=True):
        mail = await far.mailbox.of(fax, 30)
        assert "Unvollständiges Fax" in mail["Subject"]
        found = pages(mail)
        assert sure <= len(found) <= min(sure + 1, 5)
        assert all(same(a, b) for a, b in zip(found, PICTURES * 3, strict=False))
        assert (await far.row(fax))["transport"] == transport
