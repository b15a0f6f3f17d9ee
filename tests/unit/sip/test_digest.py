"""Digest, both sides: the vectors of RFC 2069, 2617, 7616 and 8760, and what must be refused (domain rule 7.5)."""

from __future__ import annotations

import hashlib

import pytest

from edge.sip.auth.digest import (
    Challenge,
    Credentials,
    answer,
    challenges,
    check,
    find_credentials,
    ha1,
    matches_uri,
    read_challenges,
)
from edge.sip.errors import RemoteProtocolError

NONCE_7616 = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
OPAQUE_7616 = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
CNONCE_7616 = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def challenge_7616(algorithm: str) -> str:
    return (
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
        f'nonce="{NONCE_7616}", opaque="{OPAQUE_7616}"'
    )


def given(value: str | None) -> Credentials:
    assert value is not None
    return Credentials.parse(value)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc7616_3_9_1(algorithm: str, response: str) -> None:
    """RFC 7616 3.9.1: the client's answer to each challenge, and the server's check of it."""
    offered = read_challenges([challenge_7616(algorithm)])
    value = answer(offered, "GET", "/dir/index.html", "Mufasa", "Circle of Life", CNONCE_7616)
    found = given(value)
    assert found.response == response
    assert (found.opaque, found.qop, found.nc, found.cnonce) == (OPAQUE_7616, "auth", "00000001", CNONCE_7616)
    secret = ha1("Mufasa", "http-auth@example.org", "Circle of Life", algorithm)
    assert check(found, "GET", {algorithm: secret})
    assert not check(found, "PUT", {algorithm: secret})


@pytest.mark.skipif("sha512_256" not in hashlib.algorithms_available, reason="this OpenSSL has no SHA-512/256")
def test_sha_512_256() -> None:
    """RFC 7616 3.2: SHA-512-256 is SHA-512/256 (its own IV), also as client.

    The example of RFC 7616 3.9.2 was made with SHA-512 cut to 256 bits, so the digest is composed here.
    """

    def h(text: str) -> str:
        return hashlib.new("sha512_256", text.encode()).hexdigest()

    value = answer(
        [Challenge("r", "n", "SHA-512-256", ("auth",))], "REGISTER", "sip:r", "u", "Secret, or not?", "c", nc=2
    )
    expected = h(f"{h('u:r:Secret, or not?')}:n:00000002:c:auth:{h('REGISTER:sip:r')}")
    assert given(value).response == expected


def test_rfc2617_3_5() -> None:
    """RFC 2617 3.5: MD5, qop=auth."""
    text = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    value = answer([Challenge.parse(text)], "GET", "/dir/index.html", "Mufasa", "Circle Of Life", "0a4f113b")
    assert given(value).response == "6629fae49393a05397450978507c4ef1"


def test_rfc2069() -> None:
    """RFC 2069 2.4 (with the digest that its errata correct): no qop, so no cnonce and no nc."""
    text = (
        'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    found = given(answer([Challenge.parse(text)], "GET", "/dir/index.html", "Mufasa", "CircleOfLife", "x"))
    assert found.response == "1949323746fe6a43ef61f9606e7febea"
    assert (found.qop, found.nc, found.cnonce) == (None, None, None)
    assert check(found, "GET", {"MD5": ha1("Mufasa", "testrealm@host.com", "CircleOfLife", "MD5")})


def test_auth_int_only() -> None:
    """RFC 7616 3.4.3, RFC 8760 2.6 item 7: where the peer insists, the body is part of the digest, an empty one too."""

    def h(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    value = answer([Challenge("r", "n", "SHA-256", ("auth-int",))], "INVITE", "sip:a@b", "u", "p", "c")
    found = given(value)
    assert found.qop == "auth-int"
    assert found.response == h(f"{h('u:r:p')}:n:00000001:c:auth-int:{h('INVITE:sip:a@b:' + empty)}")


def test_sess() -> None:
    """RFC 7616 3.4.2: MD5-sess mixes nonce and cnonce into A1."""

    def h(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    value = answer([Challenge("r", "n", "MD5-sess", ("auth",))], "INVITE", "sip:a@b", "u", "p", "c")
    session = h(h("u:r:p") + ":n:c")
    assert given(value).response == h(f"{session}:n:00000001:c:auth:{h('INVITE:sip:a@b')}")


def test_first_supported_challenge() -> None:
    """RFC 8760 2.4, T7.1: the topmost challenge that we support; what we do not understand is ignored."""
    values = [
        "Basic realm=x",
        'Digest realm="r"',
        'Digest realm="r", nonce="0", algorithm=SHA3-999, qop="auth"',
        'Digest realm="r", nonce="1", algorithm=SHA-256, qop="future"',
        'Digest realm="r", nonce="2", algorithm=sha-256, qop="auth"',
        'Digest realm="r", nonce="3", algorithm=MD5, qop="auth"',
    ]
    found = given(answer(read_challenges(values), "INVITE", "sip:a@b", "u", "p", "c"))
    assert (found.nonce, found.algorithm) == ("2", "sha-256")
    assert answer(read_challenges(values[:4]), "INVITE", "sip:a@b", "u", "p", "c") is None


def test_challenges_best_first() -> None:
    """RFC 8760 2.3: one field for each algorithm, in the server's order, always with qop."""
    assert challenges("sip.example", "N", ["SHA-256", "MD5"], stale=True) == [
        'Digest realm="sip.example", nonce="N", algorithm=SHA-256, qop="auth", stale=true',
        'Digest realm="sip.example", nonce="N", algorithm=MD5, qop="auth", stale=true',
    ]
    (plain,) = challenges("r", "N", ["MD5"])
    assert Challenge.parse(plain) == Challenge("r", "N", "MD5", ("auth",))


def credentials(offered: str = "SHA-256", **changes: str) -> Credentials:
    value = given(answer([Challenge("r", "n", offered, ("auth",))], "REGISTER", "sip:r", "u", "p", "c"))
    text = str(value)
    for name, new in changes.items():
        old = getattr(value, name)
        text = text.replace(f'{name}="{old}"', f'{name}="{new}"').replace(f"{name}={old}", f"{name}={new}")
    return Credentials.parse(text)


SECRETS = {name: ha1("u", "r", "p", name) for name in ("MD5", "SHA-256")}


def test_downgrade_is_refused() -> None:
    """Domain rule T7.2: MD5 though only SHA-256 was offered is refused, right password or not."""
    assert check(credentials("MD5"), "REGISTER", SECRETS)
    assert not check(credentials("MD5"), "REGISTER", {"SHA-256": SECRETS["SHA-256"]})
    assert not check(credentials("MD5-sess"), "REGISTER", SECRETS)


@pytest.mark.parametrize(
    "changed",
    [
        credentials(response="0" * 64),
        credentials(response=""),
        credentials(nonce="m"),
        credentials(uri="sip:other"),
        credentials(nc="00000002"),
        credentials(cnonce="d"),
        credentials(qop="auth-int"),
        credentials(algorithm="MD5"),
        credentials(algorithm="none"),
    ],
)
def test_changed_credentials(changed: Credentials) -> None:
    """RFC 7616 3.4.1: every part is covered by the digest."""
    assert check(credentials(), "REGISTER", SECRETS)
    assert not check(changed, "REGISTER", SECRETS)


def test_unknown_user() -> None:
    """Domain rule 7.4a: an unknown user is refused by the same work as a known one; nothing passes an empty table."""
    assert not check(credentials(), "REGISTER", {})
    forged = hashlib.sha256(f"{'0' * 64}:n:00000001:c:auth:{hashlib.sha256(b'REGISTER:sip:r').hexdigest()}".encode())
    assert not check(credentials(response=forged.hexdigest()), "REGISTER", {})


def test_case_of_the_response() -> None:
    """Old phones send the digest in capitals."""
    value = credentials()
    assert check(Credentials.parse(str(value).replace(value.response, value.response.upper())), "REGISTER", SECRETS)


def test_credentials_of_a_realm() -> None:
    """RFC 3261 22.3: other schemes and other realms are passed over; a bad form of ours is 400."""
    value = str(credentials())
    assert find_credentials(["NoOneKnowsThisScheme x=y", value.replace('"r"', '"s"'), value], "r") == credentials()
    assert find_credentials(["Basic eDp5"], "r") is None
    with pytest.raises(RemoteProtocolError) as caught:
        find_credentials(['Digest realm="r"'], "r")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Digest",
        'Digest username="u"',
        'Digest username="u", username="v", realm="r", nonce="n", uri="sip:a", response="0"',
        'Digest username="u, realm="r", nonce="n", uri="sip:a", response="0"',
        'Digest username="u" realm="r" nonce="n" uri="sip:a" response="0"',
        'Digest username="u", realm="r", nonce="n", uri="sip:a", response="0", qop=auth',
        'Digest username="u", realm="r", nonce="n", uri="sip:a", response="0", qop=auth, cnonce="c", nc=1',
        'Digest username="u", realm="r", nonce="n", uri="sip:a", response="0", qop=auth, cnonce="c", nc=0000000g',
    ],
)
def test_bad_credentials(text: str) -> None:
    """RFC 7616 3.4: all required parts once, nc of eight hexadecimal digits."""
    with pytest.raises(RemoteProtocolError):
        Credentials.parse(text)


def test_quoting() -> None:
    """RFC 7616 3.4: quotes in names are escaped on the wire and not in the digest."""
    found = given(answer([Challenge('a\\"b', "n", "MD5", ("auth",))], "INVITE", "sip:x", 'u"\\', "p", "c"))
    assert found.username == 'u"\\'
    assert find_credentials([str(found)], 'a"b') == found
    assert check(found, "INVITE", {"MD5": ha1('u"\\', 'a"b', "p", "MD5")})
    assert Challenge.parse(challenges('a"b', "n", ["MD5"])[0]).realm == 'a\\"b'


def test_no_secrets_in_reprs() -> None:
    """Domain rule 7.10: digest responses do not reach logs."""
    value = credentials()
    assert value.response not in repr(value)


@pytest.mark.parametrize(
    ("uri", "request_uri", "expected"),
    [
        ("sip:r", "sip:r", True),
        ("sip:r", "sip:r:5060;transport=tcp", True),
        ("sip:a@R", "sips:a@r;user=phone", True),
        ("sip:%61@r", "sip:a@r", True),
        ("sip:a@r", "sip:b@r", False),
        ("sip:a@r", "sip:r", False),
        ("sip:a@r", "sip:a@s", False),
        ("junk", "sip:a@s", False),
        ("tel:+49", "tel:+49;x=y", True),
        ("tel:+49", "tel:+48", False),
    ],
)
def test_uri_of_the_digest(uri: str, request_uri: str, expected: bool) -> None:
    """RFC 8760 2.6 item 6: made for the same user at the same host."""
    assert matches_uri(credentials(uri=uri), request_uri) is expected
