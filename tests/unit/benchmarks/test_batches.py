"""The sides of ``benchmarks/batches.py`` have the result of one SQL query."""

from __future__ import annotations

import pytest

from benchmarks import batches, batches_report
from benchmarks.data import Data
from benchmarks.meter import Wire
from benchmarks.sides.batches import BATCHERS, JOBS
from benchmarks.verdict import verdict


def run_side(data: Data, name: str) -> dict:
    tables = {"points": data.orders(), "score": data.notes()}
    expected = {job: batches.compute(data, job, tables[job]) for job in JOBS}
    return batches.run_side(data, name, tables, expected, 1, Wire(data.server.port))


@pytest.mark.parametrize("name", [name for name in batches.TOOLS if BATCHERS[name].environment == "provider"])
def test_a_side_has_the_result_of_sql(name: str, data: Data) -> None:
    if BATCHERS[name].cluster:
        pytest.skip("needs a cluster")
    figures = run_side(data, name)
    assert "missing" not in figures
    assert {job: verdict(figures[job]) for job in JOBS} == dict.fromkeys(JOBS, "yes")


def test_a_wrong_result_is_shown(data: Data) -> None:
    run = {"rows": 10, "value": "3", "expected_rows": 10, "expected_value": "4", "seconds": 2.0}
    run |= dict.fromkeys(("cpu_database", "cpu_workers", "cpu_task", "memory_task", "memory_workers"), 1.0)
    results = {"expected": {"points": (10, "4")}, "sides": {"duckdb": {"points": run}, "ray": {"missing": "no Ray"}}}
    *_, duckdb, ray = batches_report.comparison(results, "points")
    assert "**no**: 3 instead of 4" in duckdb
    assert "no Ray" in ray


@pytest.mark.parametrize("kills", [0, 2])
def test_each_process_makes_one_instance(kills: int, data: Data) -> None:
    count = batches.count_constructors(data, kills)
    assert count["made"] == count["called"] >= 1
    assert (count["killed"], count["rows"]) == (kills, count["expected_rows"])
    assert f"| {kills} | {count['made']} |" in "\n".join(batches_report.constructors([count]))
