"""No byte that a far side gets tells who a withheld caller is, whatever his INVITE is full of (RFC 3323, 3325, 5806,
7044; domain rules 2.1-2 and 2.5-15)."""

from __future__ import annotations

import pytest
from peers.messages import Trace
from plan_world import ABROAD, CALLER, CHOSEN, OWN, PHONES, SITE, PlanWorld

pytestmark = pytest.mark.sipp

FORWARDER = "+4930111111"
SECRETS = (CALLER[3:], FORWARDER[3:], "Erika", "Muster", "far.example", "198.51.100.77")

TELLING = [
    f'P-Asserted-Identity: "Erika Muster" <sip:{CALLER}@far.example>, <tel:{CALLER}>',
    f"P-Preferred-Identity: <sip:{CALLER}@far.example>",
    f'Remote-Party-ID: "Erika" <sip:{CALLER}@far.example>;party=calling;privacy=full',
    f"Diversion: <sip:{FORWARDER}@far.example>;reason=no-answer;privacy=full",
    f"History-Info: <sip:{FORWARDER}@far.example?Privacy=history>;index=1, <sip:{CHOSEN}@far.example>;index=1.1",
    f"Via: SIP/2.0/UDP 198.51.100.77;branch=z9hG4bK{CALLER[1:]}",
    f"Referred-By: <sip:{CALLER}@far.example>",
    f"Reply-To: Erika <sip:{CALLER}@far.example>",
    f"Call-Info: <http://far.example/{CALLER}.jpg>;purpose=icon",
    f"Alert-Info: <http://far.example/{CALLER}.wav>",
    f"Error-Info: <sip:{CALLER}@far.example>",
    f"Identity: eyJhbGciOiJFUzI1NiJ9.eyJvcmlnIjp7InRuIjoiNDkxNTExMjM0NTY3OCJ9fQ.c2ln;info=<http://far.example/{CALLER}>",
    f"Subject: Erika Muster, {CALLER}",
    "Organization: Muster GmbH",
    f'Reason: SIP;cause=302;text="{CALLER}"',
    f"In-Reply-To: {CALLER}@far.example",
    f"User-to-User: {CALLER[1:]};encoding=hex",
    f"P-Charging-Vector: icid-value={CALLER};orig-ioi=far.example",
    f"P-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp={CALLER[1:]}",
    "Geolocation: <sip:198.51.100.77>",
    f"X-Caller: {CALLER}",
    "Accept-Language: de-Erika",
    "Server: far.example",
]
SDP = "\n".join((
    "v=0", f"o=Erika {CALLER[1:]} 1 IN IP4 [local_ip]", f"s=call of {CALLER}", "i=Erika Muster",
    f"u=http://far.example/{CALLER}", "e=erika@far.example (Erika)", f"p={CALLER}", "c=IN IP4 [media_ip]",
    "t=0 0", f"a=tool:{CALLER}", "m=audio [media_port] RTP/AVP 8 0 101", "i=Muster", "a=rtpmap:8 PCMA/8000",
    "a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000",
    f"a=ssrc:4711 cname:{CALLER}@far.example", "a=candidate:1 1 UDP 1 198.51.100.77 4000 typ host",
))  # fmt: skip


def arrived(trace: Trace) -> str:
    """Everything that the far side got, as it got it."""
    got = trace.received_text()
    assert "INVITE" in got and "BYE" in got
    return got


@pytest.mark.parametrize(
    ("privacy", "caller"), [("id;history", CALLER), ("user;header;session;critical", CALLER), ("", "anonymous")]
)
@pytest.mark.parametrize(("called", "far"), [(CHOSEN, "b.schmidt"), (SITE, "hq-k1001")])
def test_withheld_caller_of_a_carrier(plan: PlanWorld, called: str, far: str, privacy: str, caller: str) -> None:
    """A phone and a PBX learn nothing of him: by Privacy, by From, and by an old Remote-Party-ID."""
    said = [*TELLING, f"Privacy: {privacy}"] if privacy else TELLING
    seen = plan.come_in(
        "pai-from", called, caller=caller, headers=said, from_display='"Erika Muster" ', sdp=SDP, contact_user=CALLER,
    )  # fmt: skip
    got = arrived(seen.stations[far])
    assert [secret for secret in SECRETS if secret in got] == [], got
    invite = seen.at(far)
    assert invite.header("From").startswith('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=')
    assert invite.header("Privacy") == "id"
    assert not invite.header("Diversion") and not invite.header("History-Info")


def test_remote_party_id_alone_withholds(plan: PlanWorld) -> None:
    """A carrier of the elder kind: From shows the number, `privacy=full` says that nobody may see it."""
    rpid = f'Remote-Party-ID: "Erika" <sip:{CALLER}@far.example>;party=calling;privacy=full'
    got = arrived(plan.come_in("pai-from", CHOSEN, headers=[rpid], from_display='"Erika" ').stations["b.schmidt"])
    assert [secret for secret in SECRETS if secret in got] == [], got


def test_private_forwarder_stays_an_entry(plan: PlanWorld) -> None:
    """`Privacy: history` hides who forwarded, not that somebody did: the index chain and the count of hops stand."""
    history = f"History-Info: <sip:{FORWARDER}@far.example>;index=1, <sip:{CHOSEN}@far.example;cause=302>;index=1.1"
    with plan.changed("numbers", "number", CHOSEN, route_kind="forward", route_target=ABROAD):
        seen = plan.come_in("pai-from", CHOSEN, headers=[history, "Privacy: history"])
    invite = seen.at("pai-from")
    assert FORWARDER[3:] not in arrived(seen.stations["pai-from"])
    assert invite.headers("Diversion") == [
        f"<sip:{CHOSEN}@tel.t-online.de>;reason=unconditional;privacy=off",
        "<sip:anonymous@anonymous.invalid>;reason=unknown;privacy=full",
    ]
    assert invite.header("History-Info") == (
        f"<sip:anonymous@anonymous.invalid?Privacy=history>;index=1, <sip:{CHOSEN}@tel.t-online.de>;index=1.1, "
        f"<sip:{ABROAD}@tel.t-online.de;cause=302>;index=1.1.1;mp=1.1"
    )


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("privacy", ["id;history", "none"])
def test_phone_to_carrier(plan: PlanWorld, trusted: bool, privacy: str) -> None:
    """What a phone says of itself leaves with no call; its number only where the carrier may know it."""
    said = dict(line.split(": ", 1) for line in TELLING if not line.startswith(("Via", "Remote-"))) | {
        "Privacy": privacy
    }
    with plan.changed("carriers", "name", "pai-from", trusted=trusted):
        seen = plan.dial("a.mueller", ABROAD, said).stations["pai-from"]
    got, invite = arrived(seen), seen.one("INVITE", "in")
    if privacy == "none":
        # a subject is the caller's own word for the called, who sees him
        assert invite.header("Subject") == said["Subject"]
        got = got.replace(invite.header("Subject"), "").replace(invite.header("Accept-Language"), "")
    else:
        assert not invite.header("Subject") and not invite.header("Accept-Language")
        asserted = f"<sip:{OWN}@tel.t-online.de>" if trusted else ""
        assert invite.header("P-Asserted-Identity") == asserted
        assert OWN[3:] not in got.replace(asserted or "-", "")
    assert [secret for secret in (*SECRETS, "mueller", "Mueller", "Anna", PHONES) if secret in got] == [], got
