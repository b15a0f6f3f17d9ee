"""Every way in which a carrier deals with T.38 and hangs up, message by message: SIPp and a fax box (domain rule 4.1).

SIPp checks the order of messages, and fails at any that it does not expect: an offer too many, say. It sends no media.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peers.fax_world import CALLER, WIRE, WIRE_BOX, World
from peers.messages import Trace
from peers.sipp import Sipp


@dataclass(frozen=True, slots=True)
class Flow:
    """`steps`: parts of tests/sipp_scenarios/fax, one behind the other. `transport`: that of the record, None: no fax.

    `first`: what the INVITE offers. `status`: of `refuse`. `images`: how often the edge offers T.38.
    """

    steps: str
    transport: str | None
    images: int = 1
    first: str = "first"
    status: int = 488


FLOWS = {
    "our re-INVITE": Flow("call asked trying take 500_ms bye", "t38"),
    **{
        f"refused {n}": Flow("call asked refuse 1000_ms bye", "t38-refused", 1, status=n)
        for n in (415, 420, 488, 500, 503, 603, 606)
    },
    "audio after a refusal (T4.1)": Flow("call asked refuse ask_audio 500_ms bye", "t38-refused"),
    "image, then audio": Flow("call asked take ask_audio 500_ms bye", "g711"),
    "its own before ours": Flow("call 300_ms ask_image 6000_ms bye", "t38", 0),
    "crossing": Flow("call asked_first cross asked take 500_ms bye", "t38", 2),
    "491, then ours again": Flow("call asked refuse asked take 500_ms bye", "t38", 2, status=491),
    "image at once": Flow("call 6000_ms bye", "t38", 0, "image"),
    "both at once": Flow("call 6000_ms bye", "t38", 0, "both"),
    "no offer": Flow("call_late asked take 500_ms bye", "t38"),
    "a late 200": Flow("call asked trying 6000_ms take 500_ms bye", "t38"),
    "refreshed": Flow("call asked take ask_image update update_bare ask_image 500_ms bye", "t38"),
    "asked to offer": Flow("call asked take ask_nothing 500_ms bye", "t38"),
    "200 with port 0": Flow("call asked take_none asked take_audio 500_ms bye", "t38-refused"),
    "image with port 0": Flow("call ask_port_0 asked take 500_ms bye", "t38"),
    "BYE at once": Flow("call bye", "g711", 0),
    "BYE before ours": Flow("call 1000_ms bye", "g711", 0),
    "BYE in our offer": Flow("call asked trying bye", "g711"),
    "BYE in our wait": Flow("call asked refuse bye", "g711", status=491),
    "BYE after a refusal": Flow("call asked refuse bye", "t38-refused"),
    "BYE after T.38": Flow("call asked take bye", "t38"),
    "the dialog is gone": Flow("call asked refuse byed", "t38-refused", status=481),
    "no answer of its own": Flow("call asked refuse byed", "t38-refused", status=408),
    "nothing that we can": Flow("call_refused", None, 0, "no_image"),
    "silence": Flow("call asked refuse byed", "t38-refused"),
}


def run(world: World, name: str, folder: Path) -> Trace:
    """Play a flow to its end; what passed. Raises PeerFailed where the edge did something else."""
    flow = FLOWS[name]
    return Sipp(
        "uac_fax",
        folder / "".join(c if c.isalnum() else "-" for c in name),
        remote=f"{world.edge.address}:{world.edge.port}",
        address=WIRE,
        timeout=75.0,
        echo=False,
        called=WIRE_BOX,
        caller=CALLER,
        status=flow.status,
        first=f"{{{{sdp_{flow.first}}}}}",
        steps="\n".join(f"{{{{fax_{step}}}}}" for step in flow.steps.split()),
    ).wait()


def check(name: str, trace: Trace) -> str:
    """What SIPp cannot check by itself; the Call-ID."""
    flow = FLOWS[name]
    offers = [m.body for m in trace.requests("INVITE", "in")]
    assert sum("m=image" in offer for offer in offers) == flow.images, (name, offers)
    answers = [m.body for m in trace.responses(200, "INVITE", "in")] + [
        m.body for m in trace.responses(200, "UPDATE", "in")
    ]
    if name == "refreshed":
        said = {body for body in [*offers, *answers[1:]] if body}
        assert len(said) == 1 and answers[-1] == "", (name, said)
    if name == "asked to offer":
        assert answers[-1] == offers[-1]
    if name == "both at once":
        assert "m=audio 0" in answers[0] and "m=image 0" not in answers[0]
    return trace.requests("INVITE", "out")[0].header("Call-ID")
