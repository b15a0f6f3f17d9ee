"""UDPTL (ITU-T T.38 section 9.1, Annex A): packets, repairs, order, and what strangers send."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.fax.udptl import Packet, Receiver, Sender, decode

IFP = st.binary(min_size=1, max_size=200)


def deliver(receiver: Receiver, datagrams: list[bytes]) -> list[bytes]:
    """What comes out, with the time standing still until the end."""
    got = [ifp for datagram in datagrams for _, ifp in receiver.receive(datagram, 0.0)]
    return got + [ifp for _, ifp in receiver.flush(1.0)]


def test_a_packet_on_the_line() -> None:
    """Sequence, length, IFP, type of repair, count, older packets newest first (T.38 Annex A)."""
    sender = Sender()
    assert sender.pack(b"\x06") == bytes.fromhex("0000 01 06 00 00")
    assert sender.pack(b"\xc0\x01") == bytes.fromhex("0001 02 c001 00 01 01 06")
    assert sender.pack(b"\x00") == bytes.fromhex("0002 01 00 00 02 02 c001 01 06")


@given(st.lists(IFP, min_size=1, max_size=40), st.integers(0, 5), st.booleans())
def test_what_is_packed_is_unpacked(packets: list[bytes], redundancy: int, fec: bool) -> None:
    """Every packet comes out once and in order, whatever the repair."""
    sender, receiver = Sender(0, redundancy, fec), Receiver()
    assert deliver(receiver, [sender.pack(p) for p in packets]) == packets
    assert (receiver.malformed, receiver.lost, receiver.repaired) == (0, 0, 0)


@given(st.lists(IFP, min_size=5, max_size=60), st.data())
def test_three_losses_in_a_row_are_repaired(packets: list[bytes], data: st.DataObject) -> None:
    """With redundancy 3 any run of up to three lost packets comes back (rule 4.2.14), the beginning included."""
    sender, receiver = Sender(), Receiver()
    datagrams = [sender.pack(p) for p in packets]
    first = data.draw(st.integers(0, len(packets) - 4))
    run = data.draw(st.integers(1, 3))
    assert deliver(receiver, datagrams[:first] + datagrams[first + run :]) == packets
    assert receiver.repaired == run


@given(st.lists(IFP, min_size=6, max_size=60), st.integers(2, 5), st.data())
def test_parity_repairs_one_loss(packets: list[bytes], span: int, data: st.DataObject) -> None:
    """One loss among the packets that a parity covers comes back; zeros may follow it, its length is not told."""
    sender, receiver = Sender(0, span, fec=True), Receiver()
    datagrams = [sender.pack(p) for p in packets]
    # The receiver begins with the first packet it hears, so that one cannot be missed.
    lost = data.draw(st.integers(2, len(packets) - 2))
    got = deliver(receiver, datagrams[:lost] + datagrams[lost + 1 :])
    assert len(got) == len(packets)
    assert got[lost].rstrip(b"\0") == packets[lost].rstrip(b"\0")
    assert got[:lost] + got[lost + 1 :] == packets[:lost] + packets[lost + 1 :]


@given(st.lists(IFP, min_size=1, max_size=60, unique=True), st.randoms(use_true_random=False), st.integers(0, 3))
def test_doubled_and_swapped_packets(packets: list[bytes], chance: random.Random, redundancy: int) -> None:
    """Doubles are dropped and neighbours that overtook each other are put right (T4.6)."""
    sender, receiver = Sender(0, redundancy), Receiver()
    datagrams = [sender.pack(p) for p in packets]
    for index in range(1, len(datagrams) - 1, 2):
        if chance.random() < 0.5:
            datagrams[index : index + 2] = datagrams[index : index + 2][::-1]
    datagrams = [d for datagram in datagrams for d in [datagram] * chance.choice([1, 1, 2, 3])]
    assert deliver(receiver, datagrams) == packets
    assert receiver.lost == 0


def test_the_sequence_wraps() -> None:
    """After 65535 comes 0, also when the packets around it are lost (rule 4.3.18)."""
    sender, receiver = Sender(), Receiver()
    sent = [n.to_bytes(3, "big") for n in range(70_000)]
    got = []
    for n, ifp in enumerate(sent):
        datagram = sender.pack(ifp)
        if n % 5 != 3 and n not in (65_535, 65_536):
            got += [i for _, i in receiver.receive(datagram, 0.0)]
    assert got == sent


@pytest.mark.parametrize(("limit", "repeated"), [(400, 3), (244, 3), (243, 2), (180, 1), (124, 1), (123, 0), (20, 0)])
def test_the_oldest_repetition_is_dropped_first(limit: int, repeated: int) -> None:
    """The far end's T38FaxMaxDatagram holds; the packet itself always goes (rule 4.2.14: 59 octets and Cisco's 180)."""
    sender = Sender(limit)
    ifps = [bytes([n]) * 59 for n in range(10)]
    packet = decode([sender.pack(i) for i in ifps][-1])
    assert packet is not None
    assert packet.primary == ifps[9]
    assert packet.secondaries == tuple(reversed(ifps[9 - repeated : 9]))


def test_a_loss_that_nothing_repairs() -> None:
    """What follows waits for it 100 ms at most, and five packets at most."""
    sender, receiver = Sender(redundancy=0), Receiver()
    datagrams = [sender.pack(bytes([n])) for n in range(12)]
    assert receiver.receive(datagrams[0], 0.0) == [(0, b"\0")]
    assert receiver.receive(datagrams[2], 0.0) == []
    assert receiver.flush(0.09) == []
    assert receiver.flush(0.1) == [(2, b"\2")]
    assert [receiver.receive(datagrams[n], 1.0) for n in range(4, 8)] == [[], [], [], []]
    assert receiver.receive(datagrams[8], 1.0) == [(n, bytes([n])) for n in range(4, 9)]
    assert receiver.receive(datagrams[3], 1.0) == []
    assert receiver.lost == 2


def test_a_sender_that_begins_anew() -> None:
    """One stray packet moves nothing; two in a row that belong together do."""
    receiver = Receiver()
    old, new = Sender(redundancy=0), Sender(redundancy=0)
    assert len(deliver(receiver, [old.pack(b"old") for _ in range(2000)])) == 2000
    first, second, third = (new.pack(b"new") for _ in range(3))
    assert receiver.receive(first, 2.0) == []
    assert receiver.receive(old.pack(b"old"), 2.0) == [(2000, b"old")]
    assert receiver.receive(second, 2.0) == []
    assert receiver.receive(third, 2.0) == [(2, b"new")]


@given(st.binary(max_size=400))
def test_any_octets_are_read_or_refused(data: bytes) -> None:
    """Octets of strangers never raise (T4.7); what is read is within its bounds."""
    packet = decode(data)
    assert packet is None or isinstance(packet, Packet)
    receiver = Receiver()
    receiver.receive(data, 0.0)
    assert receiver.received + receiver.malformed == 1


@given(st.lists(IFP, min_size=3, max_size=8), st.data())
def test_a_damaged_packet_is_refused_whole(packets: list[bytes], data: st.DataObject) -> None:
    """Cut short or with octets after its end, a packet is dropped, never half taken (rule 4.3.15)."""
    sender = Sender()
    datagram = [sender.pack(p) for p in packets][-1]
    cut = data.draw(st.integers(0, len(datagram) - 1))
    assert decode(datagram[:cut]) is None
    assert decode(datagram + b"\0") is None


@given(st.lists(st.tuples(IFP, st.integers(0, 65535), st.integers(0, 3)), max_size=200), st.booleans())
def test_any_sequence_of_good_packets(packets: list[tuple[bytes, int, int]], fec: bool) -> None:
    """Numbers without sense cost nothing but themselves: no error, no repetition, bounded memory."""
    receiver = Receiver()
    for now, (ifp, sequence, redundancy) in enumerate(packets):
        sender = Sender(0, redundancy, fec)
        sender._sequence = sequence
        for _ in range(4):
            receiver.receive(sender.pack(ifp), now / 100)
    assert len(receiver._held) <= 5
    assert len(receiver._heard) <= 1024
