"""The fixed jitter buffer: order, losses, and never a change of timing while there is a signal."""

from hypothesis import given
from hypothesis import strategies as st

from media.fax.jitter import JitterBuffer, Rtp, read_rtp

SILENCE = b"\xd5" * 160


def tick(number: int) -> bytes:
    """160 octets that are no silence and name their number."""
    return number.to_bytes(4, "big") * 40


def rtp(number: int, payload: bytes | None = None, ssrc: int = 1, base: int = 0xFFFFFFFF - 800) -> Rtp:
    return Rtp(8, (base + number * 160) & 0xFFFFFFFF, ssrc, tick(number) if payload is None else payload)


def test_in_order_over_the_wrap() -> None:
    """200 ms after the first packet the first comes out; timestamps wrap in between."""
    buffer = JitterBuffer(True)
    out = []
    for number in range(20):
        buffer.put(rtp(number))
        out.append(buffer.take())
    assert out == [None] * 10 + [tick(n) for n in range(10)]
    assert (buffer.lost, buffer.late, buffer.resets) == (0, 0, 0)


def test_packets_swapped_late_and_lost() -> None:
    """Up to 200 ms late is in time; later ones and lost ones leave a gap of exactly their size."""
    buffer = JitterBuffer(True)
    arrivals = {0: [0], 1: [1], 2: [3], 3: [2], 4: [5], 14: [4, 6], 15: [7, 8], 21: [9, 12, 10], 22: [13], 23: [14]}
    out = []
    for now in range(25):
        for number in arrivals.get(now, []):
            buffer.put(rtp(number))
        out.append(buffer.take())
    heard = {n: out[n + 10] for n in range(15)}
    assert [n for n in range(15) if heard[n] == tick(n)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14]
    assert heard[9] is heard[10] is heard[11] is None
    assert (buffer.lost, buffer.late) == (1, 2)


def test_other_packet_sizes() -> None:
    """10 and 30 ms packets become ticks of 20 ms."""
    for size in (80, 240):
        buffer = JitterBuffer(True)
        stream = b"".join(tick(n) for n in range(30))
        out = b""
        for at in range(0, len(stream), size):
            buffer.put(Rtp(8, at, 1, stream[at : at + size]))
        while (got := buffer.take()) is not None or not out:
            out += got or b""
        assert out == stream


def test_drift_is_mended_in_silence_only() -> None:
    """A peer whose clock is fast fills the buffer; what is too much goes when the line is silent, not before."""
    buffer = JitterBuffer(True)
    for number in range(30):
        buffer.put(rtp(number))
    for number in range(30, 40):
        buffer.put(rtp(number))
        buffer.take()
    assert buffer.resets == 0
    for number in range(40, 120):
        buffer.put(rtp(number, SILENCE))
        buffer.take()
    assert buffer.resets == 1
    buffer.put(rtp(120))
    out = [buffer.take() for _ in range(11)]
    assert tick(120) in out


def test_a_new_source_and_a_jump() -> None:
    """Another SSRC, or timestamps from elsewhere, begin anew instead of staying silent for ever."""
    buffer = JitterBuffer(True)
    buffer.put(rtp(0))
    buffer.put(rtp(500, ssrc=2, base=77))
    assert [buffer.take() for _ in range(11)][10] == tick(500)
    buffer.put(rtp(501, ssrc=2, base=77 + 900_000))
    assert [buffer.take() for _ in range(11)][10] == tick(501)
    for number in range(30):
        buffer.put(rtp(number, ssrc=2, base=900_077 - 5000))
        last = buffer.take()
    assert last is not None


@given(st.binary(max_size=300))
def test_any_octets(data: bytes) -> None:
    """Octets of strangers are a packet or none."""
    packet = read_rtp(data)
    if packet is not None:
        assert len(packet.payload) <= len(data) - 12
        JitterBuffer(True).put(packet)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=400)), max_size=60))
def test_any_timestamps(packets: list[tuple[int, bytes]]) -> None:
    """Numbers without sense cost bounded memory."""
    buffer = JitterBuffer(True)
    for timestamp, payload in packets:
        buffer.put(Rtp(8, timestamp, 1, payload))
        buffer.take()
    assert len(buffer._data) < 20_000


def test_rtp_with_all_its_parts() -> None:
    """CSRC list, extension and padding are not audio (RFC 3550 section 5.1)."""
    head = bytes.fromhex("b2880001 00000010 00000007 0000000a 0000000b bede0001 01020304")
    assert read_rtp(head + b"audio" + b"\0\0\3") == Rtp(8, 16, 7, b"audio")
    assert read_rtp(head[:20]) is None
    assert read_rtp(b"\x40" + head[1:]) is None
