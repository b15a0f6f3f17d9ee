"""The provisioning document: read strictly, applied whole or not at all, exported so that applying changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from asyncpg import Record
from asyncpg.connection import Connection

from config.apply import apply_document, summary
from config.document import DocumentError, parse_document, read_document
from config.export import export_document
from config.loader import load_rows
from config.secrets import SecretBox

FULL = """\
version: 1
carriers:
  - name: telekom
    mode: register
    domain: tel.example
    outbound_proxy: "sip:proxy.example;transport=tls"
    secondary_proxies: ["sip:secondary.example;transport=tls", "sip:third.example"]
    register_with: all
    transport: tls
    username: "+49199296000001"
    auth_username: "+49199296000001@tel.example"
    password: "carrier secret"
    sources: []
    srtp: "off"
    max_calls: 200
    max_calls_in: null
    failover_on: [408, 503]
  - {name: peer, mode: static, domain: peer.example, sources: ["192.0.2.1", "198.51.100.0/24", "2001:db8::/32"]}
accounts:
  - {id: K1001, name: Beispiel GmbH, area_code: "228", parallel_calls: 30, allowed_destinations: ["+49", "+43"],
     emergency_number: "+4922838600"}
  - {id: K1002, name: Andere AG, time_zone: America/New_York}
trunks:
  - name: hq
    account: K1001
    username: hq-k1001
    password_env: HQ_PASSWORD
    contact: {name: Erika Muster, phone: "+4922838600"}
    valid_from: 2026-12-01
    default_number: "+4922838600"
  - {name: hq, account: K1002, username: hq-k1002, password_file: hq2.txt, valid_from: 2026-12-01}
seats:
  - username: a.mueller
    account: K1001
    trunk: hq
    password: "seat secret"
    extension: "201"
    primary_number: "+442088198786"
    external_numbers: ["+4922129191999"]
    present: "+4922129191999"
blocks:
  - prefix: "+49228386"
    digits: 2
    account: K1001
    carrier: telekom
    location: {street: Landgrabenweg 151, postcode: "53227", city: Bonn}
    ranges:
      - {prefix: "+492283860", route: {trunk: hq}}
      - {prefix: "+4922838699", channels: 1, route: {fax: office}}
numbers:
  - number: "+442088198786"
    account: K1001
    carrier: telekom
    cli_prefix: "23"
    route: {seat: a.mueller}
    on_busy: {forward: "+4915112345678"}
    on_limit: {reject: 486}
    valid_from: 2026-12-01T08:00:00+01:00
  - {number: "+4930123456", account: K1001, carrier: peer, served_account: K1002, route: {trunk: hq},
     on_no_answer: none}
external_numbers:
  - {number: "+4922129191999", account: K1001, status: verified, method: call, verified_at: 2026-11-20T10:00:00Z}
fax_boxes:
  - {name: office, account: K1001, email: fax@beispiel.example, pdf_password: "pdf secret", station_id: "+49 228 38699"}
"""
ENVIRONMENT = {"HQ_PASSWORD": "from the environment"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "hq2.txt").write_text("from a file\n")
    path = tmp_path / "full.yaml"
    path.write_text(FULL)
    return path


async def _apply(db: Connection[Record], text: str, box: SecretBox, **options: bool) -> list[str]:
    return [str(c) for c in await apply_document(db, parse_document(text, "t.yaml", ENVIRONMENT), box, **options)]


async def test_applied_twice_and_exported(db: Connection[Record], file: Path, box: SecretBox) -> None:
    """A second apply changes nothing; nor does applying the export, pruning; the rows are what the document says."""
    document = read_document(file, ENVIRONMENT)
    changes = await apply_document(db, document, box)
    assert summary(changes) == "14 new, 0 changed, 0 removed"
    assert await apply_document(db, document, box) == []
    exported = await export_document(db)
    assert await apply_document(db, parse_document(exported), box, prune=True) == []
    for secret in ("carrier secret", "seat secret", "pdf secret", "from a file", "from the environment"):
        assert secret not in exported and secret not in str(changes)
    rows = await load_rows(db, box)
    carriers = {c.name: c for c in rows.carriers}
    assert carriers["telekom"].password == "carrier secret"
    assert carriers["peer"].sources == ("192.0.2.1", "198.51.100.0/24", "2001:db8::/32")
    trunks = {t.account: t for t in rows.trunks}
    assert str(trunks["K1001"].valid_from) == "2026-11-30 23:00:00+00:00"  # midnight in Berlin
    assert str(trunks["K1002"].valid_from) == "2026-12-01 05:00:00+00:00"  # midnight in New York
    assert trunks["K1002"].ha1.md5 is not None and trunks["K1001"].ha1.sha256 is not None
    assert rows.fax_boxes[0].pdf_password == "pdf secret"


async def test_the_same_password_as_sql_sets(db: Connection[Record], box: SecretBox) -> None:
    """The document and a portal's SQL store the same digests: applying after the function changes nothing."""
    text = 'version: 1\naccounts: [{id: K1}]\nseats: [{username: anna1, account: K1, password: "long enough"}]\n'
    await _apply(db, text.replace(', password: "long enough"', ""), box)
    await db.execute("SELECT sip_edge.set_seat_password('anna1', 'long enough')")
    assert await _apply(db, text, box) == []
    assert await _apply(db, text.replace("long enough", "another one"), box) == ["~ seats anna1: password changed"]
    assert await _apply(db, text.replace(', password: "long enough"', ""), box) == []
    assert await _apply(db, text.replace('"long enough"', "null"), box) == ["~ seats anna1: password removed"]


async def test_dry_run_shows_and_stops(db: Connection[Record], file: Path, box: SecretBox) -> None:
    """--dry-run: the same difference, nothing stored."""
    document = read_document(file, ENVIRONMENT)
    dry = await apply_document(db, document, box, dry_run=True)
    assert await db.fetchval("SELECT count(*) FROM sip_edge.accounts") == 0
    assert list(map(str, await apply_document(db, document, box))) == list(map(str, dry))


async def test_differences_are_said(db: Connection[Record], file: Path, box: SecretBox) -> None:
    """One line per row: what comes, what changes from what to what, what goes (with --prune only)."""
    await apply_document(db, read_document(file, ENVIRONMENT), box)
    changed = FULL.replace("parallel_calls: 30", "parallel_calls: 40").replace("password_file: hq2.txt, ", "")
    changed = changed.replace('      - {prefix: "+4922838699", channels: 1, route: {fax: office}}\n', "")
    without = changed[: changed.index("fax_boxes:")]
    assert await _apply(db, without, box, dry_run=True) == [
        "~ accounts K1001: parallel_calls 30 -> 40",
        "- ranges +4922838699",
    ]
    assert await _apply(db, without, box, prune=True) == [
        "~ accounts K1001: parallel_calls 30 -> 40",
        "- ranges +4922838699",
        "- fax_boxes K1001/office",
    ]


async def test_everything_wrong_with_a_form_is_said_at_once() -> None:
    """Each error has file, line and path; a wrong document reaches no database."""
    text = """\
version: 2
carier: []
accounts:
  - {id: K1, parallel_calls: "3", colour: red}
  - {id: K1}
seats:
  - username: anna1
    extension: 201
    extension: "202"
    reject_anonymous: maybe
    password: "x"
    password_env: NOPE
numbers:
  - {number: +49301, account: K1, carrier: t, route: {seat: a, trunk: b}}
  - {number: "+49302", account: K1, carrier: t, route: {reject: busy}, valid_from: tomorrow}
fax_boxes: office
"""
    with pytest.raises(DocumentError) as error:
        parse_document(text, "bad.yaml", {})
    assert str(error.value).splitlines() == [
        "bad.yaml:1: version: must be 1",
        "bad.yaml:2: carier: unknown key; known are version, carriers, accounts, trunks, external_numbers, seats, "
        "blocks, numbers, fax_boxes",
        "bad.yaml:4: accounts[0].colour: unknown key; known are id, name, status, country, time_zone, area_code, "
        "language, email, parallel_calls, bare_numbers, clip_fallback, allowed_destinations, emergency_number, "
        "allow_zero_cli_prefixes, suspension, calls_per_hour, calls_per_day, minutes_per_hour, minutes_per_day, "
        "night_percent, max_call_minutes",
        "bad.yaml:4: accounts[0].parallel_calls: must be a whole number",
        "bad.yaml:5: accounts[1]: K1 is here twice; the first is in line 4",
        "bad.yaml:7: seats[0].account: is required",
        'bad.yaml:8: seats[0].extension: must be a text, YAML reads a number: write it in quotes, "201"',
        "bad.yaml:9: seats[0].extension: this key is here twice",
        "bad.yaml:10: seats[0].reject_anonymous: must be true or false",
        "bad.yaml:12: seats[0]: password and password_env: give one of them",
        'bad.yaml:14: numbers[0].number: must be a text, YAML reads a number: write it in quotes, "+49301"',
        "bad.yaml:14: numbers[0].route: must be none or a mapping with one of seat, trunk, fax, forward, extension, "
        "reject",
        "bad.yaml:15: numbers[1].route: must be a whole number",
        "bad.yaml:15: numbers[1].valid_from: must be a date such as 2026-12-01 or a time such as 2026-11-20T10:00:00Z",
        "bad.yaml:16: fax_boxes: must be a list",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("version: 1\nseats: [", "is no YAML"),
        ("version: 1\nseats: [{username: anna1, account: K1, password_env: NOPE}]", "no variable NOPE"),
        ("version: 1\nseats: [{username: anna1, account: K1, password_file: nope.txt}]", "nope.txt cannot be read"),
        ("version: 1\ncarriers: [{name: t, domain: x, mode: static, sources: [10.0.0.1/8]}]", "no address or network"),
        ("- 1", "must be a mapping"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(text: str, words: str) -> None:
    """Broken files and missing secrets are named."""
    with pytest.raises(DocumentError, match=words):
        parse_document(text, "t.yaml", {})


async def test_all_broken_rules_are_said_with_their_lines(db: Connection[Record], box: SecretBox) -> None:
    """Rules of rows first, all of them; then the rules between rows, all of them; and nothing is stored."""
    rows = """\
version: 1
accounts:
  - {id: K1, language: fr, country: Germany}
seats:
  - username: Anna
    account: K1
    extension: "110"
external_numbers:
  - {number: "0221", account: K1, status: verified}
fax_boxes:
  - {name: office, account: K1, email: nobody}
"""
    with pytest.raises(DocumentError) as error:
        await _apply(db, rows, box)
    said = str(error.value).splitlines()
    assert [" ".join(line.split(": ")[:2]) for line in said] == [
        "t.yaml:3 accounts[0].country",
        "t.yaml:3 accounts[0].language",
        "t.yaml:5 seats[0].username",
        "t.yaml:7 seats[0].extension",
        "t.yaml:9 external_numbers[0]",
        "t.yaml:9 external_numbers[0].number",
        "t.yaml:11 fax_boxes[0].email",
    ]
    assert "language is de or en" in str(error.value)
    between = """\
version: 1
accounts: [{id: K1}]
carriers: [{name: t, domain: t.example, username: u}]
seats:
  - {username: anna1, account: K1, extension: "115"}
  - {username: bert1, account: K9}
numbers:
  - number: "+4930123456"
    account: K1
    carrier: nobody
    cli_prefix: "05"
    route: {trunk: hq}
  - {number: "+4922838611", account: K1, carrier: t}
blocks:
  - prefix: "+49228386"
    digits: 2
    account: K1
    carrier: t
    ranges:
      - {prefix: "+492283860", route: {fax: office}}
      - {prefix: "+4922838601"}
"""
    with pytest.raises(DocumentError) as error:
        await _apply(db, between, box)
    said = str(error.value).splitlines()
    for expected in (
        "t.yaml:5: seats[0].extension: extension 115 is a national short code in DE",
        "t.yaml:6: seats[1].account: account K9 does not exist",
        "t.yaml:10: numbers[0].carrier: carrier nobody does not exist",
        "t.yaml:11: numbers[0].cli_prefix: cli_prefix 05 begins with 0",
        "t.yaml:12: numbers[0].route: route leads to trunk hq, which does not exist in account K1",
        "t.yaml:13: numbers[1]: it lies in block +49228386",
        "t.yaml:15: blocks[0]: number +4922838611 lies in it",
        "t.yaml:20: blocks[0].ranges[0].route: route leads to fax box office",
        "t.yaml:20: blocks[0].ranges[0]: it overlaps with range +4922838601",
        "t.yaml:21: blocks[0].ranges[1]: it overlaps with range +492283860",
    ):
        assert any(line.startswith(expected) for line in said), (expected, said)
    assert len(said) == 10
    assert await db.fetchval("SELECT count(*) FROM sip_edge.accounts") == 0


async def test_pruning_what_is_used_is_an_error(db: Connection[Record], file: Path, box: SecretBox) -> None:
    """A document that leaves out the trunk that its numbers lead to is not applied, with or without --prune."""
    await apply_document(db, read_document(file, ENVIRONMENT), box)
    text = FULL.replace(", password_file: hq2.txt", "")
    text = text[: text.index("trunks:")] + text[text.index("seats:") :]
    text = text.replace("    trunk: hq\n", "")
    with pytest.raises(DocumentError, match=r"ranges\[0\].route: route leads to trunk hq, which does not exist"):
        await _apply(db, text, box, prune=True)
    assert await db.fetchval("SELECT count(*) FROM sip_edge.trunks") == 2


async def test_the_mark_needs_a_stored_password(db: Connection[Record], box: SecretBox) -> None:
    """An export applied elsewhere cannot bring passwords along, and says so for each."""
    text = "version: 1\naccounts: [{id: K1}]\nseats: [{username: anna1, account: K1, password: (unchanged)}]"
    with pytest.raises(DocumentError, match=r"t.yaml:3: seats\[0\].*stands for a stored password, and there is none"):
        await _apply(db, text, box)


async def test_pdf_password_goes_when_it_is_left_out(db: Connection[Record], box: SecretBox) -> None:
    """T4.11: no key, no encryption, and the stored secret is deleted."""
    text = (
        "version: 1\naccounts: [{id: K1}]\nfax_boxes: [{name: f, account: K1, email: f@k1.example, pdf_password: abc}]"
    )
    await _apply(db, text, box)
    assert await _apply(db, text.replace(", pdf_password: abc", ""), box) == ["~ fax_boxes K1/f: password removed"]
    assert await db.fetchval("SELECT sealed_pdf_password FROM sip_edge.fax_boxes") is None
