"""Records as JSON: what the tables get."""

import json
from dataclasses import replace

from edge.cdr.record import CALL_COLUMNS, REFUSED_COLUMNS, to_json
from tests.unit.cdr.records import call, refused


def test_a_record_is_one_line_of_json_with_columns_as_keys() -> None:
    """PostgreSQL makes the row of it: keys are the columns, times ISO 8601 with their zone, lists JSON."""
    line = to_json(call("c1"))
    row = json.loads(line)
    assert b"\n" not in line
    assert set(row) == set(CALL_COLUMNS)
    assert row["ringing_at"] == "2026-11-22T12:00:00.120000+00:00"
    assert row["trace"] == [{"rule": "1.2", "text": "a rule"}]
    assert row["media"]["lost_b"] == 6
    assert row["attempts"][0]["status"] == 200
    assert set(json.loads(to_json(refused("r1")))) == set(REFUSED_COLUMNS) - {"caller"}


def test_what_a_peer_sends_cannot_make_a_record_unstorable() -> None:
    """NUL and lone surrogates are refused by PostgreSQL, endless keys by its indexes: they are cut, the rest stays."""
    bad = replace(call("c1"), a_call_id="x" * 5000, dialled="1\0002\udcff", source_name="Möller 😀")
    line = to_json(bad)
    row = json.loads(line)
    assert len(row["a_call_id"]) == 1000
    assert row["dialled"] == "12\\udcff"
    assert row["source_name"] == "Möller 😀"
    assert b"\n" not in line
