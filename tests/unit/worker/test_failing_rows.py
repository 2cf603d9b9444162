from dataclasses import replace

import pytest

from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.failing_rows import MAX_FAILING_KEYS, find_failing_parts

WHOLE = KeyRange(Key((KeyColumn("id", "bigint"),)), 0, ("0",), ("1000",))


def halve(part):
    if part.end_id == part.start_id:
        return None
    middle = (str((part.start_id + part.end_id + 1) // 2),)
    return replace(part, upper=middle), replace(part, lower=middle)


def find(failing):
    parts = find_failing_parts(WHOLE, lambda part: any(part.start_id <= row <= part.end_id for row in failing), halve)
    return [part.start_id for part in parts]


@pytest.mark.parametrize("failing", [[0], [999], [17], [3, 4, 500]])
def test_every_failing_row_is_found(failing):
    assert find(failing) == failing


def test_the_search_stops_at_the_maximum():
    assert find(range(1000)) == list(range(MAX_FAILING_KEYS))


def test_rows_that_fail_only_together_are_reported_together():
    parts = find_failing_parts(WHOLE, lambda part: part.start_id <= 10 and part.end_id >= 900, halve)
    assert parts == [WHOLE]


def test_one_row_is_found_in_few_steps():
    trials = []
    find_failing_parts(WHOLE, lambda part: trials.append(part) or part.start_id <= 17 <= part.end_id, halve)
    assert len(trials) <= 2 * 10
