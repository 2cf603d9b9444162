"""Results of mapped tasks among parameters."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.definitions.xcom_arg import _MapResult

from burla_provider.task.mapped_results import read_mapped


def lazy() -> Any:
    """What Airflow gives a task for ``earlier.output.map(...)`` of a list, as for all results of a mapped task."""
    return _MapResult([1, 2], [lambda number: number + 1])


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (lazy(), [2, 3]),
        ([1, lazy()], [1, [2, 3]]),
        ((lazy(),), ([2, 3],)),
        ({"a": {"b": [lazy()]}}, {"a": {"b": [[2, 3]]}}),
    ],
)
def test_a_result_of_a_mapped_task_becomes_a_list(value: Any, read: Any) -> None:
    assert read_mapped(value) == read
    assert type(read_mapped(value)) is type(read)


@pytest.mark.parametrize("value", ["text", b"bytes", range(3), None, [1, ("a", {"b": [2]})], {"a": (1,)}, {1: {2}}])
def test_other_values_are_not_copied(value: Any) -> None:
    assert read_mapped(value) is value
