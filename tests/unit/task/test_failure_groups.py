"""Failures by kind: each failed item is in one group, and the report has a limited size."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burla_provider.task import failure_groups
from burla_provider.task.failure_groups import MAX_GROUPS, MAX_RANGES, FailureGroups, RangePlace, share
from burla_provider.worker.outcome import Failure, Outcome


def failed(index: int, message: str = "no", type_: str = "ValueError", **changes: Any) -> Outcome:
    names = ("attempts", "worker")
    outcome = {name: changes.pop(name) for name in names if name in changes}
    return Outcome(index, failure=Failure(type_, message, **changes), **outcome)


def groups_of(*outcomes: Outcome) -> FailureGroups:
    groups = FailureGroups("range {}".format)
    for outcome in outcomes:
        groups.add(outcome)
    return groups


def test_errors_of_the_same_kind_are_one_group() -> None:
    groups = groups_of(
        failed(3, "order 17 has no currency", worker="a:1", traceback="first"),
        Outcome(4),
        failed(5, "order 9 has no currency", worker="b:2", attempts=3, traceback="second"),
        failed(6, "order 9 has no currency", type_="KeyError"),
        failed(7, "order 9 has no currency", sqlstate="22012"),
    )
    seen = groups.as_dict()
    assert (seen["count"], seen["kinds"]) == (4, 3)
    first = seen["groups"][0]
    assert {name: first[name] for name in ("type", "message", "pattern", "count", "attempts", "traceback")} == {
        "type": "ValueError",
        "message": "order 17 has no currency",
        "pattern": "order <number> has no currency",
        "count": 2,
        "attempts": 3,
        "traceback": "first",
    }
    assert (first["workers"], first["worker_count"]) == (["a:1", "b:2"], 2)
    assert [(one["index"], one["item"], one["attempts"]) for one in first["ranges"]] == [
        (3, "range 3", 1),
        (5, "range 5", 3),
    ]


def test_the_times_are_those_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = groups_of()
    for index, now in enumerate((1000.0, 1007.0, 1003.0)):
        monkeypatch.setattr(failure_groups.time, "time", lambda now=now: now)
        groups.add(failed(index, str(index % 2)))
    [group] = groups.as_dict()["groups"]
    assert (group["first"], group["last"]) == (1000.0, 1003.0)


def test_a_range_has_its_keys_and_its_place() -> None:
    groups = groups_of(failed(3, keys="id between 5 and 9", rows="id = 7", advice="Do it."))
    groups.place = lambda index: RangePlace(where=f"id = {index}", arguments="lower=3")
    [group] = groups.as_dict()["groups"]
    assert (group["rows"], group["advice"]) == ("id = 7", "Do it.")
    assert group["ranges"] == [
        {
            "index": 3,
            "item": "range 3 with id between 5 and 9",
            "attempts": 1,
            "where": "id = 3",
            "arguments": "lower=3",
            "key_range": None,
            "input": None,
        }
    ]


def test_an_item_that_fails_twice_counts_once() -> None:
    assert groups_of(failed(1), failed(1, "else")).as_dict()["count"] == 1


MESSAGES = st.sampled_from(["no", "row {}", "'{}' is bad", "status {}", "{} of {}", "other"])


@given(st.lists(st.tuples(st.integers(0, 400), MESSAGES, st.sampled_from("ABC"), st.sampled_from([None, "22012"]))))
def test_each_failed_item_is_in_one_group(drawn: list[tuple[int, str, str, str | None]]) -> None:
    groups = groups_of()
    seen: dict[int, tuple[str, str | None]] = {}
    for index, message, type_, sqlstate in drawn:
        if index % 7:
            groups.add(failed(index, message.replace("{}", str(index)), type_, sqlstate=sqlstate))
            seen.setdefault(index, (type_, sqlstate))
        else:
            groups.add(Outcome(index))
    report = groups.as_dict(is_final=True)
    listed = report["groups"]
    assert report["count"] == len(seen) == sum(group.count for group in groups) == groups.count
    assert report["kinds"] == len(list(groups))
    assert [group["count"] for group in listed] == sorted((group["count"] for group in listed), reverse=True)
    of_index = Counter(item.number for group in groups for item in group.items)
    assert of_index == Counter(dict.fromkeys(seen, 1))
    for index, (type_, sqlstate) in seen.items():
        position = groups.group_of(index)
        if position >= 0:
            assert (listed[position]["type"], listed[position]["sqlstate"]) == (type_, sqlstate)
        else:
            assert len(listed) == MAX_GROUPS
    assert all(groups.group_of(index) == -1 for index in range(401) if index not in seen)
    assert sum(len(group["ranges"]) for group in listed) == min(MAX_RANGES, sum(group["count"] for group in listed))
    assert all(group["ranges"] for group in listed)


@given(st.lists(st.integers(0, 1000)), st.integers(0, 1000))
def test_shares_are_fair(sizes: list[int], limit: int) -> None:
    shares = share(sizes, limit)
    assert sum(shares) <= limit
    assert all(part <= size for part, size in zip(shares, sizes, strict=True))
    cut = [part for part, size in zip(shares, sizes, strict=True) if part < size]
    if cut:
        assert limit - sum(shares) == 0
        assert max(shares) - min(cut) <= 1
    else:
        assert shares == sizes


def words(number: int) -> str:
    """Return a text without digits that differs for each number."""
    return "".join(chr(ord("g") + int(digit)) for digit in str(number))


@pytest.mark.parametrize("kinds", [1, 4, 50, 150, 1000])
def test_the_report_of_a_running_task_is_small_and_says_what_is_cut(kinds: int) -> None:
    groups = FailureGroups(lambda index: "r" * 500)
    groups.place = lambda index: RangePlace("w" * 300, "a" * 300, "k" * 300)
    for index in range(3000):
        kind = words(index % kinds)
        texts = {"traceback": f"{kind} é" * 800, "rows": "x" * 900, "keys": "k" * 200, "advice": "d" * 400}
        groups.add(failed(index, f"{kind} {'é' * 2000}", "E" * 200, worker=f"{'w' * 70}:{index}", **texts))
    seen = groups.as_dict()
    assert len(json.dumps(seen)) < 16_000
    assert seen["count"] == 3000
    assert seen["kinds"] == min(kinds, 201)
    assert sum(len(group["traceback"]) for group in seen["groups"]) <= 12_500
    for group in seen["groups"]:
        assert group["message"].endswith("more characters, see the log)")
        assert len(group["traceback"]) > 2000 or group["traceback"].endswith("more characters, see the log)")
        assert group["ranges"]
    final = groups.as_dict(is_final=True)
    assert len(final["groups"]) == min(kinds, MAX_GROUPS)
    assert sum(len(group["ranges"]) for group in final["groups"]) == MAX_RANGES


def test_four_short_kinds_are_not_cut_while_the_task_runs() -> None:
    groups = groups_of(*(failed(index, words(index % 4), traceback="t" * 2500) for index in range(18)))
    for group in groups.as_dict()["groups"]:
        assert group["traceback"] == "t" * 2500
        assert len(group["ranges"]) == group["count"]


def test_a_kind_that_comes_late_has_ranges_too() -> None:
    groups = groups_of(*(failed(index) for index in range(5000)), failed(5000, "late", traceback="t"))
    late = groups.as_dict()["groups"][-1]
    assert (late["message"], late["traceback"], late["ranges"][0]["index"]) == ("late", "t", 5000)


def test_many_failures_of_a_kind_need_little_memory() -> None:
    tracemalloc.start()
    groups = groups_of()
    for index in range(20_000):
        groups.add(failed(index, f"row {index}: {'m' * 100}", traceback=f"{index}" * 800, keys=f"id = {index}"))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 8_000_000
    assert groups.as_dict()["kinds"] == 1


def test_many_different_failures_need_little_memory() -> None:
    tracemalloc.start()
    groups = groups_of()
    for index in range(20_000):
        groups.add(failed(index, f"{words(index)} {'m' * 100}", traceback=f"{index}" * 800))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 8_000_000
    seen = groups.as_dict()
    assert (seen["count"], seen["kinds"]) == (20_000, 201)


def test_the_number_of_kinds_is_limited_whatever_the_errors_are() -> None:
    groups = FailureGroups("range {}".format)
    for index in range(2000):
        groups.add(failed(index, words(index), f"Error{words(index)}"))
    seen = groups.as_dict(is_final=True)
    assert (seen["count"], seen["kinds"]) == (2000, 301)
    assert seen["groups"][0]["type"] == "(other errors)"
    assert seen["groups"][0]["count"] == 1700


def test_the_name_of_the_item_is_not_part_of_the_kind() -> None:
    names = ["range 0 (... <= id < 5)", "range 1 (5 <= id < 9)", "range 2 (9 <= id < ...)"]
    groups = FailureGroups(names.__getitem__)
    for index, name in enumerate(names):
        groups.add(failed(index, f"The function returned a list for {name}."))
    assert groups.as_dict()["kinds"] == 1
