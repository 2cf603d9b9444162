"""The line about a job of one row."""

from __future__ import annotations

from benchmarks.start import describe


def test_the_fastest_run_counts() -> None:
    runs = [{"whole": 0.6, "planning": 0.2}, {"whole": 0.5, "planning": 0.1}]
    assert describe("local", runs) == "one row, local: 0.50 s (planning 0.10 s; the rest is Airflow)"
