"""SRTP: the key derivation of RFC 3711 appendix B.3, and packets that are forged, repeated, reordered or wrap."""

from base64 import b64encode

import pytest

from media.fax.srtp import Opener, Sealer, _Keys

KEY = b64encode(bytes(range(30))).decode()
OTHER = b64encode(bytes(range(1, 31))).decode()
SUITES = ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]


def rtp(sequence: int, ssrc: int = 7) -> bytes:
    """A packet of G.711."""
    return b"\x80\x08" + (sequence & 0xFFFF).to_bytes(2, "big") + bytes(4) + ssrc.to_bytes(4, "big") + b"\xd5" * 160


def test_key_derivation() -> None:
    """Appendix B.3."""
    master = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139" + "0EC675AD498AFEEBB6960B3AABE6")
    keys = _Keys(b64encode(master).decode())
    assert keys._aes.key == bytes.fromhex("C61E7A93744F39EE10734AFE3FF7A087")
    assert keys._salt >> 16 == int("30CBBC08863D8C85D49DB34A9AE1", 16)
    assert keys._authentication == bytes.fromhex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")


@pytest.mark.parametrize("suite", SUITES)
def test_over_the_wrap(suite: str) -> None:
    """What is sealed opens, and is not readable; after 65535 comes 0."""
    sealer, opener = Sealer(suite, KEY), Opener(suite, KEY)
    for sequence in range(65000, 66200):
        sealed = sealer.seal(rtp(sequence))
        assert b"\xd5" * 8 not in sealed
        assert opener.open(sealed) == rtp(sequence)


def test_any_order_once() -> None:
    """Late packets open, also across the wrap; repeated and very old ones do not."""
    sealer, opener = Sealer(SUITES[0], KEY), Opener(SUITES[0], KEY)
    sealed = {n: sealer.seal(rtp(n)) for n in range(65400, 65700)}
    order = [65400, 65530, 65537, 65535, 65531, 65540]
    assert [opener.open(sealed[n]) == rtp(n) for n in order] == [True] * 6
    assert [opener.open(sealed[n]) for n in (65535, 65540, 65401)] == [None] * 3


def test_forged() -> None:
    """Another key, a changed octet, cut short, no RTP."""
    sealed = Sealer(SUITES[0], KEY).seal(rtp(1))
    assert Opener(SUITES[0], OTHER).open(sealed) is None
    opener = Opener(SUITES[0], KEY)
    for position in (1, 3, 9, 50, len(sealed) - 1):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        assert opener.open(bytes(damaged)) is None
    assert [opener.open(sealed[:n]) for n in (0, 11, 12, 21, 100)] == [None] * 5
    assert opener.open(rtp(2)) is None
    assert opener.open(sealed) == rtp(1)


def test_a_new_source_begins_anew() -> None:
    """Another SSRC with another sequence is taken; keys of a wrong length are refused."""
    opener = Opener(SUITES[0], KEY)
    assert opener.open(Sealer(SUITES[0], KEY).seal(rtp(60000))) == rtp(60000)
    assert opener.open(Sealer(SUITES[0], KEY).seal(rtp(3, 8))) == rtp(3, 8)
    with pytest.raises(ValueError, match="30 octets"):
        Opener(SUITES[0], b64encode(bytes(20)).decode())
