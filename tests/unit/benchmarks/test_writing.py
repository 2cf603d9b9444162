"""The sides of ``benchmarks/writing.py`` write what one SQL statement writes."""

from __future__ import annotations

import pytest

from benchmarks import writing
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
    assert "2,000 differ" in "\n".join(writing.comparison({"rows": 1_000, "sides": {"sql": figures}}, "insert"))
