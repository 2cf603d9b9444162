"""The sides of ``benchmarks/writing.py`` write what one SQL statement writes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import writing, writing_report
from benchmarks.data import Data
from benchmarks.meter import Wire
from benchmarks.sides.writing import WRITERS


@pytest.mark.parametrize("name", [name for name, side in WRITERS.items() if side.environment == "provider"])
def test_a_side_writes_every_row(name: str, data: Data) -> None:
    if WRITERS[name].cluster:
        pytest.skip("needs a cluster")
    figures = writing.run_side(data, name, data.orders(1_000), list(writing.ALL), 1, Wire(data.server.port))
    assert "missing" not in figures
    assert {job: figures[job]["differences"] for job in WRITERS[name].jobs} == dict.fromkeys(WRITERS[name].jobs, 0)
    assert all(figures[job]["wal"] > 0 for job in WRITERS[name].jobs)


def test_wrong_rows_are_counted(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SQL", "id, 0, 'another'")
    figures = writing.run_side(data, "sql", data.orders(1_000), ["insert"], 1, Wire(data.server.port))
    assert figures["insert"]["differences"] == 2_000
    assert "2,000 differ" in "\n".join(writing_report.comparison({"sides": {"sql": figures}}, "insert"))


def test_the_section_has_a_table_per_job_and_says_how_far_the_aims_are() -> None:
    seconds = {"sql": 1.0, "copy": 1.0, "ours_local": 2.5, "duckdb": 2.0, "execute_values": 10.0, "pandas": 20.0}
    costs = {"wal": 1e6, "growth": 2e6, "memory_task": 3, "differences": 0}
    costs |= {"cpu_task": 1, "cpu_workers": 2, "cpu_database": 3}
    sides: dict[str, Any] = {
        name: {job: {"seconds": one} | costs for job in WRITERS[name].jobs} for name, one in seconds.items()
    }
    sides["ray"] = {"missing": "no ray"}
    results = {"rows": 1_000, "workers": 2, "times": 2, "when": "today", "machine": {"cores": 2}, "sides": sides}
    lines = writing_report.text(results)
    assert [line for line in lines if line.startswith("### ")] == [
        f"### {one}" for one in writing_report.TITLES.values()
    ]
    assert "| Ray write_sql | failed: no ray | | | | | | |" in lines
    assert "| psycopg2 execute_values | 10.00 | 4.00 | 6.0 | 1 | 2 | 3 | all right |" in lines
    assert "- This provider takes 2.5 times as long as COPY alone (limit) (aim: at most 2)." in lines
    fastest = "4.0 times as fast as psycopg2 execute_values, the fastest other side that calls Python"
    assert lines.count(f"- This provider is {fastest} (aim: at least 3).") == len(writing.ALL)
