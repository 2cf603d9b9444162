"""The report behind the "Ranges" tab: right numbers, bounded size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from burla_provider.task.report import Report
from burla_provider.worker.outcome import Failure, Outcome


def describe(index: int) -> str:
    return f"range {index}"


def new_report(total: int, title: str = "public.orders", **options: Any) -> Report:
    report = Report(title, **options)
    report.begin_items(total, describe)
    return report


def outcome(index: int, **changes: Any) -> Outcome:
    fields = {"row_count": 100, "seconds": 0.5, "started": 1000.0 + index * 0.5, "worker": f"host:{index % 4}"}
    return Outcome(index, **{**fields, **changes})


def test_the_report_counts_finished_failed_and_retried_ranges() -> None:
    report = new_report(10)
    report.add(outcome(0, attempts=3))
    report.add(outcome(1, failure=Failure("ZeroDivisionError", "division by zero"), row_count=None))
    seen = report.as_dict()
    assert {name: seen[name] for name in ("total", "done", "failed", "retried", "rows")} == {
        "total": 10,
        "done": 1,
        "failed": 1,
        "retried": 2,
        "rows": 100,
    }
    assert seen["failures"]["count"] == 1


def test_ranges_of_an_earlier_try_are_not_retried() -> None:
    report = new_report(10)
    report.resume(outcome(0, attempts=2))
    report.add(outcome(1, attempts=3))
    seen = report.as_dict()
    assert (seen["done"], seen["resumed"], seen["retried"]) == (2, 1, 2)


def test_the_pace_is_that_of_the_work_so_far() -> None:
    report = new_report(10)
    for index in range(4):
        report.add(outcome(index))
    seen = report.as_dict(now=report.began + 8.0)
    assert seen["rows_per_second"] == 50


def test_ranges_of_an_earlier_try_count_as_done_but_not_for_the_pace() -> None:
    report = new_report(10)
    for index in range(6):
        report.resume(outcome(index))
    for index in range(6, 8):
        report.add(outcome(index))
    seen = report.as_dict(now=report.began + 4.0)
    assert (seen["done"], seen["resumed"]) == (8, 6)
    assert (seen["rows"], seen["rows_per_second"]) == (800, 50)


def test_waiting_for_a_node_does_not_count_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    report = new_report(10)
    monkeypatch.setattr("burla_provider.task.report.time.time", lambda: report.began + 60)
    report.start("job-1", None, 10, "all")
    report.add(outcome(0))
    seen = report.as_dict(now=report.began + 62)
    assert (seen["elapsed"], seen["rows_per_second"]) == (62.0, 50)
    assert seen["jobs"] == [{"id": "job-1", "url": None, "items": 10, "part": "all"}]


def test_the_pace_includes_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    report = new_report(10)
    monkeypatch.setattr("burla_provider.task.report.time.time", lambda: report.began + 60)
    report.start("job-1", None, 1, "trial")
    report.add(outcome(0))
    monkeypatch.setattr("burla_provider.task.report.time.time", lambda: report.began + 62)
    report.start("job-2", None, 9, "rest")
    report.add(outcome(1))
    assert report.as_dict(now=report.began + 64)["rows_per_second"] == 50


def test_a_job_of_half_a_second_has_a_utilization() -> None:
    report = new_report(1)
    report.add(outcome(0, seconds=0.25))
    report.add(outcome(1, worker="host:0", started=1000.25, seconds=0.25))
    assert report.as_dict()["utilization"] == 1.0


def test_a_failed_range_does_not_count_for_how_even_they_are() -> None:
    report = new_report(3)
    for index in range(2):
        report.add(outcome(index))
    report.add(outcome(2, failure=Failure("E", "x"), row_count=None, seconds=9.0))
    spread = report.as_dict()["timeline"]["spread"]
    assert spread == {"rows": [100, 100, 100, 100], "seconds": [0.5, 0.5, 0.5, 0.5]}


def test_rows_that_are_not_counted_are_not_reported_as_zero() -> None:
    report = new_report(2)
    report.add(outcome(0, row_count=None))
    assert (report.as_dict()["rows"], report.as_dict()["rows_per_second"]) == (None, None)
    report.add(outcome(1, row_count=0))
    assert report.as_dict()["rows"] == 0


def test_the_report_names_the_items() -> None:
    assert new_report(3).as_dict()["unit"] == "range"
    assert new_report(3, unit="input").as_dict()["unit"] == "input"


def test_few_ranges_are_listed_one_by_one() -> None:
    report = new_report(3)
    for index in range(3):
        report.add(outcome(index))
    timeline = report.as_dict()["timeline"]
    assert timeline["kind"] == "ranges"
    assert timeline["spans"][2] == [2, 1.0, 0.5, 2, 100, 1, -1]


def test_the_slowest_come_first() -> None:
    report = new_report(50)
    for index in range(50):
        report.add(outcome(index, seconds=index / 10))
    slowest = report.as_dict()["slowest"]
    assert [line["index"] for line in slowest] == list(range(49, 37, -1))


def test_bins_hold_every_range_once() -> None:
    report = new_report(5000)
    for index in range(5000):
        report.add(outcome(index, failure=Failure("E", "x") if index % 1000 == 7 else None))
    bins = report.as_dict()["timeline"]["bins"]
    assert sum(cell[2] for cell in bins) == 5000
    assert sum(cell[4] for cell in bins) == 5


@pytest.mark.parametrize("count", [300, 100_000])
def test_it_stays_below_60_kb_however_many_ranges_and_workers(count: int) -> None:
    report = Report("t")
    report.begin_items(count, lambda index: "r" * 500, {"reason": "x" * 300})
    for index in range(count):
        failure = Failure("SomeError", "m" * 2000) if index % 50 == 0 else None
        report.add(outcome(index, worker=f"{'w' * 70}:{index % 1000}", row_count=10**9 + index, failure=failure))
    assert len(json.dumps(report.as_dict())) < 60_000


def test_the_report_is_complete_before_the_first_outcome() -> None:
    seen = new_report(10).as_dict()
    assert json.loads(json.dumps(seen))["timeline"]["spans"] == []
    assert seen["seconds_left"] is None
