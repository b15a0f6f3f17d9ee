"""Settings and certificates change while a call is up: it goes on, and what wants a restart is named."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from pathlib import Path

import pytest
from peers.certificates import issue
from peers.process import poll
from peers.world import SEATS, World

pytestmark = pytest.mark.sipp


def shown_certificate(world: World) -> bytes:
    """What a TLS client is shown now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((world.edge.address, world.edge.tls_port), timeout=5) as there,
        context.wrap_socket(there) as made,
    ):
        found = made.getpeercert(binary_form=True)
        assert found is not None
        return found


def reset(world: World, values: dict[str, object]) -> None:
    """Write these settings and no others."""
    world.edge._values.clear()
    world.edge.set(**values)


def test_reload_during_a_call(world: World, tmp_path: Path) -> None:
    """Log level and timers change, a SIP timer is named as wanting a restart, a new certificate is shown, and the call
    that was up is hung up by its caller as if nothing had been."""
    edge = world.edge
    answering = world.sipp_phone("alice", "uas_answer")
    calling = world.carrier_calls("uac_basic", SEATS["alice"][1], talk_ms=5000)
    poll(lambda: [row["state"] for row in edge.rows("calls")] == ["up"], "the call is up")
    before = dict(edge._values)
    old = shown_certificate(world)
    certificate = issue(tmp_path, edge.address)
    chain, key = Path(str(before["tls_certificate"])), Path(str(before["tls_key"]))
    kept = chain.read_bytes(), key.read_bytes()
    try:
        chain.write_bytes(certificate.chain.read_bytes())
        key.write_bytes(certificate.key.read_bytes())
        edge.set(log_level="debug", answer_timeout=42, t1=1.0)
        done = edge.command("reload")
        assert done.returncode == 0, done.stderr
        assert "Changed: answer_timeout, log_level." in done.stdout
        assert "after a restart only: t1." in done.stdout
        assert shown_certificate(world) != old
        edge.set(guard_rate="many")
        failed = edge.command("reload")
        assert failed.returncode == 1 and "guard_rate" in failed.stderr
        reset(world, before)
        mark = edge.mark
        os.kill(edge.process.process.pid, signal.SIGHUP)
        poll(lambda: bool(edge.events("settings.reloaded", mark)), "SIGHUP reloads")
        assert edge.events("settings.reloaded", mark)[0]["changed"] == ["answer_timeout", "log_level"]
        calling.wait()
        answering.wait()
    finally:
        reset(world, before)
        chain.write_bytes(kept[0])
        key.write_bytes(kept[1])
        assert edge.command("reload").returncode == 0
