"""Call a user's function so that rows on which it fails do not stop the others.

The source of each row that it makes is known, so that ``worker/refused_rows.py`` can find those that cannot be written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TypeGuard

from burla_provider.worker.chunks import Chunk
from burla_provider.worker.errors import mark_rows
from burla_provider.worker.rejects import Rejected, is_row_error
from burla_provider.worker.row_functions import Failures, MapRow, Part, Produced, Row, RowFormat, RowFunction
from burla_provider.worker.update_functions import UpdateRows


@dataclass(frozen=True)
class IsolateFailures:
    """Finds the rows on which a function fails.

    :param function: the user's function. If it is one of a list of rows, a batch that fails is halved until one row is
        left.
    :param is_recorded: the rows are rejected; otherwise an error names them.
    :param key_offset: number of columns before the order key in the keys of rows.
    """

    function: RowFunction
    is_recorded: bool
    key_offset: int = 0

    @property
    def batch_size(self) -> int | None:
        """Maximum number of rows per call of this object."""
        return self.function.batch_size

    @property
    def is_per_row(self) -> bool:
        """Whether the user's function gets single rows."""
        return self.function.is_per_row

    @property
    def format(self) -> RowFormat:
        """How rows are read, given to the user's function, and returned."""
        return self.function.format

    def __call__(self, rows: Sequence[Row], keys: Sequence[Row] = ()) -> Produced:
        """Return the rows made of these rows, and the rows that failed.

        :raises Exception: if rows have failed and are not recorded, or if the error is not caused by rows.
        """
        search = _Search(self, rows, keys)
        if is_per_row(self.function):
            search.compute_each()
        else:
            search.compute(0, len(rows))
        return search.result()

    def split_parts(self, chunk: Chunk, numbers: Collection[int]) -> Chunk:
        """Return the chunk with these parts computed again, each as two parts.

        :param numbers: indexes in ``chunk.parts``, of parts with several rows.
        """
        result = replace(chunk, rows=[], parts=[], rejected=list(chunk.rejected))
        end = 0
        for number, part in enumerate(chunk.parts):
            start, end = end, end + part.made
            if number not in numbers:
                result.rows += chunk.rows[start:end]
                result.parts.append(part)
                continue
            search = _Search(self, part.source, part.keys)
            search.compute_halves(part.start, part.stop)
            produced = search.result()
            result.rows += produced.rows
            result.parts += produced.parts
            result.rejected += produced.rejected
            result.filtered += produced.filtered - part.filtered
        return result

    def reject(self, part: Part, error: Exception) -> Rejected:
        """Return the only row of a part with the error."""
        keys = part.keys[part.start : part.stop]
        key = keys[0][self.key_offset :] if keys else ()
        return Rejected.because(error, row_at(part.source, part.start), key)


class _Search:
    """Collects what a function makes of parts of a batch."""

    def __init__(self, isolate: IsolateFailures, rows: Sequence[Row], keys: Sequence[Row]) -> None:
        self._isolate = isolate
        self._function = isolate.function
        self._rows = rows
        self._keys = keys
        self._produced = Produced([])
        self._error: Exception | None = None

    def compute(self, start: int, stop: int) -> None:
        """Compute some rows, one by one if the function fails on all of them together."""
        try:
            made = self._function(_own_rows(self._rows[start:stop]), self._keys[start:stop])
        except Exception as error:
            if not is_row_error(error):
                raise
            if stop - start > 1:
                self.compute_halves(start, stop)
                return
            self._fail(start, error)
            return
        produced = self._produced
        produced.rows += made.rows
        produced.filtered += made.filtered
        produced.parts.append(Part(self._rows, self._keys, start, stop, len(made.rows), made.filtered))

    def compute_each(self) -> None:
        """Compute all rows with a function of one row."""
        assert is_per_row(self._function)  # noqa: S101 (the caller has checked it)
        failed: Failures = []
        count = len(self._rows)
        self._produced = made = self._function(_own_rows(self._rows), self._keys, failed)
        made.parts.append(Part(self._rows, self._keys, 0, count, len(made.rows), made.filtered, made.sizes))
        for number, error in sorted(failed, key=itemgetter(0)):
            self._fail(number, error)

    def compute_halves(self, start: int, stop: int) -> None:
        """Compute the first and the second half of some rows."""
        middle = (start + stop) // 2
        self.compute(start, middle)
        self.compute(middle, stop)

    def _fail(self, number: int, error: Exception) -> None:
        self._error = self._error or error
        part = Part(self._rows, self._keys, number, number + 1, 0, 0)
        self._produced.rejected.append(self._isolate.reject(part, error))

    def result(self) -> Produced:
        """Return what was made.

        :raises Exception: the first error, if rows that fail are not recorded.
        """
        if self._error is not None and not self._isolate.is_recorded:
            mark_rows(self._error, [row.key for row in self._produced.rejected])
            raise self._error
        return self._produced


def is_per_row(function: RowFunction) -> TypeGuard[MapRow | UpdateRows]:
    """Return whether the user's function is one of a row, not of a list of rows."""
    return function.is_per_row


def _own_rows(rows: Sequence[Row]) -> Sequence[Row]:
    """Return rows that the function may change: if it fails, it gets the same rows again, and they are recorded."""
    if isinstance(rows, list) and any(isinstance(value, dict | list) for row in rows for value in row):
        return [tuple(deepcopy(value) for value in row) for row in rows]
    return rows


def row_at(rows: Sequence[Row], index: int) -> Row:
    """Return the values of a row of a batch."""
    row = rows[index : index + 1]
    return tuple(column[0].as_py() for column in row.columns) if hasattr(row, "columns") else row[0]
