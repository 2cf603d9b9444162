"""The largest jobs, here with few inputs and rows."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import large, large_report, model
from benchmarks.data import Data
from benchmarks.meter import Wire


def measure(data: Data, job: str, count: int | None = None) -> dict[str, Any]:
    return large.measure(data, Wire(data.server.port), job, "ours_local", 2, count, 1_000)


def test_a_map_has_its_memory_and_the_sizes_that_airflow_stores(data: Data) -> None:
    run = measure(data, "inputs", 30)
    assert (run["rows"], run["ranges"]) == (30, 30)
    assert 0 < run["largest_state"] < 65_536
    assert run["task_peak"] > 50
    assert run["backend_mb"] > 0


@pytest.mark.parametrize("job", ["pages", "keyed", "part"])
def test_a_table_has_the_rows_of_one_statement(data: Data, job: str) -> None:
    assert large_report.is_right(measure(data, job))


def test_results_that_are_too_large_are_listed_with_their_error(data: Data) -> None:
    lines = large_report.text([measure(data, "refused", 20)])
    assert any(line.startswith("- the same, default `max_result_bytes`: ") for line in lines)


def test_the_needs_of_the_largest_forecast_are_beside_the_limits() -> None:
    costs = {"totals": model.Costs(database=1e-7, worker=0, wire=0, per_range=0.001, fixed=1)}
    lines = "\n".join(model.limits(costs, [{"backend_mb": 2.0}]))
    assert "| 100 (default) | 1,059 | raise it: 2.0 MB per connection, 2.1 GB here |" in lines
    assert "| 12.0 s |" in lines
    checked = model.check(costs, [{"job": "pages", "cpu_database": 3.0, "rows": 10_000_000, "load": 1.0}])
    assert "took 0.30 µs" in checked[-1]
    assert model.check(costs, []) == []
