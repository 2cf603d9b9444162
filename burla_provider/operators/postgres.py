"""BurlaPostgresOperator: process every row of a PostgreSQL table, range by range."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from burla_provider.operators.table import BurlaTableOperator
from burla_provider.task.config import BatchFormat, RowFormat
from burla_provider.task.rendered import RenderedText
from burla_provider.task.table_job_config import TableJobConfig

if TYPE_CHECKING:
    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.lineage import TableLineage
    from burla_provider.task.session import TaskSession
    from burla_provider.task.table_job import TableJob


class BurlaPostgresOperator(BurlaTableOperator):
    """Split a table into ranges, process them in parallel on Burla, and combine the results exactly.

    Exactly one of ``totals``, ``process_rows`` and ``process_range`` defines how the rows are processed. The return
    value is one small dict: ``row_count`` and the totals (with ``process_range``, ``row_count`` only if it returns it).
    A Decimal, and an integer beyond 64 bits, is returned as a string, because JSON numbers would lose digits in XCom.

    :param totals: name -> count, sum, min, max or avg of an SQL expression: ``{"total": "sum(amount)"}``. PostgreSQL
        computes them for each range.
    :param process_rows: ``f(rows) -> dict``. ``rows`` is an iterator over the rows of a range in bounded memory.
    :param row_format: format of these rows: "tuple" or "dict".
    :param batch_format: "pandas", "polars" or "arrow": ``process_rows`` gets an iterator over batches of this format
        instead of rows. None: rows.
    :param batch_size: rows per batch. The last batch of a range has fewer, and so have batches of more than 32 MB.
        None: batches of about 2 MB.
    :param process_range: ``f(connection, key_range) -> dict``, with an open psycopg connection and the range.
    :param combine: ``f(list of the dicts of all ranges) -> dict``, in the order of the ranges: that of the pages, or of
        the key if the table is split by its key. Default: add up the numbers by name. It is not called if there are no
        ranges.
    :param isolate_failures: find the rows that make a range fail, and name their keys in the error.
    :param verify: "count": compare the number of processed rows with ``count(*)`` in the same snapshot.

    See :class:`~burla_provider.operators.table.BurlaTableOperator` and
    :class:`~burla_provider.operators.base.BurlaBaseOperator` for the other parameters.

    :raises InvalidParameterError: when the DAG file is parsed, if a value cannot be used.
    """

    template_fields: Sequence[str] = (*BurlaTableOperator.template_fields, "totals", "batch_size")
    template_fields_renderers = {  # noqa: RUF012 (as Airflow declares it)
        **BurlaTableOperator.template_fields_renderers,
        "totals": "json",
    }
    function_fields = ("process_rows", "process_range", "combine")
    worker_functions = ("process_rows", "process_range")
    shallow_copy_attrs: Sequence[str] = (*function_fields, "init")
    config_class = TableJobConfig

    def __init__(
        self,
        *,
        totals: Mapping[str, str] | None = None,
        process_rows: Callable[[Iterable[Any]], dict[str, Any]] | None = None,
        row_format: RowFormat = "tuple",
        batch_format: BatchFormat | None = None,
        batch_size: int | str | None = None,
        process_range: Callable[..., dict[str, Any]] | None = None,
        combine: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
        isolate_failures: bool = False,
        verify: Literal["count"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.totals = totals
        self.process_rows = process_rows
        self.row_format = row_format
        self.batch_format = batch_format
        self.batch_size = batch_size
        self.process_range = process_range
        self.combine = combine
        self.isolate_failures = isolate_failures
        self.verify = verify
        self._check_at_parse()

    def open_job(
        self, config: TableJobConfig, runner: JobRunner, session: TaskSession, lineage: TableLineage
    ) -> AbstractContextManager[TableJob]:
        """Return the job."""
        from burla_provider.task.table_job import TableJob

        return nullcontext(TableJob(config, runner, session, lineage, self.outlets))

    @property
    def sql(self) -> RenderedText | None:
        """All ranges together as one query, for Airflow's UI. None for ``process_range``, which has its own queries."""
        return None if self.process_range is not None else super().sql
