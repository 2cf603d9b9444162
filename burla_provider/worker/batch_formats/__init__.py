"""Formats of batches: what a function of batches gets and returns. To add one, add a file and list it here."""

from __future__ import annotations

from typing import Any

from burla_provider.worker.batch_formats.arrow import ArrowFormat
from burla_provider.worker.batch_formats.batch_format import BatchFormat
from burla_provider.worker.batch_formats.pandas import PandasFormat
from burla_provider.worker.batch_formats.polars import PolarsFormat

BATCH_FORMATS: dict[str, BatchFormat] = {
    "pandas": PandasFormat(),
    "polars": PolarsFormat(),
    "arrow": ArrowFormat(),
}
"""Values of the parameter ``batch_format``, as in ``BatchFormat`` of ``task/config.py`` -> format."""


def find_format(value: Any) -> BatchFormat | None:
    """Return the format of a batch that a function has returned; None: it is none. Imports no package."""
    names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    return next((known for known in BATCH_FORMATS.values() if not names.isdisjoint(known.types)), None)


__all__ = ["BATCH_FORMATS", "BatchFormat", "find_format"]
