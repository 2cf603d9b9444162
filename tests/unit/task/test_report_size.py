"""The size of a running report. Airflow's task state store warns of a value of more than 64 KB."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from burla_provider.jobs.job import ItemBegan
from burla_provider.task.report import Report
from burla_provider.worker.outcome import Failure, Outcome

MAX_CHARS = 60_000
"""As JSON, in which a character that is not ASCII has 6."""
START = 1_700_000_000.0


def worst_report(ranges: int, workers: int, kinds: int) -> Report:
    """Return a running report whose texts are as long as they can be.

    :param kinds: every third range fails, with one of this number of errors.
    """
    plan: dict[str, Any] = {
        "table": f"{'s' * 63}.{'t' * 63}",
        "key": ["k" * 63],
        "reason": "x" * 300,
        "hints": ["h" * 200] * 3,
        "first": ["é" * 80] * 3,
        "last": ["é" * 80] * 3,
    }
    report = Report("public.orders")
    report.begin_items(ranges + workers, lambda index: f"range {index} ({'é' * 2000})", plan)
    report.places = [(f"Place {number}", "p" * 100) for number in range(8)]
    report.phases = [{"name": "working", "began": START, "seconds": 100.5}] * 12
    report.start("job-1", f"https://burla.example/jobs/{'j' * 40}", ranges, "all")
    names = [f"{'n' * 200}-{number}:12345" for number in range(workers)]
    for index in range(ranges):
        report.in_flight.begin(ItemBegan(index, names[index % workers]))
        report.add(
            Outcome(
                index,
                row_count=10**9 + index,
                seconds=1234.567 + index / 1000,
                started=START + index * 1.111,
                worker=names[index % workers],
                failure=make_failure(index % kinds) if index % 3 == 0 else None,
            )
        )
    for index in range(ranges, ranges + workers):
        report.in_flight.begin(ItemBegan(index, names[index - ranges], 1e6))
    return report


def make_failure(kind: int) -> Failure:
    name = "".join(chr(ord("a") + int(digit)) for digit in str(kind))
    message = f"{name} {'é' * 3000}"
    return Failure(f"{name}Error", message, sqlstate="22012", traceback=f"Traceback {message}\n" * 5, keys="k" * 500)


@pytest.mark.parametrize("kinds", [1, 7, 1000])
@pytest.mark.parametrize(("ranges", "workers"), [(300, 47), (300, 300), (301, 100), (3000, 1000)])
def test_a_running_report_stays_below_60_000_characters(ranges: int, workers: int, kinds: int) -> None:
    report = worst_report(ranges, workers, kinds).as_dict()
    sizes = {name: len(json.dumps(part)) for name, part in report.items()}
    assert len(json.dumps(report)) < MAX_CHARS, sizes
    own = ("timeline", "activity", "workers", "slowest", "in_flight")
    assert sum(sizes[name] for name in own) < 36_000, sizes


def test_the_report_of_a_hundred_thousand_ranges_takes_well_below_a_second() -> None:
    report = Report("public.orders")
    report.begin_items(100_000, str)
    for index in range(100_000):
        report.add(
            Outcome(
                index,
                row_count=index,
                seconds=2.0,
                started=START + index / 50,
                worker=f"a:{index % 100}",
                failure=make_failure(index % 20) if index % 1000 == 0 else None,
            )
        )
    started = time.process_time()
    report.as_dict()
    assert time.process_time() - started < 1.0
