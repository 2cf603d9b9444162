"""A range as SQL, as ids and as plain data."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from burla_provider.ranges import Key, KeyRange
from burla_provider.ranges.key import CTID, KeyColumn

ID = Key((KeyColumn("id", "integer"),))
PAIR = Key((KeyColumn("a b", "bigint"), KeyColumn("at", "timestamp with time zone")))

MINIMUM = str(-(2**31))
TRIPLE = Key(tuple(KeyColumn(name, "integer") for name in "abc"))


def where(key_range: KeyRange) -> str:
    return key_range.where.as_string(None)


@pytest.mark.parametrize(
    ("key_range", "condition"),
    [
        (KeyRange(ID, 0), "TRUE"),
        (KeyRange(Key(), 0), "TRUE"),
        (KeyRange(ID, 0, ("1",)), "\"id\" >= '1'::integer"),
        (KeyRange(ID, 0, None, ("5",)), "\"id\" < '5'::integer"),
        (KeyRange(ID, 0, ("1",), ("5",)), "\"id\" >= '1'::integer AND \"id\" < '5'::integer"),
        (KeyRange(ID, 0, nulls=True), '"id" IS NULL'),
        (
            KeyRange(PAIR, 0, ("7", "2024-01-01 00:00:00+00")),
            "(\"a b\", \"at\") >= ('7'::bigint, '2024-01-01 00:00:00+00'::timestamp with time zone)",
        ),
        (KeyRange(TRIPLE, 0, ("1", "2", "3"), ("1", "2", "7")), "(a, b) = (1, 2) AND c >= 3 AND c < 7"),
        (
            KeyRange(TRIPLE, 0, ("1", "2", "3"), ("1", "4", "3")),
            "a = 1 AND (b, c) >= (2, 3) AND (b, c) < (4, 3) AND b >= 2 AND b <= 4",
        ),
        (
            KeyRange(TRIPLE, 0, ("1", "2", "3"), ("4", "2", "3")),
            "(a, b, c) >= (1, 2, 3) AND (a, b, c) < (4, 2, 3) AND a >= 1 AND a <= 4",
        ),
        (KeyRange(TRIPLE, 0, ("1", MINIMUM, MINIMUM), ("4", MINIMUM, MINIMUM)), "a >= 1 AND a < 4"),
        (KeyRange(TRIPLE, 0, ("1", MINIMUM, MINIMUM), ("4", "2", "3")), "a >= 1 AND (a, b, c) < (4, 2, 3) AND a <= 4"),
        (
            KeyRange(TRIPLE, 0, ("1", MINIMUM, MINIMUM), ("1", "2", "3")),
            f"a = 1 AND b >= {MINIMUM} AND (b, c) < (2, 3) AND b <= 2",
        ),
        (KeyRange(TRIPLE, 0, ("1", "2", "3"), ("1", "2", "3")), "(a, b) = (1, 2) AND c >= 3 AND c < 3"),
        (KeyRange(TRIPLE, 0, ("1", "2", "3"), ("1", "4", MINIMUM)), "a = 1 AND (b, c) >= (2, 3) AND b < 4 AND b >= 2"),
        (KeyRange(TRIPLE, 0, None, ("1", MINIMUM, MINIMUM)), "a < 1"),
        (KeyRange(TRIPLE, 0, None, (MINIMUM, MINIMUM, MINIMUM)), f"a < {MINIMUM}"),
        (KeyRange(TRIPLE, 0, None, ("1", MINIMUM, "5")), f"(a, b, c) < (1, {MINIMUM}, 5)"),
        (KeyRange(TRIPLE, 0, ("1", MINIMUM, MINIMUM)), "a >= 1"),
    ],
)
def test_a_range_is_a_condition(key_range: KeyRange, condition: str) -> None:
    shown = where(key_range)
    assert (re.sub(r"""["']|::integer""", "", shown) if key_range.key == TRIPLE else shown) == condition


def test_ids_are_inclusive() -> None:
    key_range = KeyRange(ID, 0, ("10",), ("20",))
    assert (key_range.start_id, key_range.end_id) == (10, 19)


def test_an_open_end_is_the_limit_of_the_type() -> None:
    assert (KeyRange(ID, 0).start_id, KeyRange(ID, 0).end_id) == (-(2**31), 2**31 - 1)


@pytest.mark.parametrize("key_range", [KeyRange(ID, 0, nulls=True), KeyRange(PAIR, 0), KeyRange(Key(), 0)])
def test_a_range_without_integer_bounds_has_no_ids(key_range: KeyRange) -> None:
    with pytest.raises(TypeError, match=r"Use key_range\.where"):
        _ = key_range.start_id


@pytest.mark.parametrize(
    ("key_range", "shown"),
    [
        (
            KeyRange(PAIR, 4, ("1", "x"), None, relation=("s", "t"), expected_rows=7, job_key="job"),
            f"range 4 (1, x <= {PAIR} < ...) of s.t",
        ),
        (KeyRange(PAIR, 4, None, ("2", "y"), job_key="job"), f"range 4 (... <= {PAIR} < 2, y)"),
        (KeyRange(PAIR, 4, nulls=True, expected_rows=0, job_key="job"), f"range 4 ({PAIR} IS NULL)"),
    ],
)
def test_a_range_survives_json_and_describes_itself(key_range: KeyRange, shown: str) -> None:
    item = json.loads(json.dumps(key_range.to_item()))
    copy = KeyRange.from_item(PAIR, 4, item, job_key="job")
    assert copy == key_range
    assert copy.idempotency_key == key_range.idempotency_key
    assert str(copy) == shown


@pytest.mark.parametrize(
    ("key_range", "shown"),
    [
        (KeyRange(CTID, 0, None, ("(256,0)",)), "range 0 (pages 0 to 255)"),
        (KeyRange(CTID, 1, ("(4352,0)",), ("(4608,0)",)), "range 1 (pages 4,352 to 4,607)"),
        (KeyRange(CTID, 2, ("(7,0)",), ("(8,0)",)), "range 2 (page 7)"),
        (KeyRange(CTID, 3, ("(4608,0)",), None), "range 3 (pages 4,608 to the last)"),
        (KeyRange(CTID, 4, relation=("s", "t")), "range 4 (all pages) of s.t"),
        (KeyRange(CTID, 5, ("(7,0)",), ("(7,12)",)), "range 5 ((7,0) <= ctid < (7,12))"),
        (KeyRange(CTID, 6, ("(7,3)",), None), "range 6 ((7,3) <= ctid < ...)"),
        (KeyRange(Key(), 0), "range 0 (all rows)"),
    ],
)
def test_a_range_of_pages_has_page_numbers(key_range: KeyRange, shown: str) -> None:
    assert str(key_range) == shown


def test_an_idempotency_key_depends_on_the_rows_and_not_on_the_index() -> None:
    key_range = KeyRange(PAIR, 4, ("1", "x"), ("2", "y"), job_key="job")
    others = {"lower": ("1", "w"), "upper": None, "nulls": True, "relation": ("s", "t"), "job_key": "another"}
    keys = {replace(key_range, **{name: value}).idempotency_key for name, value in others.items()}
    assert len(keys | {key_range.idempotency_key}) == 6
    assert replace(key_range, index=5, expected_rows=7).idempotency_key == key_range.idempotency_key
    assert key_range.idempotency_key.startswith("job/")
