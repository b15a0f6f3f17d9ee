"""Digest of seats and trunks: domain rules 7.4, 7.5 (T7.1, T7.2)."""

from __future__ import annotations

import re

import pytest

from config.model import Ha1, Rows, Seat, Trunk
from config.snapshot import Snapshot
from dialplan.model import Refusal
from edge.inbound.steps.authenticate import Authenticated, Authenticator, Challenge, DigestSettings, Result
from edge.inbound.steps.sweeps import GRACE
from edge.sip.auth.digest import answer, ha1, read_challenges
from edge.sip.auth.nonce import Nonces
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.transport.guard import Guard

REALM = "edge.example"
HERE = Flow("udp", Address("192.0.2.1", 5060), Address("198.51.100.7", 40000))
THERE = Flow("udp", Address("192.0.2.1", 5060), Address("203.0.113.9", 5060))


def stored(username: str, password: str) -> Ha1:
    return Ha1(ha1(username, REALM, password, "MD5"), ha1(username, REALM, password, "SHA-256"))


SEAT = Seat("201", "K1", ha1=stored("201", "secret"))
PBX = Trunk("K1", "hq", username="hq", ha1=stored("hq", "trunk"))
STATIC = Trunk("K1", "fixed", mode="static", username="fixed", ha1=stored("fixed", "x"))
SNAPSHOT = Snapshot(Rows(seats=(SEAT,), trunks=(PBX, STATIC)))


class Door:
    """An authenticator with what it reports to."""

    def __init__(self, *algorithms: str, registered: frozenset[str] = frozenset()) -> None:
        self.now = 1000.0
        self.snapshot = SNAPSHOT
        self.guard = Guard(known=registered.__contains__)
        self.failed: list[str] = []
        self.alarms: list[tuple[str, str]] = []
        self.nonces = Nonces(b"k" * 32)
        self.door = Authenticator(
            DigestSettings(REALM, algorithms or ("SHA-256", "MD5")),
            self.nonces,
            self.guard,
            self.failed.append,
            lambda kind, who: self.alarms.append((kind, who)),
        )

    def ask(self, request: Request, flow: Flow = HERE) -> Result:
        return self.door.authenticate(request, flow, self.snapshot, self.now)

    def provision(self, snapshot: Snapshot) -> None:
        self.door.provisioned(self.snapshot, snapshot)
        self.snapshot = snapshot

    def knock(self, username: str = "201", password: str = "secret", flow: Flow = HERE, **how: str) -> Result:
        """The whole exchange: request, challenge, request with credentials."""
        first = self.ask(register(), flow)
        assert isinstance(first, Challenge)
        return self.ask(signed(first, username, password, **how), flow)

    def is_banned(self, flow: Flow = HERE) -> bool:
        return self.guard.admit(b"OPTIONS", flow.remote.host, self.now) == "banned"


def register_of(n: int) -> Request:
    """A first REGISTER, of another user for each `n`."""
    request = register()
    request.headers.set("To", f"<sip:{100 + n}@edge.example>")
    return request


def register(
    authorization: str | None = None,
    uri: str = "sip:edge.example",
    header: str = "Authorization",
    agent: str = "Phone 1",
) -> Request:
    headers = Headers([
        ("Via", "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1"), ("From", "<sip:201@edge.example>;tag=f"),
        ("To", "<sip:201@edge.example>"), ("Call-ID", "c"), ("CSeq", "1 REGISTER"),
    ])  # fmt: skip
    headers.add("User-Agent", agent)
    if authorization is not None:
        headers.add(header, authorization)
    return Request("REGISTER", uri, headers)


def signed(
    challenge: Challenge,
    username: str,
    password: str,
    *,
    algorithm: str = "",
    uri: str = "",
    header: str = "Authorization",
) -> Request:
    offers = read_challenges(challenge.response.headers.get_all("www-authenticate"))
    if algorithm:
        offers = [c for c in offers if c.algorithm == algorithm]
    value = answer(offers, "REGISTER", uri or "sip:edge.example", username, password, "cnonce")
    assert value is not None
    return register(value, header=header)


def challenge_of(result: Result) -> Challenge:
    assert isinstance(result, Challenge), result
    return result


def is_stale(result: Result) -> bool:
    return "stale=true" in (challenge_of(result).response.headers.get("www-authenticate") or "")


def test_challenge_offers_each_algorithm_best_first() -> None:
    """Rule 7.5, RFC 8760 section 2.3: one header per algorithm, qop=auth, the configured order."""
    response = challenge_of(Door().ask(register())).response
    offers = read_challenges(response.headers.get_all("www-authenticate"))
    assert response.status == 401
    assert [(c.algorithm, c.realm, c.qop, c.stale) for c in offers] == [
        ("SHA-256", REALM, ("auth",), False),
        ("MD5", REALM, ("auth",), False),
    ]


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
@pytest.mark.parametrize(("username", "password", "who"), [("201", "secret", SEAT), ("hq", "trunk", PBX)])
def test_right_password(algorithm: str, username: str, password: str, who: Seat | Trunk) -> None:
    """Seats and trunks, with either algorithm."""
    assert Door().knock(username, password, algorithm=algorithm) == Authenticated(who)


def test_credentials_in_proxy_authorization() -> None:
    """Phones that take us for a proxy are understood."""
    assert Door().knock(header="Proxy-Authorization") == Authenticated(SEAT)


def test_unknown_user_and_wrong_password_look_alike() -> None:
    """Rule 7.4a: the same 401, header for header but for the nonce; the metric knows the difference."""
    door = Door()
    answers = [
        challenge_of(door.knock(username, password)).response
        for username, password in (("201", "wrong"), ("999", "secret"), ("fixed", "x"))
    ]
    looks = {
        tuple((name, re.sub('nonce="[^"]*"', "", value)) for name, value in response.headers.items())
        for response in answers
    }
    assert len(looks) == 1 and {r.status for r in answers} == {401}
    assert not is_stale(Challenge(answers[0]))
    assert door.failed == ["wrong-password", "unknown-user", "unknown-user"]


def test_unknown_algorithm_is_as_no_credentials() -> None:
    """T7.1: ignored, not counted."""
    door = Door()
    result = door.ask(
        register(f'Digest username="201", realm="{REALM}", nonce="n", uri="u", response="r", algorithm=FOO')
    )
    assert isinstance(result, Challenge) and door.failed == []


def test_downgrade_is_refused() -> None:
    """T7.2: MD5 where only SHA-256 was offered is a 401, though the password is right."""
    door = Door("SHA-256")
    challenge = challenge_of(door.ask(register()))
    offers = read_challenges(challenge.response.headers.get_all("www-authenticate"))
    assert [c.algorithm for c in offers] == ["SHA-256"]
    weak = type(offers[0])(REALM, offers[0].nonce, "MD5", ("auth",))
    value = answer([weak], "REGISTER", "sip:edge.example", "201", "secret", "cnonce")
    assert isinstance(door.ask(register(value)), Challenge)


def test_replayed_request() -> None:
    """Rule 7.5: the same nonce and count once only; the answer is a stale challenge, not a failure of the user."""
    door = Door()
    request = signed(challenge_of(door.ask(register())), "201", "secret")
    assert isinstance(door.ask(request), Authenticated)
    assert is_stale(door.ask(request))
    assert door.failed == ["replay"]


def test_old_nonce_is_stale() -> None:
    """RFC 7616 section 3.3: the client tries again with the new nonce without asking its user."""
    door = Door()
    request = signed(challenge_of(door.ask(register())), "201", "secret")
    door.now += 301
    assert is_stale(door.ask(request))


def test_nonce_of_another_peer() -> None:
    """Rule 7.5: a nonce is bound to the address that it was given to."""
    door = Door()
    request = signed(challenge_of(door.ask(register())), "201", "secret")
    assert is_stale(door.ask(request, THERE))


def test_credentials_for_another_request() -> None:
    """A digest made for another Request-URI does not open the door (replay against another target)."""
    assert isinstance(Door().knock(uri="sip:elsewhere.example"), Challenge)


def test_another_realm_is_not_ours() -> None:
    """Credentials for somebody else are passed over."""
    door = Door()
    value = 'Digest username="201", realm="other", nonce="n", uri="u", response="r"'
    assert isinstance(door.ask(register(value)), Challenge) and door.failed == []


def test_broken_credentials() -> None:
    """400 is owed."""
    with pytest.raises(RemoteProtocolError):
        Door().ask(register(f'Digest username="201", realm="{REALM}"'))


class TestOldStacks:
    """Rule 7.5: stacks that choke on a challenge with SHA-256 beside MD5 (baresip 1.0.0 of Debian 12 does)."""

    def offered(self, door: Door, agent: str = "Phone 1") -> list[str]:
        response = challenge_of(door.ask(register(agent=agent))).response
        return [c.algorithm for c in read_challenges(response.headers.get_all("www-authenticate"))]

    def test_known_ones_are_offered_md5_alone(self) -> None:
        """At once, by the name they give."""
        assert self.offered(Door(), "baresip v1.0.0 (x86_64/linux)") == ["MD5"]
        assert self.offered(Door(), "baresip v3.10.0") == ["SHA-256", "MD5"]

    def test_silent_ones_are_offered_md5_the_next_time(self) -> None:
        """A device that comes again without credentials did not understand; it stays with MD5 for a day."""
        door = Door()
        assert self.offered(door) == ["SHA-256", "MD5"]
        door.now += 60
        assert self.offered(door) == ["MD5"]
        assert isinstance(door.knock(algorithm="MD5"), Authenticated)
        door.now += 86000
        assert self.offered(door) == ["MD5"]
        door.now += 500
        assert self.offered(door) == ["SHA-256", "MD5"]

    def test_who_answers_keeps_both(self) -> None:
        """Each refresh that begins without credentials gets the whole offer again."""
        door = Door()
        for _ in range(3):
            assert isinstance(door.knock(algorithm="SHA-256"), Authenticated)
        assert self.offered(door) == ["SHA-256", "MD5"]

    def test_long_silence_is_forgotten(self) -> None:
        """A phone that was switched off after its first REGISTER is no old one."""
        door = Door()
        self.offered(door)
        door.now += 601
        assert self.offered(door) == ["SHA-256", "MD5"]

    def test_operator_who_refuses_md5_is_obeyed(self) -> None:
        """T7.2: no name and no silence brings MD5 back."""
        door = Door("SHA-256")
        assert self.offered(door, "baresip v1.0.0") == ["SHA-256"]
        assert self.offered(door, "baresip v1.0.0") == ["SHA-256"]


class TestBans:
    """Rule 7.4c."""

    def test_guessing_bans_the_source(self) -> None:
        """Wrong passwords of five users within a minute: the guard hears nothing of that source for 15 minutes."""
        door = Door()
        for i in range(5):
            assert not door.is_banned()
            door.knock(f"20{i}", "guess")
        assert door.is_banned()
        door.now += 899
        assert door.is_banned()
        door.now += 2
        assert not door.is_banned()

    def test_requests_without_credentials_count_for_nothing(self) -> None:
        """A first REGISTER has none, and its source may be forged."""
        door = Door()
        for _ in range(100):
            door.ask(register())
        assert not door.is_banned() and door.failed == []

    def test_forged_sources_cannot_be_banned(self) -> None:
        """Without a nonce that the peer was given nothing is counted: its sender may be anybody."""
        door = Door()
        value = f'Digest username="201", realm="{REALM}", nonce="bm9uc2Vuc2U=", uri="sip:edge.example", response="r"'
        for _ in range(100):
            assert is_stale(door.ask(register(value)))
        assert not door.is_banned() and set(door.failed) == {"stale"}

    def test_office_with_registered_phones_is_not_banned_for_one_of_them(self) -> None:
        """One device with a wrong password is refused alone; its neighbours go on."""
        door = Door(registered=frozenset({"198.51.100.7"}))
        for _ in range(5):
            door.knock("202", "wrong")
        assert not door.is_banned()
        refused = door.knock("202", "wrong")
        assert isinstance(refused, Refusal) and refused.status == 403
        assert door.knock("201", "secret") == Authenticated(SEAT)

    def test_a_phone_before_it_is_provisioned_bans_nobody(self) -> None:
        """A new office: one phone tries again and again before its user exists. Its neighbours register, and once it is
        provisioned it is heard at once."""
        door = Door()
        for _ in range(20):
            door.knock("203", "secret")
        assert not door.is_banned()
        assert isinstance(door.knock("203", "secret"), Refusal)
        assert door.knock("201", "secret") == Authenticated(SEAT)
        new = Seat("203", "K1", ha1=stored("203", "secret"))
        door.provision(Snapshot(Rows(seats=(SEAT, new), trunks=(PBX, STATIC))))
        assert door.knock("203", "secret") == Authenticated(new)

    def test_known_and_unknown_users_are_refused_alike(self) -> None:
        """Rule 7.4a: bans do not tell who there is."""
        looks = []
        for user in ("201", "999"):
            door = Door()
            looks.append([type(door.knock(user, "guess")).__name__ for _ in range(24)] + [str(door.is_banned())])
        assert looks[0] == looks[1] and looks[0][4:6] == ["Challenge", "Refusal"]

    def test_who_goes_on_guessing_one_user_is_not_heard(self) -> None:
        """Thirty attempts within a minute, the refused ones too, silence a source where nobody is good."""
        door = Door()
        tries = 0
        while not door.is_banned():
            door.knock("201", "guess")
            tries += 1
        assert tries == 30

    def test_where_somebody_knew_a_password_only_users_are_refused(self) -> None:
        """A PBX that never registers is as good as a phone that does; for a day."""
        door = Door()
        assert door.knock("hq", "trunk") == Authenticated(PBX)
        for i in range(100):
            door.knock(f"3{i}", "guess")
        assert not door.is_banned()
        door.now += 86401
        for i in range(5):
            door.knock(f"3{i}", "guess")
        assert door.is_banned()

    def test_a_carrier_is_never_banned(self) -> None:
        """Neither for failures nor for a sweep, nor where somebody forges its address."""
        door = Door(registered=frozenset({"198.51.100.7"}))
        for i in range(100):
            door.knock(f"3{i}", "guess")
            door.ask(register_of(i))
            door.now += 0.1
        assert not door.is_banned()

    def test_a_success_takes_back_what_it_caused(self) -> None:
        """Somebody mistypes a password four times, again and again, and then has it right."""
        door = Door()
        for _ in range(10):
            for _ in range(4):
                door.knock("201", "slip")
            assert door.knock("201", "secret") == Authenticated(SEAT)
        door.knock("201", "slip")
        assert not door.is_banned() and door.knock("201", "secret") == Authenticated(SEAT)

    def test_provisioning_lifts_the_ban_that_came_before_it(self) -> None:
        """Five phones are plugged in before their users exist: their address is silent until one of them does. A ban by
        an operator stays."""
        new = Seat("303", "K1", ha1=stored("303", "secret"))
        after = Snapshot(Rows(seats=(SEAT, new), trunks=(PBX, STATIC)))
        for by_hand in (False, True):
            door = Door()
            for i in range(5):
                door.knock(f"30{i}", "secret")
            assert door.is_banned()
            if by_hand:
                door.guard.ban("198.51.100.7", 3600, door.now, "by an operator")
            door.provision(after)
            assert door.is_banned() == by_hand

    def test_nobody_locks_a_user_out(self) -> None:
        """Guessing from many places is told to the operator; the user comes in from anywhere, at any time."""
        door = Door()
        for i in range(50):
            door.knock("201", "guess", Flow("udp", HERE.local, Address(f"203.0.113.{i + 10}", 5060)))
        assert door.alarms == [("guessing", "201")]
        assert isinstance(door.knock("201", "secret", THERE), Authenticated)

    def test_sweep(self) -> None:
        """Rule 7.3: many users without a password from one place: a minute of silence, for the source may be forged."""
        door = Door()
        for i in range(50):
            assert not door.is_banned()
            door.ask(register_of(i))
        door.now += GRACE
        assert not door.is_banned()
        door.ask(register_of(50))
        assert door.is_banned() and door.alarms == [("sweep", "198.51.100.7")]
        door.now += 61
        assert not door.is_banned()

    def test_a_slow_sweep(self) -> None:
        """Two users a second."""
        door = Door()
        for i in range(40):
            door.ask(register_of(i))
            door.now += 0.5
        assert door.is_banned() and door.alarms == [("sweep", "198.51.100.7")]

    @pytest.mark.parametrize("late", [0.0, 3.9])
    def test_an_office_after_a_power_cut_is_no_sweep(self, late: float) -> None:
        """All of its phones ask before the first of them has answered; one that answers speaks for all of them."""
        door = Door()
        for i in range(60):
            door.ask(register_of(i))
        door.now += late
        assert isinstance(door.knock(), Authenticated)
        door.now += 10
        for i in range(60):
            door.ask(register_of(i))
        assert not door.is_banned() and door.alarms == []

    def test_phones_that_were_off_for_long(self) -> None:
        """What was suspected a while ago is forgotten: neither were they all asked for within a minute."""
        door = Door()
        for i in range(21):
            door.ask(register_of(i))
        door.now += 600
        door.ask(register_of(1))
        assert not door.is_banned() and door.alarms == []

    def test_a_new_office_is_no_sweep(self) -> None:
        """Thirty phones register for the first time: each answers its challenge."""
        door = Door()
        for i in range(30):
            door.ask(register_of(i))
            assert isinstance(door.knock(), Authenticated)
        assert not door.is_banned() and door.alarms == []

    def test_where_phones_are_registered_a_sweep_bans_nobody(self) -> None:
        door = Door(registered=frozenset({"198.51.100.7"}))
        for i in range(100):
            door.ask(register_of(i))
            door.now += 0.1
        assert not door.is_banned()

    def test_pardon(self) -> None:
        """An operator lifts what was counted."""
        door = Door(registered=frozenset({"198.51.100.7"}))
        for _ in range(5):
            door.knock("201", "wrong")
        assert isinstance(door.knock(), Refusal)
        assert [(s, u) for s, u, _ in door.door.locked(door.now)] == [("198.51.100.7", "201")]
        assert door.door.pardon("198.51.100.7", "201") and not door.door.pardon("198.51.100.7", "201")
        assert isinstance(door.knock(), Authenticated)


@pytest.mark.parametrize("algorithms", [("SHA-1",), ("MD5", "foo")])
def test_algorithms_that_are_not_stored(algorithms: tuple[str, ...]) -> None:
    """A setting that cannot work is refused at the start, with what can."""
    with pytest.raises(ValueError, match="SHA-256 and MD5"):
        Door(*algorithms)
