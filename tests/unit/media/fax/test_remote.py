"""Symmetric media (RFC 4961) through changes of address."""

from media.fax.remote import Remote

SAID, MOVED, NAT, STRANGER = ("192.0.2.1", 4000), ("192.0.2.1", 5000), ("198.51.100.9", 61000), ("203.0.113.5", 9)


def hear(remote: Remote, source: tuple[str, int]) -> bool:
    """A good packet arrives; whether it was taken."""
    taken = remote.accepts(source)
    if taken:
        remote.latch(source)
    return taken


def told() -> Remote:
    """A remote that SDP has named."""
    remote = Remote()
    remote.expect(*SAID)
    return remote


def test_the_first_source_is_the_far_end() -> None:
    """Behind NAT the source differs from SDP: media go there, and strangers are not heard any more."""
    remote = told()
    assert remote.address == SAID
    assert hear(remote, NAT) and remote.address == NAT
    assert not hear(remote, STRANGER) and remote.address == NAT


def test_what_sdp_names_is_always_heard() -> None:
    """A stranger who was faster than the far end loses it again."""
    remote = told()
    assert hear(remote, STRANGER)
    assert hear(remote, SAID) and remote.address == SAID
    assert not hear(remote, STRANGER)


def test_stragglers_do_not_bind() -> None:
    """The far end moves, and packets from where it was are still on their way: what comes from the new place counts."""
    remote = told()
    hear(remote, SAID)
    remote.expect(*MOVED)
    assert not hear(remote, SAID) and remote.address == MOVED
    assert hear(remote, MOVED)
    assert not hear(remote, SAID) and remote.address == MOVED


def test_stragglers_of_nat_do_not_bind() -> None:
    """The same where both places are not what SDP says."""
    remote = told()
    hear(remote, NAT)
    remote.expect(*MOVED)
    assert not hear(remote, NAT)
    other = (NAT[0], 61001)
    assert hear(remote, other) and remote.address == other


def test_who_says_to_move_and_stays() -> None:
    """After a second of packets from the old place and none from the new one, the old one it is."""
    remote = told()
    hear(remote, NAT)
    remote.expect(*MOVED)
    assert sum(not hear(remote, NAT) for _ in range(60)) == 50
    assert remote.address == NAT


def test_the_same_again_changes_nothing() -> None:
    """A session refresh leaves the media where they are."""
    remote = told()
    hear(remote, NAT)
    remote.expect(*SAID)
    assert remote.address == NAT and not hear(remote, STRANGER)
