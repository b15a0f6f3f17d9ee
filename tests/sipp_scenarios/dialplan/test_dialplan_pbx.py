"""The called number as a customer's PBX wants it, on the wire: `number_format`, `called_in`, and bulk registration."""

from __future__ import annotations

import pytest
from plan_world import ADDRESSES, LENT, PBX, SITE, STATIC_PBX, UK_14, PlanWorld, Station, password

pytestmark = pytest.mark.sipp

DDIS = ("+4922877700", "+4922877705", "+4922877709", LENT)
"""The ends and the middle of the PBX's range, and one lent to its account."""


@pytest.mark.parametrize(
    ("number_format", "called_in", "written", "in_uri", "party"),
    [
        ("e164", "request-uri", "4922877705", "4922877705", ""),
        ("national", "to", "022877705", "sipp", ""),
        ("idd", "p-called-party-id", "004922877705", "sipp", "004922877705"),
    ],
)
def test_called_number(
    plan: PlanWorld, number_format: str, called_in: str, written: str, in_uri: str, party: str
) -> None:
    """The PBX reads the number where it looks, written as it reads it; else the Request-URI is its own Contact."""
    with plan.changed("trunks", "username", "hq-k1001", number_format=number_format, called_in=called_in):
        invite = plan.come_in("second", "+4922877705").at("hq-k1001")
    assert invite.request_uri.startswith(f"sip:{in_uri}@{PBX}:{plan.stations['hq-k1001'].port}")
    assert invite.header("To").startswith(f"<sip:{written}@")
    assert invite.header("P-Called-Party-ID") == (f"<sip:{party}@sip-edge>" if party else "")


def register(plan: PlanWorld, *, seconds: int, bulk: bool = False) -> None:
    """The PBX registers, or takes its registration away (0 seconds), from where it takes calls."""
    station = plan.stations["hq-k1001"]
    station.stop()
    place = f"{PBX}:{station.port}"
    plan.batch(
        "register", [()], address=PBX, port=station.port, username="hq-k1001", password=password("hq-k1001"),
        expires=seconds, contact=f"<sip:{place};bnc>" if bulk else f"<sip:sipp@{place};transport=UDP>",
        headers="Proxy-Require: gin\nRequire: gin\nSupported: path" if bulk else "",
    )  # fmt: skip
    station.play("uas_answer")


def test_bulk_registration(plan: PlanWorld) -> None:
    """RFC 6140: one registration without a user part, and every number of the PBX reaches it in the Request-URI, in
    E.164 whatever else is provisioned; `bnc` is not in there (section 7.1)."""
    register(plan, seconds=0)
    try:
        with plan.changed("trunks", "username", "hq-k1001", mode="gin", number_format="national", called_in="to"):
            register(plan, seconds=300, bulk=True)
            assert [c for c in plan.edge.registered("hq") + plan.edge.registered("hq-k1001") if "bnc" in c]
            marks = plan.marks()
            plan.batch(
                "uac_basic", [(ddi,) for ddi in DDIS], address=ADDRESSES["second"], called="[field0]",
                caller="+4915112345678", from_host="far.example",
            )  # fmt: skip
            invites = plan.since(marks)["hq-k1001"].requests("INVITE", "in")
            place = f"{PBX}:{plan.stations['hq-k1001'].port}"
            assert [i.request_uri for i in invites] == [f"sip:{ddi}@{place}" for ddi in DDIS]
            assert [i.header("To").partition("@")[0] for i in invites] == [f"<sip:{ddi}" for ddi in DDIS]
            site = plan.come_in("pai-from", SITE).at("hq-k1001")
            assert site.request_uri == f"sip:{SITE}@{place}"
            register(plan, seconds=0, bulk=True)
    finally:
        register(plan, seconds=86400)
    assert plan.come_in("second", "+4922877705").reached == ["hq-k1001"]


def test_static_pbx_at_its_address(plan: PlanWorld) -> None:
    """A PBX that does not register is called where provisioning says, port and all; its name stands where the number
    does not."""
    station = plan.stations["office"] = Station("uas_answer", plan.folder / "office", STATIC_PBX)
    place = f"{STATIC_PBX}:{station.port}"
    routed = {"route_kind": "trunk", "route_target": "office"}
    try:
        with plan.changed("numbers", "number", UK_14, **routed):
            for called_in, user in (("request-uri", "02070000014"), ("to", "office")):
                settings = {"number_format": "national", "called_in": called_in, "address": f"sip:{place}"}
                with plan.changed("trunks", "name", "office", **settings):
                    invite = plan.come_in("uk", UK_14).at("office")
                assert invite.request_uri == f"sip:{user}@{place}"
                assert invite.header("To").startswith("<sip:02070000014@")
    finally:
        plan.stations.pop("office").stop()
