"""A plan that was stored is the same plan."""

from __future__ import annotations

import json
from dataclasses import replace

from burla_provider.ranges import Key, KeyRange
from burla_provider.ranges.key import KeyColumn
from burla_provider.ranges.plan import from_record, to_record
from burla_provider.ranges.window import Window
from tests.unit.ranges.test_plan import made

PAIR = Key((KeyColumn("tenant", "integer"), KeyColumn("word", "text")))


def test_a_plan_survives_the_way_through_json() -> None:
    partition = ("sales", "orders_2024")
    ranges = (
        KeyRange(PAIR, 0, ("1", "a"), ("1", "b"), relation=partition, expected_rows=3),
        KeyRange(PAIR, 1, ("1", "b"), ("2", "a"), relation=partition, expected_rows=7),
    )
    plan = made(key=PAIR, window=Window(("1", "a"), ("2", "a")), relations=(partition,))
    plan = replace(plan, ranges=ranges)
    record = to_record(plan)
    stored = from_record(json.loads(json.dumps(record)))
    assert (stored.schema, stored.table, stored.key, stored.ranges) == ("public", "orders", PAIR, ranges)
    assert stored.largest_first() == plan.largest_first() == [ranges[1], ranges[0]]
    assert stored.as_dict() == plan.as_dict()
    assert str(stored) == str(plan)
    assert to_record(stored) == record
