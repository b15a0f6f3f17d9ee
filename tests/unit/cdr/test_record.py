"""Records as JSON: what the tables get."""

import json
from dataclasses import fields, replace

import pytest

from dialplan.model import Step
from edge.cdr.record import CALL_COLUMNS, REFUSED_COLUMNS, Attempt, CallRecord, Record, to_json
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


@pytest.mark.parametrize("evil", ["1\0002", "1\udcff2", "1\0\udcff2"])
@pytest.mark.parametrize("record", [call("c1"), refused("r1")])
def test_every_text_of_a_record_can_be_stored(record: Record, evil: str) -> None:
    """Each field that is a text, those of attempts and of the trace too, whoever may have filled it."""

    def spoilt(value: object) -> object:
        return evil if isinstance(value, str) or value is None else value

    changed = {f.name: evil for f in fields(record) if f.type.startswith("str")}
    if isinstance(record, CallRecord):
        attempt = Attempt(*map(spoilt, record.attempts[0]))._replace(cause=1, sent=(evil, evil), hosts=(evil,))
        changed |= {"attempts": (attempt,), "trace": (Step(evil, evil),)}
    assert len(changed) > 10
    line = to_json(replace(record, **changed))
    assert b"\\u0000" not in line and "\0" not in json.dumps(json.loads(line), ensure_ascii=False)
