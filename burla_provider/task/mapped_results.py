"""Results of mapped tasks among the parameters of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def read_mapped(value: Any) -> Any:
    """Return the value with a list in place of each result of a mapped task, also inside lists, tuples and dicts.

    Airflow gives a task a sequence that reads each item from the API server when it is used. Workers cannot do that.
    A value without such results is returned unchanged: it may be large.
    """
    if type(value) is dict:
        items = {name: read_mapped(item) for name, item in value.items()}
        return items if any(items[name] is not value[name] for name in value) else value
    if type(value) in (list, tuple):
        read = type(value)(map(read_mapped, value))
        return read if any(new is not old for new, old in zip(read, value, strict=True)) else value
    is_lazy = isinstance(value, Sequence) and type(value).__module__.startswith("airflow.")
    return list(value) if is_lazy else value
