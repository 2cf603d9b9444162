"""What a function of batches gets, and what becomes of the batch that it returns."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.exceptions import ReturnedRowError, UserFunctionError
from burla_provider.worker.batch_formats import BATCH_FORMATS, find_format
from burla_provider.worker.blocks import Block, read_record_batches
from burla_provider.worker.row_functions import Row, RowFormat
from burla_provider.worker.sinks.copy_rows import JsonText


@dataclass(frozen=True)
class BatchRows(RowFormat):
    """Rows in batches of columns. A function may return any of the formats, or a list of rows.

    :param batch_format: format of the batches that the function gets, see ``BATCH_FORMATS``.
    :param json_columns: columns of the target of type json or jsonb. Text for them is JSON, as batches have it,
        also in a list of rows.
    """

    batch_format: str = "arrow"
    json_columns: tuple[str, ...] = ()

    def read_blocks(
        self, connection: psycopg.Connection[Any], query: sql.Composed, key_columns: int, batch_size: int | None
    ) -> Generator[Block, None, None]:
        """Yield the rows of a query in record batches, which ``give`` converts."""
        return read_record_batches(connection, query, key_columns, batch_size)

    def give(self, rows: Any) -> Any:
        """Return a record batch as the function gets it."""
        return BATCH_FORMATS[self.batch_format].from_arrow(rows)

    def results(self, returned: Any) -> Iterable[Any]:
        """Return the rows of a batch that the function has returned.

        :raises UserFunctionError: if it has other columns than the target.
        :raises ReturnedRowError: if it has a value that cannot be written exactly.
        """
        known = find_format(returned)
        if known is None:
            if hasattr(type(returned), "columns"):
                raise UserFunctionError(
                    f"map_batch returned {type(returned).__name__}, which is not a batch. Return a DataFrame of pandas"
                    " or Polars, or a RecordBatch or Table of Arrow. collect() makes a DataFrame of a LazyFrame."
                )
            return super().results(returned)
        names = known.names(returned)
        if len(names) != len(self.written) or set(names) != set(self.written):
            raise UserFunctionError(
                f"map_batch returned a {type(returned).__name__} with the columns {', '.join(map(str, names))}. Return"
                f" those of {self.parameter}: {', '.join(self.written)}."
            )
        columns = [known.values(returned, name) for name in self.written]
        return list(zip(*columns, strict=True))

    def checked(self, row: Any) -> Row:
        """Return a row, of a batch or of a list, as a tuple.

        :raises ReturnedRowError: if it does not have the target's columns, or a text for a json column is not JSON.
        """
        values = super().checked(row)
        if not self.json_columns:
            return values
        pairs = zip(self.written, values, strict=True)
        return tuple(_as_json(name, value) if name in self.json_columns else value for name, value in pairs)

    def check_order(self, returned: Any) -> None:
        """Check the index of pandas.

        :raises UserFunctionError: if the rows are in another order than those that the function got.
        """
        known = find_format(returned)
        if known is not None and known.is_reordered(returned):
            raise UserFunctionError(
                "map_batch returned a DataFrame with its rows in another order. Return one row for each row in the"
                " same order, because they update the rows that were read: use sort_index()."
            )


def _as_json(name: str, value: Any) -> Any:
    """Return a value for a json column. A text is kept as it is: as a Python object, JSON's null would become NULL."""
    if type(value) is not str:
        return value
    try:
        json.loads(value, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ReturnedRowError(
            f"map_batch returned a text for the column {name} that is not JSON: {error}. In a batch, text for a json"
            " column is JSON: use json.dumps."
        ) from None
    return JsonText(value)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"got {name}")
