"""Each provisioning rule of domain 3.5 and section 6 is refused by the database, in words for a support agent."""

from __future__ import annotations

import asyncio
import hashlib

import asyncpg
import pytest
from asyncpg import Record
from asyncpg.connection import Connection

from config.apply import explain
from dialplan import numbering

_NUMBER = "INSERT INTO sip_edge.numbers (number, account, carrier, {}) VALUES ('+4930999999', 'K1', 'telekom', {})"
_SEAT = "INSERT INTO sip_edge.seats (username, account, {}) VALUES ('emil1', 'K1', {})"
_RANGE = "INSERT INTO sip_edge.ranges (block, prefix, route_kind, route_target) VALUES ('+49228386', {}, {}, {})"
_EXTERNAL = "INSERT INTO sip_edge.external_numbers (account, number, status, method, verified_at) VALUES ({})"
_SHORTER = "UPDATE sip_edge.blocks SET digits = 1 WHERE prefix = '+49228386'; "
_SIXTY_ONE = """
    INSERT INTO sip_edge.numbers (number, account, carrier, route_kind, route_target)
    SELECT '+4930888' || n, 'K1', 'telekom', 'trunk', 'hq' FROM generate_series(100, 159) AS n
"""
_ELEVEN = """
    INSERT INTO sip_edge.ranges (block, prefix, route_kind, route_target)
    SELECT '+49228386', '+492283861' || n, 'trunk', 'hq' FROM generate_series(0, 9) AS n
"""

REFUSED = [
    # seats: usernames (W1)
    *[
        (f"INSERT INTO sip_edge.seats (username, account) VALUES ('{name}', 'K1')", "username has at least 5")
        for name in ("abcd", "Abcde", ".abcd", "abcd.", "a..bc", "a._bc", "müller", "ab cd", "abcde\n", "\u0430bcde")
    ],
    # seats: extensions (3.5)
    *[
        (_SEAT.format("extension", f"'{e}'"), "extension is 2 to 8 digits, not beginning with")
        for e in ("77", "770", "78123", "110", "1100", "1121", "11833", "0123", "1", "123456789", "1411", "141")
    ],
    (_SEAT.format("extension", "'115'"), "seats emil1: extension 115 is a national short code in DE"),
    (_SEAT.format("extension", "'116117'"), "extension 116117 is a national short code"),
    (_SEAT.format("extension", "'201'"), "extension 201 is already that of seat anna1"),
    (_SEAT.format("extension", "'23112'"), "extension 23112 is CLI prefix 23 of +493012345601 followed by emergency"),
    ("UPDATE sip_edge.seats SET extension = '999' WHERE username = 'dora3'", "999 is an emergency number in GB"),
    ("UPDATE sip_edge.seats SET extension = '101' WHERE username = 'dora3'", "101 is a national short code in GB"),
    # seats: numbers (W4, C2, T6.6)
    (_SEAT.format("primary_number", "'+493012345603'"), "primary_number +493012345603 is not a number of account K1"),
    (_SEAT.format("primary_number", "'+493012345601'"), "leads to seat anna1; a number belongs to one seat"),
    (_SEAT.format("primary_number", "'030123'"), "primary_number is E.164 with +"),
    (
        "UPDATE sip_edge.seats SET primary_number = '+493012345602' WHERE account = 'K1'",
        "primary_number +493012345602 is already that of seat",
    ),
    (_SEAT.format("external_numbers", "'{+4922129191998}'"), "+4922129191998 is not a verified number of account K1"),
    (_SEAT.format("external_numbers", "'{+4922129191997}'"), "+4922129191997 is not a verified number of account K1"),
    (_SEAT.format("present", "'+4922129191999'"), "present is primary, anonymous, or one of the seat's"),
    (_SEAT.format("trunk", "'branch'"), "seats emil1: trunk branch does not exist in account K1"),
    ("INSERT INTO sip_edge.seats (username, account) VALUES ('emil1', 'K9')", "account K9 does not exist"),
    ("INSERT INTO sip_edge.seats (username, account) VALUES ('hq-k1', 'K1')", "hq-k1 is already that of trunk K1/hq"),
    ("INSERT INTO sip_edge.seats (username, account) VALUES ('anna1', 'K1')", "a seat with this username exists"),
    # numbers: form and length (W5)
    (_NUMBER.replace("+4930999999", "030999999").format("type", "'geographic'"), "number is E.164 with +"),
    (_NUMBER.replace("+4930999999", "+491234567890123").format("type", "'geographic'"), "at most 14 digits with 49"),
    (_NUMBER.replace("+4930999999", "+493012345601").format("type", "'geographic'"), "this number exists already"),
    # numbers: CLI prefixes (N6, 3.2-10)
    (_NUMBER.format("cli_prefix", "'23'"), "cli_prefix 23 is already that of number +493012345601 in account K1"),
    (_NUMBER.format("cli_prefix", "'05'"), "cli_prefix 05 begins with 0"),
    (_NUMBER.format("cli_prefix", "'123'"), "cli_prefix is two digits"),
    (
        "BEGIN; UPDATE sip_edge.seats SET extension = '24110' WHERE username = 'bert1'; SET CONSTRAINTS ALL IMMEDIATE;"
        + _NUMBER.format("cli_prefix", "'24'"),
        "cli_prefix 24 followed by an emergency number is the extension of seat bert1",
    ),
    # numbers and ranges: routes
    (_NUMBER.format("route_kind, route_target", "'seat', 'carl2'"), "route leads to seat carl2, which does not exist"),
    (_NUMBER.format("route_kind, route_target", "'trunk', 'branch'"), "route leads to trunk branch, which does not"),
    (_NUMBER.format("route_kind, route_target", "'fax', 'home'"), "route leads to fax box home, which does not exist"),
    (_NUMBER.format("route_kind, route_target", "'extension', '299'"), "extension 299, which no seat of account K1"),
    (_NUMBER.format("route_kind, route_target", "'forward', '0301'"), "forward to an E.164 number with +"),
    (_NUMBER.format("route_kind, route_target", "'forward', '+4930999999'"), "it is forwarded to itself"),
    (_NUMBER.format("route_kind, route_target", "'reject', '200'"), "reject with a status 400 to 699"),
    (_NUMBER.format("on_busy_kind, on_busy_target", "'seat', 'nobody'"), "on_busy leads to seat nobody"),
    (_NUMBER.format("served_account", "'K2'").replace("'K2')", "'K1')"), "served_account is another account"),
    (_RANGE.format("'+492283861'", "'seat'", "'nobody'"), "ranges +492283861: route leads to seat nobody"),
    ("DELETE FROM sip_edge.seats WHERE username = 'anna1'", "numbers +493012345601: route leads to seat anna1"),
    ("UPDATE sip_edge.seats SET account = 'K2', extension = NULL WHERE username = 'anna1'", "leads to seat anna1"),
    # blocks and ranges (B5, T6.7, T6.9)
    (
        "INSERT INTO sip_edge.blocks (prefix, digits, account, carrier) VALUES ('+492283861', 1, 'K2', 'telekom')",
        "overlaps with block +49228386",
    ),
    (
        "INSERT INTO sip_edge.blocks (prefix, digits, account, carrier) VALUES ('+4930123456', 2, 'K1', 'telekom')",
        "lies in it; a number of a block is a range of the block",
    ),
    (
        "INSERT INTO sip_edge.blocks (prefix, digits, account, carrier) VALUES ('+4912345678', 6, 'K1', 'telekom')",
        "in Germany of at most 14 with 49",
    ),
    (_NUMBER.replace("+4930999999", "+4922838655").format("type", "'geographic'"), "it lies in block +49228386"),
    (_NUMBER.replace("+4930999999", "+492283860").format("type", "'geographic'"), "a range with the same digits"),
    (_RANGE.format("'+4922838605'", "'none'", "NULL"), "it overlaps with range +492283860"),
    (_RANGE.format("'+492293861'", "'none'", "NULL"), "a range begins with the prefix of its block"),
    (_RANGE.format("'+49228386123'", "'none'", "NULL"), "it is longer than the numbers of block +49228386"),
    (_SHORTER + _RANGE.format("'+4922838677'", "'none'", "NULL"), "it is longer than the numbers of block"),
    ("DELETE FROM sip_edge.blocks", "delete its ranges before a block"),
    # elements of a trunk (B6, T6.11)
    (_SIXTY_ONE, "trunk hq of account K1 would have 61 number elements"),
    (_ELEVEN, "trunk hq of account K1 would have more than 10 ranges of block +49228386"),
    # external numbers (C1 to C6, T6.1 to T6.4)
    (_EXTERNAL.format("'K1', '022129191996', 'unverified', NULL, NULL"), "number is E.164 with +"),
    (_EXTERNAL.format("'K1', '004922129191996', 'unverified', NULL, NULL"), "number is E.164 with +"),
    (_EXTERNAL.format("'K1', '4922129191996', 'unverified', NULL, NULL"), "number is E.164 with +"),
    (_EXTERNAL.format("'K1', '110', 'unverified', NULL, NULL"), "contact support"),
    (_EXTERNAL.format("'K1', '+4922129191XX', 'unverified', NULL, NULL"), "contact support"),
    *[
        (_EXTERNAL.format(f"'K1', '{n}', 'unverified', NULL, NULL"), "may never be shown as a caller's number")
        for n in ("+499001234567", "+4913712345", "+491183312", "+49110123456", "+449012345678")
    ],
    (_EXTERNAL.format("'K1', '+4922129191996', 'verified', 'call', NULL"), "a verified number has verified_at"),
    (_EXTERNAL.format("'K1', '+4922129191996', 'verified', 'sms', now()"), "method sms is for mobile numbers only"),
    (_EXTERNAL.format("'TRIAL', '+4922129191996', 'verified', 'call', now()"), "the account is on trial"),
    (_EXTERNAL.format("'K1', '+493012345603', 'unverified', NULL, NULL"), "it is a number of this edge"),
    (_EXTERNAL.format("'K1', '+4922838677', 'unverified', NULL, NULL"), "it is a number of this edge"),
    # carriers and trunks
    ("INSERT INTO sip_edge.carriers (name, domain) VALUES ('x', 'x.example')", "mode register needs a username"),
    ("INSERT INTO sip_edge.carriers (name, domain, mode) VALUES ('x', 'x.example', 'static')", "needs sources"),
    ("UPDATE sip_edge.trunks SET username = 'hq-k2' WHERE account = 'K1'", "hq-k2 is already that of trunk K2/hq"),
    ("UPDATE sip_edge.trunks SET username = 'anna1' WHERE account = 'K1'", "anna1 is already that of a seat"),
    ("UPDATE sip_edge.trunks SET default_number = '+493012345603' WHERE account = 'K1'", "not a number of account K1"),
    ("UPDATE sip_edge.trunks SET sources = '{10.0.0.0/24}'", "an address of its sources is also one of trunk"),
    (
        "UPDATE sip_edge.carriers SET sources = '{10.0.0.9}';"
        "UPDATE sip_edge.trunks SET sources = '{10.0.0.0/24}' WHERE account = 'K1'",
        "is also one of",
    ),
    ("UPDATE sip_edge.trunks SET certificate = 'pbx.example' WHERE account = 'K1'", "certificate needs mode static"),
    ("UPDATE sip_edge.trunks SET address = 'sip:pbx.example' WHERE account = 'K1'", "address needs mode static"),
    ("UPDATE sip_edge.trunks SET mode = 'static' WHERE account = 'K1'", "needs sources (the addresses or networks"),
    ("UPDATE sip_edge.trunks SET mode = 'static', certificate = 'PBX.example'", "a host name or address in lower case"),
    ("UPDATE sip_edge.trunks SET mode = 'static', certificate = '*.pbx.example'", "a host name or address in lower"),
    ("UPDATE sip_edge.trunks SET mode = 'static', certificate = 'pbx.example'", "is already that of trunk"),
    (
        "UPDATE sip_edge.trunks SET mode = 'static', certificate = 'pbx.example', address = 'pbx.example:5061'"
        " WHERE account = 'K1'",
        "address is a SIP URI without a user",
    ),
    (
        "UPDATE sip_edge.trunks SET mode = 'static', sources = '{10.0.0.1}', certificate = CASE account WHEN 'K1' THEN"
        " 'one.example' END",
        "unless both are known by their certificates",
    ),
    # accounts
    ("UPDATE sip_edge.accounts SET time_zone = 'Europe/Bonn' WHERE id = 'K1'", "time_zone is a name of the time zone"),
    ("UPDATE sip_edge.accounts SET emergency_number = '+493012345603' WHERE id = 'K1'", "not a number of this account"),
    ("DELETE FROM sip_edge.accounts WHERE id = 'K1'", "account"),
    ("UPDATE sip_edge.accounts SET allowed_destinations = '{49,*}' WHERE id = 'K1'", "allowed_destinations lists"),
    # passwords
    ("SELECT sip_edge.set_seat_password('anna1', 'short')", "a password has at least 8 characters"),
    ("SELECT sip_edge.set_seat_password('nobody', 'long enough')", "seats nobody: does not exist"),
    (
        "SELECT sip_edge.set_seat_password('bert1', 'long enough');"
        "UPDATE sip_edge.seats SET username = 'bert2' WHERE username = 'bert1'",
        "a new username needs a new password",
    ),
    (
        "SELECT sip_edge.set_seat_password('bert1', 'long enough');"
        "UPDATE sip_edge.settings SET value = 'other' WHERE name = 'realm'",
        "all stored passwords are for realm sip-edge",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "words"), REFUSED)
async def test_refused_with_words(settled: Connection[Record], sql: str, words: str) -> None:
    """Bad rows are refused, and the error says what and why."""
    with pytest.raises(asyncpg.PostgresError) as refused:
        await settled.execute(sql)
    await settled.execute("ROLLBACK")
    assert words in await explain(settled, refused.value)


ALLOWED = [
    "UPDATE sip_edge.trunks SET mode = 'static', sources = '{10.0.0.1}', certificate = lower(account) || '.example'",
    "UPDATE sip_edge.trunks SET mode = 'static', certificate = 'pbx.example', address = 'sip:[2001:db8::1]:5081'"
    " WHERE account = 'K1'",
    *[_SEAT.format("extension", f"'{e}'") for e in ("118", "1180", "118333", "76", "79", "11", "113")],  # T3.7
    *[f"INSERT INTO sip_edge.seats (username, account) VALUES ('{n}', 'K1')" for n in ("abcde", "a.b-c_d", "12345")],
    _NUMBER.replace("+4930999999", "+49123456789012").format("type", "'geographic'"),  # T6.22
    _NUMBER.format("cli_prefix", "'14'"),
    "UPDATE sip_edge.accounts SET allow_zero_cli_prefixes = true;" + _NUMBER.format("cli_prefix", "'05'"),
    _SIXTY_ONE.replace("159", "158"),
    _ELEVEN.replace("0, 9", "0, 8"),
    _ELEVEN.replace("'trunk', 'hq'", "'seat', 'anna1'"),
    # the switchboard number beside a block, as German numbering has it
    _NUMBER.replace("+4930999999", "+492283869").format("type", "'geographic'"),
    # an order that only holds at the end of the transaction
    "BEGIN; INSERT INTO sip_edge.numbers (number, account, carrier, route_kind, route_target)"
    " VALUES ('+4930999999', 'K7', 'late', 'seat', 'late1');"
    "INSERT INTO sip_edge.seats (username, account) VALUES ('late1', 'K7');"
    "INSERT INTO sip_edge.accounts (id) VALUES ('K7');"
    "INSERT INTO sip_edge.carriers (name, domain, username) VALUES ('late', 'x.example', 'u'); COMMIT",
    "BEGIN; UPDATE sip_edge.seats SET extension = '202' WHERE username = 'anna1';"
    "UPDATE sip_edge.seats SET extension = '201' WHERE username = 'bert1'; COMMIT",
]


@pytest.mark.parametrize("sql", ALLOWED)
async def test_allowed(world: Connection[Record], sql: str) -> None:
    """What the rules allow is stored."""
    await world.execute(sql)


async def test_every_rule_has_words(db: Connection[Record]) -> None:
    """Each constraint of the provisioning tables has its sentence."""
    tables = ["carriers", "accounts", "trunks", "seats", "blocks", "ranges", "numbers", "external_numbers", "fax_boxes"]
    bare = await db.fetch(
        "SELECT conname FROM pg_constraint WHERE connamespace = 'sip_edge'::regnamespace AND contype IN "
        "('c', 'f', 'u', 'x', 'p') "
        "AND conrelid IN (SELECT format('sip_edge.%I', t)::regclass FROM unnest($1::text[]) t) "
        "AND obj_description(oid, 'pg_constraint') IS NULL",
        tables,
    )
    assert bare == []


async def test_facts_are_those_of_the_dial_plan(db: Connection[Record]) -> None:
    """The database refuses by the same emergency numbers, short codes and classes that the dial plan routes by."""
    emergency = {(c, d) for c, digits in numbering.EMERGENCY.items() for d in digits}
    short = {(c, d) for c, digits in numbering.SHORT_CODES.items() for d in digits}
    assert {tuple(r) for r in await db.fetch("SELECT country, digits FROM sip_edge.emergency_numbers")} == emergency
    assert {tuple(r) for r in await db.fetch("SELECT country, digits FROM sip_edge.short_codes")} == short
    assert {r[0] for r in await db.fetch("SELECT prefix FROM sip_edge.never_shown")} == set(numbering.NEVER_SHOWN)


async def test_deleted_trunk_frees_its_numbers(world: Connection[Record]) -> None:
    """B9: numbers and ranges of a deleted trunk are free at once."""
    await world.execute("DELETE FROM sip_edge.trunks WHERE account = 'K1'")
    assert await world.fetchval("SELECT route_kind FROM sip_edge.ranges") == "none"


async def test_revoked_number_leaves_its_seats(world: Connection[Record]) -> None:
    """T6.5: a number that is no longer verified is presented by nobody, and revoking is always possible."""
    await world.execute(
        "UPDATE sip_edge.seats SET external_numbers = '{+4922129191999}', present = '+4922129191999' "
        "WHERE username = 'anna1'"
    )
    await world.execute("UPDATE sip_edge.external_numbers SET status = 'revoked' WHERE number = '+4922129191999'")
    row = await world.fetchrow("SELECT external_numbers, present FROM sip_edge.seats WHERE username = 'anna1'")
    assert row is not None and tuple(row) == ([], "primary")


async def test_one_of_two_assignments_wins(world: Connection[Record], url: str) -> None:
    """T6.21: two seats that ask for the same number at the same time do not both get it."""

    async def take(seat: str) -> bool:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(
                "UPDATE sip_edge.seats SET primary_number = '+493012345602' WHERE username = $1", seat
            )
            return True
        except asyncpg.PostgresError:
            return False
        finally:
            await connection.close()

    assert sorted(await asyncio.gather(take("anna1"), take("bert1"))) == [False, True]


async def test_block_and_number_at_the_same_time(world: Connection[Record], url: str) -> None:
    """T6.9: a block and a single number within it cannot both come into being, whoever is first."""
    other = await asyncpg.connect(url)
    block = "INSERT INTO sip_edge.blocks (prefix, digits, account, carrier) VALUES ('+4930999', 3, 'K2', 'telekom')"
    number = "INSERT INTO sip_edge.numbers (number, account, carrier) VALUES ('+4930999123', 'K1', 'telekom')"
    first = world.transaction()
    await first.start()
    await world.execute(number)
    waiting = asyncio.create_task(other.execute(block))
    await first.commit()
    with pytest.raises(asyncpg.PostgresError, match="number \\+4930999123 lies in it"):
        await waiting
    await other.close()


async def test_password_functions_store_both_digests(world: Connection[Record]) -> None:
    """RFC 7616: HA1 = H(username:realm:password), for MD5 and SHA-256, with the realm of the settings table."""
    await world.execute("SELECT sip_edge.set_seat_password('anna1', 'Circle of Life')")
    await world.execute("SELECT sip_edge.set_trunk_password('hq-k1', 'Circle of Life')")
    row = await world.fetchrow("SELECT ha1_md5, ha1_sha256 FROM sip_edge.seats WHERE username = 'anna1'")
    assert row is not None and tuple(row) == (
        hashlib.md5(b"anna1:sip-edge:Circle of Life").hexdigest(),
        hashlib.sha256(b"anna1:sip-edge:Circle of Life").hexdigest(),
    )
    assert await world.fetchval("SELECT ha1_md5 FROM sip_edge.trunks WHERE username = 'hq-k1'") == (
        hashlib.md5(b"hq-k1:sip-edge:Circle of Life").hexdigest()
    )
