"""What a REGISTER does to the bindings of an AOR: RFC 3261 section 10.3, RFC 5626 section 6, RFC 3327, RFC 6140."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge.registrar.bindings import Accepted, Aor, Binding, Rejected, Rules, update
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address, Flow

from .phones import LOCAL, TCP, TLS, UDP, register

SEAT = Aor("seat", "201")
PBX = Aor("trunk", "hq")
RULES = Rules(max_contacts=3, min_expires=60, max_expires=3600, default_expires=600)
GIN = Rules(bulk=True)


def ok(result: Accepted | Rejected) -> Accepted:
    assert isinstance(result, Accepted), result
    return result


def refused(result: Accepted | Rejected) -> Rejected:
    assert isinstance(result, Rejected), result
    return result


class Phone:
    """Applies REGISTERs one after the other."""

    def __init__(self, aor: Aor = SEAT, rules: Rules = RULES) -> None:
        self.aor, self.rules, self.now = aor, rules, 1000.0
        self.bindings: tuple[Binding, ...] = ()

    def send(self, *contacts: str, flow: Flow = UDP, **how: Any) -> Accepted | Rejected:
        result = update(self.bindings, self.aor, register(*contacts, **how), flow, self.rules, self.now)
        if isinstance(result, Accepted):
            self.bindings = result.bindings
        return result


def test_first_registration_is_kept_with_its_flow() -> None:
    """10.3 step 7: a contact that is not there yet is added; the flow it came over stays with it."""
    phone = Phone()
    result = ok(phone.send("<sip:201@198.51.100.7:40000>;q=0.5", expires=300))
    (b,) = result.added
    assert (b.aor, str(b.uri), b.q, b.flow, b.expires_at) == (SEAT, "sip:201@198.51.100.7:40000", 0.5, UDP, 1300.0)
    assert b.contact_value(1000.0) == "<sip:201@198.51.100.7:40000>;q=0.5;expires=300"
    assert not b.behind_nat and b.reachable


@pytest.mark.parametrize(
    ("contact", "header", "granted"),
    [
        ("<sip:a@h>;expires=120", 300, 120),
        ("<sip:a@h>", 300, 300),
        ("<sip:a@h>", None, 600),
        ("<sip:a@h>;expires=99999", None, 3600),
        ("<sip:a@h>;expires=soon", 300, 600),
        ("<sip:a@h>;expires=60", None, 60),
    ],
)
def test_lifetime_from_contact_then_header_then_default(contact: str, header: int | None, granted: int) -> None:
    """10.3 step 7: the contact's expires, the Expires header, the registrar's default; not above its maximum."""
    (b,) = ok(Phone().send(contact, expires=header)).bindings
    assert b.expires_at == 1000 + granted


def test_too_brief_an_interval_names_the_minimum() -> None:
    """10.3 step 7: 423 with Min-Expires, and nothing is stored."""
    phone = Phone()
    result = refused(phone.send("<sip:a@h>", "<sip:b@h>;expires=59", expires=300))
    assert (result.status, result.headers) == (423, (("Min-Expires", "60"),))
    assert phone.bindings == ()


def test_refresh_replaces_contact_flow_and_time() -> None:
    """10.3 step 7 with section 19.1.4: an equivalent URI is the same binding, over whatever flow it comes."""
    phone = Phone()
    phone.send("<sip:201@HOST.example:5060;line=1>", expires=300)
    phone.now += 100
    result = ok(phone.send("<sip:201@host.example:5060>", cseq=2, expires=300, flow=TCP))
    assert not result.added and len(result.bindings) == 1
    assert result.refreshed[0].flow == TCP and result.refreshed[0].expires_at == 1400.0


def test_different_uris_are_different_contacts() -> None:
    """Section 19.1.4: a port or transport in one only makes another contact."""
    phone = Phone()
    result = ok(phone.send("<sip:a@h>", "<sip:a@h:5060>", "<sip:a@h;transport=tcp>"))
    assert len(result.bindings) == 3


def test_contacts_in_one_header_line() -> None:
    """Section 7.3.1: a list in a line is as good as several lines, also with commas in quotes."""
    result = ok(Phone().send('"Doe, A" <sip:a@h>;q=0.1, <sip:b@h>'))
    assert [str(b.uri) for b in result.bindings] == ["sip:a@h", "sip:b@h"]


def test_removal_by_expires_zero() -> None:
    """10.2.2: expires 0 removes that contact only; removing what is not there is no fault."""
    phone = Phone()
    phone.send("<sip:a@h>", "<sip:b@h>")
    result = ok(phone.send("<sip:a@h>;expires=0", "<sip:c@h>;expires=0", cseq=2, expires=300))
    assert [str(b.uri) for b in result.removed] == ["sip:a@h"]
    assert [str(b.uri) for b in phone.bindings] == ["sip:b@h"]


def test_contact_moved_in_one_request() -> None:
    """A phone that learned its public address removes the old contact and adds the new one at once."""
    phone = Phone()
    phone.send("<sip:a@10.0.0.5>")
    result = ok(phone.send("<sip:a@10.0.0.5>;expires=0", "<sip:a@198.51.100.7:40000>", cseq=2, expires=300))
    assert [str(b.uri) for b in result.bindings] == ["sip:a@198.51.100.7:40000"]


def test_star_removes_all() -> None:
    """10.2.2: `*` with Expires 0 removes every binding, also those of other Call-IDs."""
    phone = Phone()
    phone.send("<sip:a@h>")
    phone.send("<sip:b@h>", call_id="c2")
    result = ok(phone.send("*", cseq=2, expires=0))
    assert result.bindings == () and len(result.removed) == 2


@pytest.mark.parametrize(
    ("contacts", "expires"), [(("*",), None), (("*",), 60), (("*", "<sip:a@h>"), 0), (("<sip:a@h>", " * "), 0)]
)
def test_star_only_alone_and_with_expires_zero(contacts: tuple[str, ...], expires: int | None) -> None:
    """10.3 step 6: anything else with `*` is a 400 and changes nothing."""
    phone = Phone()
    phone.send("<sip:x@h>")
    assert refused(phone.send(*contacts, cseq=2, expires=expires)).status == 400
    assert len(phone.bindings) == 1


def test_query_lists_and_changes_nothing() -> None:
    """10.3 step 5: without Contact the bindings are only listed."""
    phone = Phone()
    phone.send("<sip:a@h>")
    phone.now += 10
    result = ok(phone.send(cseq=2))
    assert not result.changed and len(result.bindings) == 1


@pytest.mark.parametrize("contacts", [("<sip:a@h>",), ("<sip:a@h>;expires=0",), ("*",)])
@pytest.mark.parametrize("cseq", [7, 6])
def test_old_cseq_of_the_same_call_id_aborts(contacts: tuple[str, ...], cseq: int) -> None:
    """10.3 steps 6 and 7: with the binding's Call-ID the CSeq must be higher, or the whole request fails."""
    phone = Phone()
    phone.send("<sip:a@h>", cseq=7)
    how: dict[str, Any] = {"expires": 0} if contacts == ("*",) else {"expires": 300}
    assert refused(phone.send(*contacts, cseq=cseq, **how)).status == 500
    assert len(phone.bindings) == 1
    ok(phone.send(*contacts, cseq=1, call_id="after reboot", **how))


def test_all_or_nothing() -> None:
    """10.3 step 7 (atomic): one contact out of order undoes the others of the request."""
    phone = Phone()
    phone.send("<sip:a@h>", cseq=5)
    before = phone.bindings
    refused(phone.send("<sip:new@h>", "<sip:a@h>", cseq=5))
    assert phone.bindings == before


def test_expired_bindings_count_for_nothing() -> None:
    """A binding that ran out neither orders CSeq nor is listed."""
    phone = Phone()
    phone.send("<sip:a@h>", cseq=9, expires=60)
    phone.now += 60
    assert ok(phone.send(cseq=10)).bindings == ()
    assert ok(phone.send("<sip:a@h>", cseq=1)).added


def test_no_more_contacts_than_allowed() -> None:
    """max_contacts: one more is 403, refreshing the others goes on."""
    phone = Phone()
    phone.send("<sip:a@h>", "<sip:b@h>", "<sip:c@h>")
    assert refused(phone.send("<sip:d@h>", cseq=2)).status == 403
    ok(phone.send("<sip:a@h>", cseq=3))
    ok(phone.send("<sip:b@h>;expires=0", "<sip:d@h>", cseq=4, expires=300))
    assert {str(b.uri) for b in phone.bindings} == {"sip:a@h", "sip:c@h", "sip:d@h"}


def test_unreachable_contacts_make_room() -> None:
    """A phone behind NAT that comes back over new connections is not locked out by its own dead ones."""
    phone = Phone()
    nat = {"via": "SIP/2.0/TCP 10.0.0.5:5060;branch=z9hG4bK1", "flow": TCP}
    for i in range(3):
        phone.now += 1
        phone.send(f"<sip:201@10.0.0.5:{1000 + i}>", cseq=i + 1, **nat)
    phone.bindings = tuple(replace(b, connected=False) for b in phone.bindings)
    result = ok(phone.send("<sip:201@10.0.0.5:2000>", cseq=9, **nat))
    assert [str(b.uri) for b in result.removed] == ["sip:201@10.0.0.5:1000"]


def test_instance_and_reg_id_name_a_binding() -> None:
    """RFC 5626 section 6: same AOR, instance and reg-id replace the binding though contact and Call-ID differ."""
    phone = Phone()
    urn = ';+sip.instance="<urn:uuid:1>"'
    phone.send(f"<sip:201@10.0.0.5:1111>{urn};reg-id=1", supported="outbound, path", flow=TCP)
    phone.send(f"<sip:201@10.0.0.5:2222>{urn};reg-id=2", supported="outbound", cseq=2, flow=TLS)
    result = ok(phone.send(f"<sip:201@10.0.0.5:3333>{urn};reg-id=1", call_id="c9", supported="outbound", flow=TLS))
    assert [(str(b.uri), b.reg_id, b.flow) for b in result.bindings] == [
        ("sip:201@10.0.0.5:3333", 1, TLS),
        ("sip:201@10.0.0.5:2222", 2, TLS),
    ]
    assert result.bindings[0].instance == "<urn:uuid:1>"
    assert '+sip.instance="<urn:uuid:1>"' in result.bindings[0].contact_value(phone.now)


def test_instances_do_not_mix() -> None:
    """RFC 5626 section 6: the same reg-id of another instance is another binding."""
    phone = Phone()
    phone.send('<sip:a@h1>;+sip.instance="<urn:uuid:1>";reg-id=1', supported="outbound")
    assert len(ok(phone.send('<sip:a@h2>;+sip.instance="<urn:uuid:2>";reg-id=1', cseq=2)).bindings) == 2


def test_first_hop_without_outbound() -> None:
    """RFC 5626 section 6: through a proxy that keeps no flow 439 for who asked for outbound; with `ob` it is kept."""
    via = "SIP/2.0/UDP p.example;branch=z9hG4bK2, SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK1"
    contact = '<sip:a@h>;+sip.instance="<urn:uuid:1>";reg-id=1'
    assert refused(Phone().send(contact, via=via, supported="outbound")).status == 439
    (plain,) = ok(Phone().send(contact, via=via)).bindings
    assert plain.reg_id is None
    (kept,) = ok(Phone().send(contact, via=via, supported="outbound", path="<sip:p.example;lr;ob>")).bindings
    assert kept.reg_id == 1 and kept.path == ("<sip:p.example;lr;ob>",)


def test_path_is_kept_in_order() -> None:
    """RFC 3327 section 5.3: the Path values, first one nearest to us; NAT is then the proxy's business."""
    (b,) = ok(Phone().send("<sip:a@10.0.0.5>", path="<sip:p1.example;lr>, <sip:p2.example;lr>")).bindings
    assert b.path == ("<sip:p1.example;lr>", "<sip:p2.example;lr>")
    assert not b.behind_nat


@pytest.mark.parametrize(
    ("received", "nat", "mapped"),
    [
        ("sip:203.0.113.9:41002", True, True),
        ("sip:203.0.113.9:41002%3Btransport%3Dtls", True, False),
        ("sip:10.0.0.5:5060", False, False),
        ("nonsense", False, False),
    ],
)
def test_nat_is_seen_by_the_proxy_in_front(received: str, nat: bool, mapped: bool) -> None:
    """The proxy says in its Path where the REGISTER came from; a mapping over UDP is to be kept open, a connection is
    kept by the proxy."""
    path = f"<sip:10.1.0.1;lr;received={received};r2=on>, <sip:198.51.100.1;lr;received={received};r2=on>"
    (b,) = ok(Phone().send("<sip:a@10.0.0.5:5060>", path=path)).bindings
    assert (b.behind_nat, b.mapped) == (nat, mapped)


@pytest.mark.parametrize(
    ("contact", "nat"),
    [
        ("<sip:a@10.0.0.5:5060>", True),
        ("<sip:a@198.51.100.7:5060>", False),
        ("<sip:a@pbx.example>", False),
        ("<sip:a@[2001:db8:0::1]>", True),
    ],
)
def test_nat_is_seen_by_the_address(contact: str, nat: bool) -> None:
    """A contact whose address is not the source's is reachable over its flow only."""
    (b,) = ok(Phone().send(contact)).bindings
    assert b.behind_nat is nat


def test_ipv6_addresses_are_compared_as_addresses() -> None:
    """RFC 5952: two spellings of an address are one."""
    flow = Flow("udp", LOCAL, Address("2001:db8::1", 5060))
    (b,) = ok(Phone().send("<sip:a@[2001:DB8:0:0::1]>", flow=flow)).bindings
    assert not b.behind_nat


@pytest.mark.parametrize(
    ("contact", "status"),
    [("<tel:+4930123>", 400), ('<sip:a@h>;+sip.instance="<x>";reg-id=0', 400), ("<sip:a@h>;q=9", None)],
)
def test_odd_contacts(contact: str, status: int | None) -> None:
    """A contact that cannot be called is refused; a bad q is read as 1 (RFC 3261 section 20.10 gives no fault)."""
    result = Phone().send(contact)
    if status is None:
        assert ok(result).bindings[0].q == 1.0
    else:
        assert refused(result).status == status


@pytest.mark.parametrize(("contact", "status"), [("<mailto:a@h>", 416), ("<sip:a@h", 400), ("nonsense", 400)])
def test_unreadable_contact_is_the_peers_fault(contact: str, status: int) -> None:
    """What is no URI raises with the status that is owed."""
    with pytest.raises(RemoteProtocolError) as error:
        Phone().send(contact)
    assert error.value.status == status


class TestBulk:
    """RFC 6140."""

    def test_bulk_contact_is_called_with_the_number(self) -> None:
        """Section 7.1: user part put in, `bnc` taken out, other parameters kept."""
        (b,) = ok(Phone(PBX, GIN).send("<sip:198.51.100.7:5060;transport=tcp;bnc>", require="gin")).bindings
        assert b.bulk
        assert str(b.request_uri("+4930123")) == "sip:+4930123@198.51.100.7:5060;transport=tcp"

    def test_bulk_contact_with_user_part(self) -> None:
        """T1.3: 400."""
        assert refused(Phone(PBX, GIN).send("<sip:x@h;bnc>", require="gin")).status == 400

    def test_bulk_contact_without_require(self) -> None:
        """T1.3: 400, never stored."""
        phone = Phone(PBX, GIN)
        assert refused(phone.send("<sip:h;bnc>")).status == 400
        assert phone.bindings == ()

    def test_bulk_contact_of_another_kind_of_aor(self) -> None:
        """Only trunks that are provisioned so may register in bulk."""
        assert refused(Phone().send("<sip:h;bnc>", require="gin")).status == 403

    def test_second_pbx_is_a_conflict(self) -> None:
        """T1.4: another PBX cannot register the same numbers while the first is reachable."""
        phone = Phone(PBX, GIN)
        phone.send("<sip:198.51.100.7;bnc>", require="gin")
        result = refused(phone.send("<sip:203.0.113.9;bnc>", require="gin", call_id="c2", flow=TLS))
        assert result.status == 403 and "another PBX" in result.detail

    def test_same_pbx_after_a_reboot_takes_its_place(self) -> None:
        """T1.4: a new contact from the same place replaces the old one."""
        phone = Phone(PBX, GIN)
        phone.send("<sip:198.51.100.7:1111;bnc;transport=tcp>", require="gin", flow=TCP)
        result = ok(phone.send("<sip:198.51.100.7:2222;bnc;transport=tcp>", require="gin", call_id="c2", flow=TCP))
        assert [b.uri.port for b in result.bindings] == [2222] and [b.uri.port for b in result.removed] == [1111]

    def test_normal_contact_of_a_trunk_gets_the_number(self) -> None:
        """A user part that was registered gives way to the called number, where there is one."""
        (b,) = ok(Phone(PBX, GIN).send("<sip:hq@h;line=7>")).bindings
        assert str(b.request_uri("+4930123")) == "sip:+4930123@h;line=7"
        assert str(b.request_uri()) == "sip:hq@h;line=7"
