"""Call a user's function with the connection and the range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg

from burla_provider.database.connect import no_user_timeout
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.processors.processor import RangeResult, check_value
from burla_provider.worker.source import Source
from burla_provider.worker.transaction_guard import guard_transaction


@dataclass(frozen=True)
class ProcessRange:
    """``function(connection, key_range) -> dict``; an integer ``row_count`` in the dict is the range's row count."""

    function: Callable[[psycopg.Connection[Any], KeyRange], dict[str, Any]]

    writes: ClassVar[bool] = True

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        """Return what the function returned."""
        with guard_transaction(connection), no_user_timeout(connection):
            value = check_value(self.function(connection, key_range), key_range)
        row_count = value.get("row_count")
        return RangeResult(value, row_count if type(row_count) is int else None)
