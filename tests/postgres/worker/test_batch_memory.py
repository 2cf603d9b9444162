"""A worker that transforms large rows holds few of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from burla_provider.worker.batch_formats import BATCH_FORMATS
from burla_provider.worker.batch_rows import BatchRows
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat
from burla_provider.worker.sinks import Insert, Target
from burla_provider.worker.source import Source
from tests.postgres.worker.test_batch_formats import transform

TARGET = Target("public", "results", ("id", "v"))
LARGE = Source("public", "orders", {"id": "id", "v": "repeat('x', 8000000)"}, where="id <= 40")


def peak_memory() -> int:
    """Return the peak memory of this process since the peak was cleared, in MB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux clears the peak")
@pytest.mark.parametrize("kind", ["map_row", "rows", *BATCH_FORMATS])
def test_memory_does_not_depend_on_the_number_of_large_rows(orders, kind):
    import pandas  # noqa: F401 (not what is measured)
    import polars  # noqa: F401
    import pyarrow.compute  # noqa: F401

    orders.execute("CREATE TABLE results (id bigint PRIMARY KEY, v text)")
    if kind == "map_row":
        function = MapRow(lambda row: row, RowFormat(("id", "v"), TARGET.columns))
    elif kind == "rows":
        function = MapBatch(lambda rows: rows, RowFormat(("id", "v"), TARGET.columns), 1_000)
    else:
        function = MapBatch(lambda batch: batch, BatchRows(("id", "v"), TARGET.columns, batch_format=kind), 1_000)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    result = transform(orders, function, Insert(TARGET), LARGE)
    assert peak_memory() - before < 250  # MB; the rows have 320 MB, and a call for 1,000 of them would have all
    assert result.value["rows_inserted"] == 40
