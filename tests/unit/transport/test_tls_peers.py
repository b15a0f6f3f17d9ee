"""TLS on the wire against OpenSSL's own client and server: what is accepted and what is refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from edge.sip.endpoint import Endpoint
from edge.sip.events import RequestReceived
from edge.sip.flow import Address
from edge.transport.certificate import certified_names
from edge.transport.clock import RandomIds, SystemClock
from edge.transport.driver import Driver, Listener
from edge.transport.errors import ConnectError
from edge.transport.guard import Guard, GuardLimits
from edge.transport.resolver import ResolvedHop
from edge.transport.tcp import StreamLimits
from edge.transport.tls import Tls, TlsFiles, client_context

from .shell import AUTHORITY, Node, flow_of, node, port, request, wire
from .test_tls import authorities, issue

pytestmark = pytest.mark.adapter
MINUTE = timedelta(minutes=1)


async def s_client(at: Address, *options: str, say: bytes = b"") -> tuple[int, str]:
    """OpenSSL's client: its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", str(at), "-servername", "edge.example", *options,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(say), 10)
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


@asynccontextmanager
async def s_server(chain: Path, key: Path, *options: str) -> AsyncIterator[Address]:
    """OpenSSL's server, where it listens."""
    at = Address("127.0.0.1", port())
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_server", "-accept", str(at), "-cert", str(chain), "-cert_chain", str(chain), "-key", str(key),
        *options, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(10):
            while b"ACCEPT" not in await process.stdout.readline():
                pass
        yield at
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def edge_side(tls: Tls, clients: str = "none", **options: object) -> AsyncIterator[Node]:
    """A driver with a TLS listener on contexts as the edge makes them."""
    at = Address("127.0.0.1", port())
    made: list[Node] = []
    endpoint = Endpoint(RandomIds())
    door = tls.server(clients) if tls.files.certificate is not None else None  # type: ignore[arg-type]
    driver = Driver(
        endpoint, [Listener("tls", at, at, door)] if door is not None else [], lambda event: made[0].on_event(event),
        clock=SystemClock(), tls_client=tls.client, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    made.append(Node(driver, endpoint, at, "tls"))
    await driver.start()
    try:
        yield made[0]
    finally:
        await driver.stop()


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        (("-tls1_3",), True),
        (("-tls1_2",), True),
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), False),
        (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), False),
        (("-tls1_2", "-cipher", "NULL:aNULL:@SECLEVEL=0"), False),
        (("-tls1_2", "-cipher", "RC4:3DES:EXPORT:ECDHE-RSA-NULL-SHA:@SECLEVEL=0"), False),
    ],
)
async def test_protocols_and_ciphers(tmp_path: Path, options: tuple[str, ...], accepted: bool) -> None:
    """TLS 1.2 and 1.3 with strong ciphers, nothing else."""
    async with edge_side(Tls(TlsFiles(*issue(tmp_path, "edge.example")))) as edge:
        status, said = await s_client(edge.address, *options)
        assert (status == 0 and "Cipher is (NONE)" not in said) is accepted, said


async def test_renegotiation_is_refused(tmp_path: Path) -> None:
    """TLS 1.2: a client cannot make the edge shake hands again and again over one connection."""
    async with edge_side(Tls(TlsFiles(*issue(tmp_path, "edge.example")))) as edge:
        status, said = await s_client(edge.address, "-tls1_2", say=b"R\n")
        assert status != 0 and "no renegotiation" in said, said


async def refused(tls: Tls, at: Address, name: str, *, wildcards: bool = False) -> str:
    """Why a connection of ours to `at` is refused, "" where it is not."""
    async with edge_side(tls, tls_wildcards=wildcards) as ours:
        try:
            await ours.driver.flow_to(ResolvedHop("tls", at, name))
        except ConnectError as error:
            assert len(ours.driver.connections) == 0
            return str(error)
    return ""


async def test_carriers_certificates(tmp_path: Path) -> None:
    """Expired, not yet valid, for somebody else, signed by nobody, with a wildcard, of an old protocol: each refused
    with its own words."""
    trust = Tls(TlsFiles(authorities=authorities(tmp_path)))
    now = datetime.now(UTC)

    async def of(
        name: str, *options: str, wildcards: bool = False, authority: trustme.CA = AUTHORITY, **when: datetime
    ) -> str:
        issued = authority.issue_cert(name, **when)  # type: ignore[arg-type]
        chain, key = tmp_path / "server.pem", tmp_path / "server.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        async with s_server(chain, key, *options) as at:
            return await refused(trust, at, "reg.carrier.example", wildcards=wildcards)

    assert await of("reg.carrier.example") == ""
    assert "expired" in await of("reg.carrier.example", not_before=now - 9 * MINUTE, not_after=now - MINUTE)
    assert "not yet valid" in await of("reg.carrier.example", not_before=now + MINUTE, not_after=now + 9 * MINUTE)
    wrong = await of("pop7.carrier.example")
    assert "not good for reg.carrier.example: it names pop7.carrier.example" in wrong
    assert "wildcards are not allowed" in await of("*.carrier.example")
    assert await of("*.carrier.example", wildcards=True) == ""
    nobody = trustme.CA()
    assert "unable to get local issuer" in await of("reg.carrier.example", authority=nobody)
    own, key = tmp_path / "own.pem", tmp_path / "own.key"
    own.write_bytes(nobody.cert_pem.bytes())
    key.write_bytes(nobody.private_key_pem.bytes())
    async with s_server(own, key) as at:
        assert "self-signed" in await refused(trust, at, "reg.carrier.example")
    old = await of("reg.carrier.example", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "TLS failed" in old


async def test_carrier_demands_a_certificate(tmp_path: Path) -> None:
    """We show ours to whoever asks for it; without one the carrier ends the connection."""
    chain, key = issue(tmp_path, "carrier.example")
    ours = TlsFiles(authorities=authorities(tmp_path))
    shown = TlsFiles(None, None, ours.authorities, *issue(tmp_path, "edge.example"))
    demands = ("-Verify", "1", "-verify_return_error", "-CAfile", str(ours.authorities), "-tls1_2")
    async with s_server(chain, key, *demands) as at:
        assert await refused(Tls(shown), at, "carrier.example") == ""
        assert "TLS failed" in await refused(Tls(ours), at, "carrier.example")


async def test_names_of_a_peers_certificate(tmp_path: Path) -> None:
    """A PBX is known by the certificate it shows; one of nobody we trust gets no connection, none is a stranger."""
    trust = authorities(tmp_path)
    tls = Tls(TlsFiles(*issue(tmp_path, "edge.example"), trust, client_authorities=trust))
    async with edge_side(tls, "optional") as edge:
        for names, context in [
            (("pbx.example",), client_context(trust, *issue(tmp_path, "pbx.example"))),
            ((), client_context(trust)),
        ]:
            _, writer = await asyncio.open_connection(*edge.address, ssl=context, server_hostname="edge.example")
            writer.write(wire(branch=f"z9hG4bK{len(names)}"))
            event = await edge.heard(RequestReceived, 1 if names else 2)
            assert edge.driver.certified(flow_of(event)) == names
            writer.close()
        chain, key = issue(tmp_path, "forged.example", trustme.CA())
        _, said = await s_client(edge.address, "-tls1_2", "-cert", str(chain), "-key", str(key))
        assert "unexpected eof" in said or "alert" in said, said
        assert len(edge.driver.connections) <= 2


async def test_renewal_drops_nobody(tmp_path: Path) -> None:
    """A connection from before the renewal is used on; the next one sees the new certificate."""
    chain, key = issue(tmp_path, "edge.example")
    tls = Tls(TlsFiles(chain, key, authorities(tmp_path)))
    async with edge_side(tls) as edge, node("tls") as phone:
        edge.answering()
        flow = await phone.driver.flow_to(edge.hop())
        for file, new in zip((chain, key), issue(tmp_path, "new.example"), strict=True):
            file.write_bytes(new.read_bytes())
        tls.reload()
        edge.driver.connections.tls_client = tls.client
        phone.driver.send_request(request(), flow)
        await edge.heard(RequestReceived)
        assert len(phone.driver.connections) == 1
        _, writer = await asyncio.open_connection(
            *edge.address, ssl=client_context(tls.files.authorities), server_hostname="new.example"
        )
        assert certified_names(writer.get_extra_info("peercert")) == ("new.example",)
        writer.close()


async def test_slow_handshakes_hold_up_nobody(tmp_path: Path) -> None:
    """Peers that say nothing, or half a hello, are dropped in time; others get through at once."""
    limits = StreamLimits(handshake=0.5)
    tls = Tls(TlsFiles(*issue(tmp_path, "edge.example"), authorities(tmp_path)))
    async with edge_side(tls, limits=limits) as edge, node("tls") as phone:
        edge.answering()
        mute = [socket.create_connection(edge.address) for _ in range(100)]
        for half in mute[:50]:
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
        flow = await asyncio.wait_for(phone.driver.flow_to(edge.hop()), 0.5)
        phone.driver.send_request(request(), flow)
        await edge.heard(RequestReceived)
        async with asyncio.timeout(5):
            for sock in mute:
                sock.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
                sock.close()
        assert len(edge.driver.connections) == 1


async def test_handshake_flood_of_one_source(tmp_path: Path) -> None:
    """One source has as many handshakes under way as it may have connections; others have their own."""
    tls = Tls(TlsFiles(*issue(tmp_path, "edge.example"), authorities(tmp_path)))
    guard = Guard(GuardLimits(connections=20))
    async with edge_side(tls, guard=guard) as edge:
        flood = []
        for _ in range(60):
            sock = socket.socket()
            sock.bind(("127.0.0.9", 0))
            sock.connect(edge.address)
            sock.setblocking(False)
            flood.append(sock)
        context = client_context(tls.files.authorities)
        _, writer = await asyncio.open_connection(*edge.address, ssl=context, server_hostname="edge.example")
        flooding = edge.driver.connections._shaking["127.0.0.9"]
        writer.close()
        for sock in flood:
            sock.close()
        assert flooding == 20
