"""Our registration with a carrier: domain rules T1.1, T1.2, T1.5 to T1.8, T1.20 to T1.29."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.carriers.actions import State
from edge.carriers.registration import line_token
from edge.sip.auth.digest import Credentials, ha1
from edge.sip.auth.digest import check as check_digest

from .rig import CARRIER, Rig, authorization, contacts

LINE = f";line={line_token(CARRIER)}"


class TestRequest:
    """What a REGISTER looks like (RFC 3261 section 10.2)."""

    def test_first_register(self) -> None:
        """Request-URI = service domain, To = From = our AOR, no credentials yet; the Contact carries our mark."""
        r = Rig().start().request
        assert (r.method, r.uri) == ("REGISTER", "sip:tel.example")
        assert r.headers.get("to") == "<sip:+49199296@tel.example>"
        assert r.from_.uri == r.to.uri and r.from_.tag
        assert contacts(r) == [f"<sip:+49199296@192.0.2.10:5060{LINE}>"]
        assert r.integer("expires") == 600
        assert authorization(r) is None and "route" not in r.headers

    def test_outbound_proxy_is_a_loose_route(self) -> None:
        """T1.29: Route = proxy, Request-URI stays the service domain."""
        r = Rig(replace(CARRIER, outbound_proxy="sip:1.primary.example;transport=tls")).start().request
        assert r.headers.get_all("route") == ["<sip:1.primary.example;transport=tls;lr>"]
        assert r.uri == "sip:tel.example"

    def test_contact_names_the_transport(self) -> None:
        """A registration over TCP wants its calls over TCP."""
        assert ";transport=tcp" in contacts(Rig(transport="tcp").start().request)[0]

    def test_credentials_use_the_authentication_user_and_the_request_uri(self) -> None:
        """T1.29: digest-URI = Request-URI; the user that authenticates may differ from the registered one."""
        rig = Rig().start()
        rig.challenge()
        value = authorization(rig.request)
        assert value is not None
        given = Credentials.parse(value)
        assert (given.username, given.uri) == ("+49199296@tel.example", "sip:tel.example")
        secret = ha1("+49199296@tel.example", "tel.example", "secret", "MD5")
        assert check_digest(given, "REGISTER", {"MD5": secret})

    def test_one_call_id_and_a_rising_cseq(self) -> None:
        """T1.20: over challenge, refresh and unregistration."""
        rig = Rig().registered()
        rig.advance(540)
        rig.ok()
        rig.run(rig.fsm.stop(rig.now))
        requests = [s.request for s in rig.sent]
        assert len({r.call_id for r in requests}) == 1
        assert [r.cseq.number for r in requests] == [1, 2, 3, 4]


class TestGin:
    """RFC 6140 (T1.1, T1.2)."""

    def test_bulk_request(self) -> None:
        """T1.1: both option tags, Supported: path, and a user-less bnc Contact."""
        r = Rig(replace(CARRIER, gin=True)).start().request
        assert r.headers.tokens("require") == ["gin"] and r.headers.tokens("proxy-require") == ["gin"]
        assert "path" in r.headers.tokens("supported")
        uri = r.contacts[0].uri
        assert uri.user is None and "bnc" in uri.params

    def test_carrier_that_does_not_know_it(self) -> None:
        """T1.2: 420 with Unsupported: gin is retried once without, and it stays off."""
        rig = Rig(replace(CARRIER, gin=True)).start()
        rig.answer(420, ("Unsupported", "gin"))
        assert "require" not in rig.request.headers and "bnc" not in rig.request.contacts[0].uri.params
        rig.ok()
        assert rig.fsm.state is State.REGISTERED
        rig.advance(540)
        assert "require" not in rig.request.headers

    def test_420_for_something_else_is_a_fault(self) -> None:
        """Nothing is retried that would be refused again."""
        rig = Rig().start()
        rig.answer(420, ("Unsupported", "gin"))
        assert rig.fsm.state is State.FAULT and len(rig.sent) == 1


class TestLifetime:
    """Granted and requested lifetimes."""

    @pytest.mark.parametrize(
        ("headers", "granted"),
        [
            ([("Contact", "OURS;expires=120"), ("Expires", "900")], 120),
            ([("Contact", "OURS"), ("Expires", "900")], 900),
            ([("Contact", "OURS")], 600),
            ([], 600),
            ([("Contact", "<sip:other@203.0.113.1>;expires=5, OURS;expires=240")], 240),
            ([("Contact", "<sip:x@203.0.113.1>;expires=77")], 77),
            ([("Contact", "OURS;expires=soon"), ("Expires", "180")], 180),
        ],
    )
    def test_granted_time(self, headers: list[tuple[str, str]], granted: int) -> None:
        """T1.7: our Contact's expires, else the Expires header, else what we asked for."""
        rig = Rig().start()
        ours = contacts(rig.request)[0]
        rig.answer(200, *((n, v.replace("OURS", ours)) for n, v in headers))
        assert rig.fsm.lease is not None and rig.fsm.lease.granted == granted

    @pytest.mark.parametrize(("jitter", "due"), [(0.0, 480.0), (0.5, 510.0), (1.0, 540.0)])
    def test_refresh_between_80_and_90_percent(self, jitter: float, due: float) -> None:
        """T1.20."""
        assert Rig(jitter=jitter).registered().timer_due() == pytest.approx(due)

    def test_refresh_goes_over_the_same_flow_with_the_nonce_it_has(self) -> None:
        """RFC 3261 section 10.2.4, RFC 7616: pre-authorised, nc counts on. The name is looked up again (1.3-12)."""
        rig = Rig(transport="tcp").registered()
        rig.advance(540)
        assert len(rig.sent) == 3 and rig.sent[2].flow == rig.sent[0].flow and rig.resolves == 2
        assert "nc=00000002" in (authorization(rig.request) or "")
        rig.ok()
        assert rig.fsm.state is State.REGISTERED

    def test_requested_time_is_never_taken_from_the_granted_one(self) -> None:
        """T1.8: a carrier that grants a little less each time must not pull us down."""
        rig = Rig().registered(expires=300)
        for granted in (250, 200, 150):
            rig.advance(rig.timer_due())
            assert rig.request.integer("expires") == 600
            rig.ok(granted)

    def test_423_is_answered_with_the_minimum_at_once(self) -> None:
        """T1.6: and the minimum is remembered."""
        rig = Rig().start()
        rig.answer(423, ("Min-Expires", "3600"))
        assert len(rig.sent) == 2 and rig.request.integer("expires") == 3600
        rig.ok()
        rig.advance(rig.timer_due())
        assert rig.request.integer("expires") == 3600

    @pytest.mark.parametrize("minimum", [None, "10", "99999999"])
    def test_423_that_makes_no_sense(self, minimum: str | None) -> None:
        """Without a usable Min-Expires there is nothing to try: a fault, no loop."""
        rig = Rig().start()
        rig.answer(423, *([("Min-Expires", minimum)] if minimum else []))
        assert rig.fsm.state is State.FAULT and len(rig.sent) == 1

    def test_423_that_rises_without_end(self) -> None:
        """A carrier that raises the minimum each time is given up for this round."""
        rig = Rig().start()
        for minimum in range(1000, 1020):
            if rig.fsm.state is State.FAULT:
                break
            rig.answer(423, ("Min-Expires", str(minimum)))
        assert rig.fsm.state is State.FAULT and len(rig.sent) <= 6

    def test_200_that_grants_nothing(self) -> None:
        """Expires 0 in the answer is no registration."""
        rig = Rig().start()
        rig.ok(0)
        assert rig.fsm.state is State.RETRYING and rig.fsm.lease is None

    def test_registration_runs_out_when_refreshes_fail(self) -> None:
        """The state follows the lease: registered until it ends, not longer."""
        rig = Rig(jitter=0.0).registered()
        rig.advance(480)
        rig.unreachable = {"198.51.100.1"}
        rig.run(rig.fsm.failed("no answer", rig.now))
        assert rig.fsm.state is State.RETRYING and rig.fsm.lease is not None
        rig.advance(121)
        assert rig.fsm.lease is None and rig.fsm.state is not State.REGISTERED

    def test_very_short_grants_do_not_flood(self) -> None:
        """At most one REGISTER in 5 s, whatever is granted."""
        rig = Rig().registered(expires=2)
        rig.advance(4.9)
        assert len(rig.sent) == 2


class TestChallenges:
    """T1.21: credentials once per nonce."""

    @pytest.mark.parametrize(("status", "header"), [(401, "authorization"), (407, "proxy-authorization")])
    def test_challenge_is_answered_at_once(self, status: int, header: str) -> None:
        """RFC 3261 section 22."""
        rig = Rig().start()
        rig.challenge(status)
        assert header in rig.request.headers and rig.request.cseq.number == 2

    def test_wrong_password_is_tried_once(self) -> None:
        """A fresh nonce refused: stop, or the carrier locks the account. Retried slowly."""
        rig = Rig().start()
        rig.challenge()
        rig.challenge()
        assert rig.fsm.state is State.FAULT and len(rig.sent) == 2
        assert rig.fsm.detail == "401 user or password refused"
        assert 300 <= rig.timer_due() <= 600

    def test_same_nonce_refused(self) -> None:
        """Even where it says stale."""
        rig = Rig().start()
        rig.challenge(nonce="n")
        rig.challenge(nonce="n", stale=True)
        assert rig.fsm.state is State.FAULT and len(rig.sent) == 2

    def test_stale_is_answered_with_the_new_nonce(self) -> None:
        """RFC 7616 section 3.3: stale says the password was right."""
        rig = Rig().registered()
        rig.advance(540)
        rig.challenge(stale=True)
        assert len(rig.sent) == 4 and "nc=00000001" in (authorization(rig.request) or "")
        rig.ok()
        assert rig.fsm.state is State.REGISTERED

    def test_nonce_that_ran_out_without_saying_so(self) -> None:
        """A refresh with an old nonce may be challenged anew without stale: answered once."""
        rig = Rig().registered()
        rig.advance(540)
        rig.challenge()
        assert len(rig.sent) == 4
        rig.challenge()
        assert rig.fsm.state is State.FAULT and len(rig.sent) == 4

    def test_stale_without_end(self) -> None:
        """A carrier that calls every nonce stale is a fault, no loop."""
        rig = Rig().start()
        rig.challenge()
        for _ in range(10):
            if rig.fsm.state is not State.FAULT:
                rig.challenge(stale=True)
        assert rig.fsm.state is State.FAULT and len(rig.sent) <= 3

    def test_unknown_algorithm_only(self) -> None:
        """T7.1 on our side: nothing to answer with; the words name it."""
        rig = Rig().start()
        rig.answer(401, ("WWW-Authenticate", 'Digest realm="r", nonce="n", algorithm=FOO'))
        assert rig.fsm.state is State.FAULT and "no challenge that can be answered" in rig.fsm.detail

    def test_first_supported_algorithm_is_taken(self) -> None:
        """RFC 8760 section 2.4: the topmost that we know."""
        rig = Rig().start()
        offers = ("FOO", "SHA-256", "MD5")
        rig.answer(401, *(("WWW-Authenticate", f'Digest realm="r", nonce="n", algorithm={a}') for a in offers))
        assert "algorithm=SHA-256" in (authorization(rig.request) or "")

    def test_no_password(self) -> None:
        """Provisioning without a password is said plainly."""
        rig = Rig(replace(CARRIER, password=None)).start()
        rig.challenge()
        assert rig.fsm.state is State.FAULT and "no password is provisioned" in rig.fsm.detail

    def test_password_does_not_show(self) -> None:
        """Secrets are in no repr and no detail."""
        rig = Rig().registered()
        assert "secret" not in repr(rig.fsm.login) + repr(rig.fsm) + rig.fsm.detail


class TestFailures:
    """Back-off, next targets, faults (T1.22, T1.26)."""

    def test_back_off_doubles_up_to_half_an_hour(self) -> None:
        """T1.22, RFC 5626 section 4.5: half to whole of 30 s·2^n."""
        rig = Rig(jitter=1.0)
        rig.unreachable = {"198.51.100.1"}
        rig.start()
        waits = []
        for _ in range(9):
            waits.append(rig.timer_due())
            rig.advance(rig.timer_due())
        assert waits == pytest.approx([30, 60, 120, 240, 480, 960, 1800, 1800, 1800])

    def test_back_off_has_jitter(self) -> None:
        """A thousand edges must not come back at the same moment."""
        rig = Rig(jitter=0.0)
        rig.unreachable = {"198.51.100.1"}
        assert rig.start().timer_due() == pytest.approx(15)

    @pytest.mark.parametrize("status", [408, 430, 480, 500, 503, 504])
    def test_next_target_at_once(self, status: int) -> None:
        """RFC 3263 section 4.3: the next SRV target, then back-off, then all again from the first."""
        rig = Rig(targets=("198.51.100.1", "198.51.100.2")).start()
        rig.answer(status)
        assert rig.opens == ["198.51.100.1", "198.51.100.2"] and len(rig.sent) == 2
        rig.answer(status)
        assert rig.fsm.state is State.RETRYING and rig.fsm.detail.startswith(str(status))
        rig.advance(rig.timer_due())
        assert rig.opens[2] == "198.51.100.1"

    def test_no_answer_and_refused_connections_go_to_the_next_target(self) -> None:
        """Timeouts and transport errors as 503 (RFC 3263 section 4.3)."""
        rig = Rig(targets=("198.51.100.1", "198.51.100.2", "198.51.100.3"))
        rig.unreachable = {"198.51.100.2"}
        rig.start()
        rig.run(rig.fsm.failed("no answer", rig.now))
        assert rig.opens == ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
        rig.ok()
        assert rig.fsm.state is State.REGISTERED and rig.fsm.detail == ""

    def test_name_that_does_not_resolve(self) -> None:
        """DNS being away is an outage like any other."""
        rig = Rig(targets=()).start()
        assert rig.fsm.state is State.RETRYING and "no address" in rig.fsm.detail

    def test_success_resets_the_back_off(self) -> None:
        """After a registration held until its refresh, the next failure waits 30 s again."""
        rig = Rig(jitter=1.0)
        rig.unreachable = {"198.51.100.1"}
        rig.start()
        rig.advance(30 + 60 + 120)
        rig.unreachable = set()
        rig.advance(240)
        rig.ok()
        rig.advance(rig.timer_due())
        rig.unreachable = {"198.51.100.1"}
        rig.run(rig.fsm.failed("no answer", rig.now))
        assert rig.timer_due() == pytest.approx(30)

    def test_refresh_that_fails_looks_for_another_target_at_once(self) -> None:
        """While the old registration still holds, a new one is made elsewhere."""
        rig = Rig().registered()
        rig.targets = ("198.51.100.9",)
        rig.advance(540)
        rig.run(rig.fsm.failed("no answer", rig.now))
        assert rig.opens == ["198.51.100.1", "198.51.100.9"] and rig.resolves == 2

    def test_retry_after_is_honoured(self) -> None:
        """T1.26: not before, and little after; a comment behind the number does not matter."""
        rig = Rig(jitter=0.0).start()
        rig.answer(503, ("Retry-After", "120 (maintenance);duration=60"))
        assert rig.timer_due() == pytest.approx(120)

    def test_retry_after_of_days_is_capped(self) -> None:
        """A typing error at the carrier must not silence us for a day."""
        rig = Rig(jitter=0.0).start()
        rig.answer(503, ("Retry-After", "86400"))
        assert rig.timer_due() == pytest.approx(3600)

    @pytest.mark.parametrize("status", [400, 403, 404, 405, 416, 484, 603])
    def test_configuration_faults_are_retried_slowly(self, status: int) -> None:
        """T1.26: the carrier says no, a person is needed; other targets would say no as well."""
        rig = Rig(targets=("198.51.100.1", "198.51.100.2"), jitter=1.0).start()
        rig.answer(status)
        assert rig.fsm.state is State.FAULT and rig.fsm.status == status and len(rig.sent) == 1
        waits = []
        for _ in range(3):
            waits.append(rig.timer_due())
            rig.advance(rig.timer_due())
            rig.answer(status)
        assert waits == pytest.approx([600, 1200, 1800])

    def test_unreadable_answer(self) -> None:
        """Nonsense in an answer is the carrier's fault, not an exception of ours."""
        rig = Rig().start()
        rig.answer(200, ("Contact", "<nonsense"))
        assert rig.fsm.state is State.FAULT and "unreadable" in rig.fsm.detail

    def test_late_and_provisional_answers_change_nothing(self) -> None:
        """An answer to an older REGISTER, or a 100, is not the one that is waited for."""
        rig = Rig().start()
        rig.answer(100)
        rig.challenge()
        rig.answer(403, number=0)
        assert rig.fsm.state is State.REGISTERING
        rig.ok()
        rig.answer(403, number=0)
        assert rig.fsm.state is State.REGISTERED


class TestFlow:
    """T1.24."""

    def test_lost_connection_registers_again_at_once(self) -> None:
        """And the old contact, which nobody reaches any more, is removed in the same request."""
        rig = Rig(transport="tcp").registered()
        rig.advance(100)
        rig.lose(rig.sent[0].flow)
        assert rig.fsm.lease is None and rig.fsm.state is State.REGISTERING
        assert len(rig.sent) == 3 and rig.sent[2].flow != rig.sent[0].flow

    def test_other_connections_do_not_matter(self) -> None:
        """Only the flow of the registration counts."""
        rig = Rig(transport="tcp").registered()
        rig.lose(rig.flow("203.0.113.1"))
        assert rig.fsm.state is State.REGISTERED and len(rig.sent) == 2

    def test_peer_that_hangs_up_after_each_registration(self) -> None:
        """At once the first time, with back-off from then on: no storm."""
        rig = Rig(transport="tcp", jitter=1.0).registered()
        rig.lose(rig.sent[-1].flow)
        rig.ok()
        rig.lose(rig.sent[-1].flow)
        assert rig.fsm.state is State.RETRYING and rig.timer_due() == pytest.approx(60)

    def test_flow_lost_while_a_refresh_is_in_flight(self) -> None:
        """A dead connection often shows when something is sent: the REGISTER that went down with it is repeated over a
        new one at once, and only its failure is one."""
        rig = Rig(transport="tcp").registered()
        rig.advance(540)
        rig.lose(rig.sent[-1].flow)
        assert rig.fsm.lease is None and len(rig.sent) == 3
        rig.run(rig.fsm.failed("connection lost", rig.now))
        assert len(rig.sent) == 4 and rig.sent[3].flow != rig.sent[2].flow
        assert rig.fsm.state is State.REGISTERING
        rig.lose(rig.sent[-1].flow)
        rig.run(rig.fsm.failed("connection lost", rig.now))
        assert len(rig.sent) == 4 and rig.fsm.state is State.RETRYING

    def test_name_leads_elsewhere(self) -> None:
        """1.3-12: the refresh goes where the name leads now; without an answer of the name servers, where it went."""
        rig = Rig(transport="tcp").registered()
        rig.targets = ("198.51.100.9",)
        rig.advance(540)
        assert rig.sent[-1].flow.remote.host == "198.51.100.9"
        rig.ok()
        assert rig.fsm.lease is not None and rig.fsm.lease.flow == rig.sent[-1].flow
        rig.resolving = False
        rig.advance(540)
        assert rig.sent[-1].flow.remote.host == "198.51.100.9" and rig.fsm.state is State.REGISTERED
        rig.ok()
        assert rig.fsm.detail == ""


class TestNat:
    """T1.28, RFC 3581."""

    SEEN = ";received=203.0.113.5"

    def test_public_address_is_learned_before_the_registration(self) -> None:
        """The 401 already tells it: the second REGISTER has the right Contact."""
        rig = Rig().start()
        rig.answer(401, ("WWW-Authenticate", 'Digest realm="r", nonce="n"'), via=self.SEEN)
        assert contacts(rig.request) == [f"<sip:+49199296@203.0.113.5:5060{LINE}>"]

    def test_changed_address_is_registered_at_once_and_the_old_contact_removed(self) -> None:
        """The NAT gave us another address: one more REGISTER, with both contacts."""
        rig = Rig().registered()
        rig.advance(540)
        rig.answer(200, ("Contact", contacts(rig.request)[0]), via=self.SEEN)
        assert len(rig.sent) == 4
        assert contacts(rig.request) == [
            f"<sip:+49199296@203.0.113.5:5060{LINE}>",
            f"<sip:+49199296@192.0.2.10:5060{LINE}>;expires=0",
        ]
        rig.answer(200, ("Contact", contacts(rig.request)[0]), via=self.SEEN)
        assert rig.fsm.state is State.REGISTERED and len(rig.sent) == 4
        assert rig.fsm.lease is not None and rig.fsm.lease.contact.host == "203.0.113.5"

    def test_address_that_changes_with_every_answer(self) -> None:
        """One correction per refresh: no loop."""
        rig = Rig().registered()
        rig.advance(540)
        for i in range(5):
            if rig.fsm.state is State.REGISTERED and rig.fsm.deadline is not None and rig.timer_due() > 100:
                break
            rig.answer(200, ("Contact", contacts(rig.request)[0]), via=f";received=203.0.113.{i}")
        assert len(rig.sent) == 4

    def test_advertised_address_is_not_questioned(self) -> None:
        """Where the operator named the address, it stays."""
        rig = Rig(learn=False).start()
        rig.answer(200, ("Contact", contacts(rig.request)[0]), via=self.SEEN)
        assert rig.fsm.lease is not None and rig.fsm.lease.contact.host == "192.0.2.10"

    def test_service_route_is_kept(self) -> None:
        """RFC 3608: for requests that we send later."""
        rig = Rig().start()
        rig.answer(200, ("Service-Route", "<sip:p1.example;lr>, <sip:p2.example;lr>"))
        assert rig.fsm.lease is not None
        assert rig.fsm.lease.service_route == ("<sip:p1.example;lr>", "<sip:p2.example;lr>")


class TestStop:
    """T1.27."""

    def test_unregisters_with_credentials(self) -> None:
        """Expires 0 for our own Contact, pre-authorised; a challenge is answered."""
        rig = Rig().registered()
        rig.run(rig.fsm.stop(rig.now))
        assert rig.fsm.state is State.UNREGISTERING
        assert rig.request.integer("expires") == 0
        assert contacts(rig.request) == [f"<sip:+49199296@192.0.2.10:5060{LINE}>;expires=0"]
        rig.challenge(stale=True)
        assert "nc=00000001" in (authorization(rig.request) or "") and rig.request.integer("expires") == 0
        assert not rig.finished
        rig.answer(200)
        assert rig.finished and rig.fsm.state is State.STOPPED and rig.fsm.deadline is None

    def test_never_registered(self) -> None:
        """Nothing to take back."""
        rig = Rig()
        rig.unreachable = {"198.51.100.1"}
        rig.start()
        rig.run(rig.fsm.stop(rig.now))
        assert rig.finished and rig.sent == []

    def test_stop_while_a_register_is_in_flight(self) -> None:
        """One in flight at most: its success is taken back."""
        rig = Rig().start()
        rig.run(rig.fsm.stop(rig.now))
        assert not rig.finished
        rig.ok()
        assert rig.request.integer("expires") == 0
        rig.answer(200)
        assert rig.finished

    def test_stop_while_the_first_register_is_challenged(self) -> None:
        """No new attempt is begun."""
        rig = Rig().start()
        rig.run(rig.fsm.stop(rig.now))
        rig.challenge()
        assert rig.finished and len(rig.sent) == 1

    def test_carrier_that_does_not_answer_the_unregistration(self) -> None:
        """The end comes all the same."""
        rig = Rig().registered()
        rig.run(rig.fsm.stop(rig.now))
        rig.run(rig.fsm.failed("no answer", rig.now))
        assert rig.finished

    def test_flow_already_lost(self) -> None:
        """Without its connection there is nothing to send the unregistration over."""
        rig = Rig(transport="tcp").registered()
        rig.run(rig.fsm.stop(rig.now))
        rig.lose(rig.sent[0].flow)
        assert rig.finished
