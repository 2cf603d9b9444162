"""Where the rows of a range are divided into chunks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from burla_provider.worker.blocks import Block
from burla_provider.worker.chunks import ChunkLimits, compute_chunks
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat
from burla_provider.worker.value_sizes import size_of_rows

FORMAT = RowFormat(("id", "v"), ("id", "v"))
LIMITS = ChunkLimits()


def blocks(count: int, rows: int = 250, text: str = "", width: int = 1) -> Iterator[Block]:
    """Blocks of rows with ids from 0, which are also the key."""
    for start in range(0, count, rows):
        ids = range(start, min(start + rows, count))
        found = [(number, text) for number in ids]
        yield Block(found, [(str(number),) for number in ids] if width else [], size_of_rows(found))


def sizes(source: Iterator[Block], function: Any, limits: ChunkLimits = LIMITS, width: int = 1) -> list[int]:
    """The numbers of rows of the chunks, which together have every row once, in order."""
    chunks = list(compute_chunks(source, function, width, limits))
    ids = [row[0] for chunk in chunks for row in chunk.rows]
    assert ids == list(range(len(ids)))
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    if width:
        assert [chunk.position for chunk in chunks if chunk.rows] == [
            (str(chunk.rows[-1][0]),) for chunk in chunks if chunk.rows
        ]
    return [chunk.row_count for chunk in chunks]


SAME = MapRow(lambda row: row, FORMAT)


def test_a_chunk_has_ten_thousand_rows() -> None:
    assert sizes(blocks(25_000), SAME) == [10_000, 10_000, 5_000]


def test_a_range_without_rows_is_a_chunk() -> None:
    assert sizes(blocks(0), SAME) == [0]


@pytest.mark.parametrize("is_per_row", [True, False])
def test_a_chunk_of_large_rows_has_fewer(is_per_row: bool) -> None:
    function = SAME if is_per_row else MapBatch(lambda rows: rows, FORMAT)
    found = sizes(blocks(100, 4, "x" * 1_000_000), function)
    assert sum(found) == 100
    assert max(found) <= 16


def test_rows_that_become_large_end_a_chunk() -> None:
    function = MapRow(lambda row: (row[0], b"x" * 1_000_000), FORMAT)
    found = sizes(blocks(100, 4), function)
    assert sum(found) == 100
    assert max(found) <= 19


def test_rows_that_become_small_end_a_chunk_because_they_are_read_again_if_they_change() -> None:
    function = MapRow(lambda row: (row[0], None), FORMAT)
    assert max(sizes(blocks(100, 4, "x" * 1_000_000), function)) <= 16


@pytest.mark.parametrize("is_per_row", [True, False])
def test_a_slow_function_commits_now_and_then(is_per_row: bool) -> None:
    def slow(row: Any) -> Any:
        time.sleep(0.01)
        return row

    function = MapRow(slow, FORMAT) if is_per_row else MapBatch(lambda rows: list(map(slow, rows)), FORMAT)
    found = sizes(blocks(100, 100 if is_per_row else 5), function, ChunkLimits(seconds=0.15))
    assert sum(found) == 100
    assert max(found) <= 40


def test_a_slow_function_of_rows_is_called_for_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("burla_provider.worker.chunks.monotonic", lambda: now)
    calls: list[int] = []

    @dataclass(frozen=True)
    class Recorded(MapRow):
        def __call__(self, rows: Any, keys: Any = ()) -> Any:
            nonlocal now
            calls.append(len(rows))
            now += 0.2 * sum(250 <= row[0] < 320 for row in rows)
            return super().__call__(rows, keys)

    assert sum(sizes(blocks(3_000), Recorded(lambda row: row, FORMAT))) == 3_000
    assert calls[:5] == [1, 2, 4, 8, 16]
    assert min(calls[8:]) <= 20
    assert max(calls[-3:]) > 100


def test_a_range_without_an_order_key_is_one_chunk() -> None:
    found = sizes(blocks(100, 4, "x" * 1_000_000, width=0), SAME, ChunkLimits(10, 10, 0), width=0)
    assert found == [100]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("a" * 100, 116),
        (b"a" * 100, 116),
        (bytearray(100), 116),
        (memoryview(bytes(100)), 116),
        (None, 16),
        (7, 16),
        ({"a": ["b" * 100, {"c": None}]}, 214),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_size_of_values(value: Any, size: int) -> None:
    assert size_of_rows([(value,), (value,)]) == 2 * size
    assert size_of_rows([]) == 0


def test_nested_values_of_any_depth_have_a_size() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert size_of_rows([(value,)]) > 100_000


def test_slices_of_a_block_have_its_rows() -> None:
    block = next(blocks(10))
    parts = [block[start:end] for start, end in pairwise([0, 3, 10, 12])]
    assert [row for part in parts for row in part.rows] == block.rows
    assert [key for part in parts for key in part.keys] == block.keys
