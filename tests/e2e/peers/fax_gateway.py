"""Fax machines that know G.711 alone, behind a gateway that makes T.38 of it: every UDPTL octet is rtpengine's."""

from __future__ import annotations

from media.fax.engine import FaxEngine
from media.sdp import t38
from peers.fax_machine import FaxCall, FaxCarrier
from peers.t38_gateway import T38Gateway


class GatewayCarrier(FaxCarrier):
    """See the module. `first="image"` of a manner: the gateway offers T.38 at once; `own`: the gateway does later.

    `profile`: RTP/SAVP where G.711 towards the edge is encrypted."""

    def __init__(self, host: str, port: int, engine: FaxEngine, gateway: T38Gateway, profile: str = "") -> None:
        super().__init__(host, port, engine)
        self.gateway = gateway
        self.profile = profile

    def _first(self, call: FaxCall) -> bytes:
        audio = t38.audio_offer(call.origin, call.job.local_audio)
        how = ["force"] if call.manner.first == "image" else []
        return self.gateway.offer(call.job.id, "far", audio, how, profile=self.profile)

    def _use(self, call: FaxCall, sdp: bytes) -> None:
        super()._use(call, self.gateway.answer(call.job.id, "far", "edge", sdp))

    def _take(self, call: FaxCall, sdp: bytes) -> bytes:
        known = "far" if call.ours else ""
        audio = self.gateway.offer(call.job.id, "edge", sdp, ["decode"] if b"m=image" in sdp else [], known)
        call.ours = self.gateway.answer(call.job.id, "edge", "far", super()._take(call, audio))
        return call.ours

    def _image(self, call: FaxCall) -> bytes:
        if self.profile:
            # Which will be refused: the gateway need not know.
            return super()._image(call)
        audio = t38.audio_offer(call.origin, call.job.local_audio)
        return self.gateway.offer(call.job.id, "far", audio, ["force"], "edge")
