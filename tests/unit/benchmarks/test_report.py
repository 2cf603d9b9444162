"""The texts of RESULTS.md."""

from __future__ import annotations

from typing import Any

from benchmarks import model
from benchmarks.report import comparison, introduction, measuring_times
from benchmarks.verdict import find_faults, verdict


def run(seconds: float, **options: Any) -> dict[str, Any]:
    costs = dict.fromkeys(("cpu_task", "cpu_workers", "cpu_database", "memory_task", "memory_workers"), 1.0)
    right = {"rows": 10, "value": "1.50", "expected_rows": 10, "expected_value": "1.5"}
    return {"seconds": seconds, "connections": 1, "bytes": None} | costs | right | options


def side(when: str = "2026-11-23 05:10", **jobs: dict[str, Any]) -> dict[str, Any]:
    return {"start_up": 1.0, "when": when, "jobs": {name.replace("_", " "): one for name, one in jobs.items()}}


def test_a_table_has_ratios_to_the_fastest_provider_run_and_to_burla() -> None:
    ours = {"ours_local": side(totals_orders=run(2)), "ours_burla": side(totals_orders=run(4))}
    lines = comparison({"sides": {**ours, "polars": side(totals_orders=run(10))}}, "totals orders")
    assert "x this provider | x this provider on Burla" in lines[2]
    assert lines[-1].split(" | ")[4:6] == ["5.00", "2.50"]


def test_without_a_run_on_burla_its_column_is_empty() -> None:
    sides = {"ours_local": side(totals_orders=run(2)), "ours_burla": {"missing": "there is no cluster", "jobs": {}}}
    lines = comparison({"sides": sides}, "totals orders")
    assert lines[-2].split(" | ")[4:6] == ["1.00", ""]
    assert "failed: there is no cluster" in lines[-1]
    assert all(line.count("|") == lines[2].count("|") for line in lines[3:])


def test_sides_measured_at_different_times_have_their_time() -> None:
    together = {"sides": {"sql": side("2026-11-23 05:10"), "copy": side("2026-11-23 06:10")}}
    assert measuring_times(together) == []
    together["sides"]["ray"] = side("2026-11-23 06:11")
    assert "Ray Data 2026-11-23 06:11" in measuring_times(together)[-1]


def test_the_size_of_the_wide_table_is_that_of_the_measurement() -> None:
    machine = dict.fromkeys(("processor", "cores", "memory_gb", "system", "python", "date"), "?") | {"versions": {}}
    sides = {"machine": machine, "rows": 1_000, "tables": {"wide": "wide_12345"}, "sides": {}}
    assert "`wide`, 12,345 rows" in "\n".join(introduction(sides))


def test_the_forecasts_say_that_runs_for_the_calibration_are_missing() -> None:
    sides = {"sides": {"ours_burla": {"missing": "there is no cluster", "jobs": {}}}}
    scale = {"ranges": [{"side": "ours_burla", "ranges": 1_000, "seconds": 1.0}], "rows": []}
    assert model.text(sides, scale, []) == ["Not calibrated: there are too few runs of this provider."]


def test_a_quick_run_fails_for_missing_runs_and_wrong_results_of_exact_sides() -> None:
    wrong = run(1, rows=9)
    good = {"sql": side(totals_orders=run(1)), "copy": side(checksum_orders=run(1, value=None))}
    assert find_faults(good | {"guide_pool": side(totals_orders=wrong)}, exact=("sql", "copy")) == []
    assert find_faults(good | {"sql": side(totals_orders=wrong)}, exact=("sql",)) == [
        "sql, totals orders: **no**: -1 rows"
    ]
    assert find_faults({"copy": side(checksum_orders=wrong | {"value": None})}, exact=("copy",)) != []
    assert find_faults({"polars": side(totals_orders={"error": "OSError"})}, exact=()) == [
        "polars, totals orders: OSError"
    ]
    assert find_faults({"ray": {"missing": "no environment", "jobs": {}}}, exact=()) == ["ray: no environment"]


def test_an_inexact_sum_is_wrong() -> None:
    assert verdict(run(1)) == "yes"
    assert verdict(run(1, value="1.5000000001")).startswith("**no**")
