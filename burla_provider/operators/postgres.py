"""BurlaPostgresOperator: process every row of a PostgreSQL table, range by range."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from burla_provider.operators.base import BurlaBaseOperator
from burla_provider.task.config import Consistency, RowFormat, Split, TableJobConfig
from burla_provider.task.failure_policy import OnFailure
from burla_provider.task.rendered import RenderedText, preview_sql

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.lineage import TableLineage


class BurlaPostgresOperator(BurlaBaseOperator):
    """Split a table into ranges, process them in parallel on Burla, and combine the results exactly.

    Exactly one of ``totals``, ``process_rows`` and ``process_range`` defines how the rows are processed. The return
    value is one small dict: ``row_count`` and the totals. A Decimal, and an integer beyond 64 bits, is returned as a
    string, because JSON numbers would lose digits in XCom.

    **Rows**

    :param table: name of the table, with its schema if that is not on the search path: "orders", "sales.orders".
    :param postgres_conn_id: Airflow connection to PostgreSQL. Workers connect with its parameters.
    :param key: column (or columns) to split by. None: the provider chooses: the physical pages of the table, or its
        primary key for ``process_range``, a window, ``refine``, ``resume=True`` or ``consistency="none"``.
    :param columns: columns of the rows that ``process_rows`` gets, in this order: a list of names, or a dict of
        name -> SQL expression, ``{"id": "id", "day": "created_at::date"}``. None: all columns. Not used by
        ``process_range``, whose queries select their own columns.
    :param where: SQL condition on the rows, with psycopg's placeholders if ``parameters`` are given. The queries of
        ``process_range`` are not filtered: repeat it there, next to ``key_range.where``. It then only affects the sizes
        of the ranges, and the rows that ``verify`` counts.
    :param parameters: values for the placeholders.
    :param start_id: first id, inclusive, for integer keys. None: from the first id of the table.
    :param end_id: last id, inclusive, for integer keys. None: to the last id of the table.
    :param lower: first key, inclusive, for keys of any type.
    :param upper: end of the keys, exclusive, for keys of any type.

    **Processing**

    :param totals: name -> count, sum, min, max or avg of an SQL expression: ``{"total": "sum(amount)"}``. PostgreSQL
        computes them for each range.
    :param process_rows: ``f(rows) -> dict``. ``rows`` is an iterator over the rows of a range in bounded memory.
    :param row_format: format of these rows: "tuple", "dict", or "arrow" (record batches).
    :param process_range: ``f(connection, key_range) -> dict``, with an open psycopg connection and the range.
    :param combine: ``f(list of the dicts of all ranges) -> dict``, in the order of the ranges: that of the pages, or of
        ``key`` if you give it. Default: add up the numbers by key. It is not called if there are no ranges.

    **Splitting**

    :param split: "auto", or a strategy: "width", "histogram", "probed", "keyset", "pages", "single".
    :param rows_per_range: approximate number of rows per range.
    :param ranges: approximate number of ranges. By default, the size of the table and ``max_parallelism`` determine it.
    :param refine: measure the ranges with the index of the key, and split those that are too large.
    :param trial_ranges: process this number of ranges first, spread over the table. If one fails, the task fails at
        once. Their results count.
    :param plan_only: return the plan and start no job.

    **Reading**

    :param consistency: "snapshot": all ranges read the same snapshot of the table, and cannot write; "none": each range
        reads its own. Defaults to "snapshot", or to "none" with a ledger.
    :param statement_timeout: maximum number of seconds per statement. None: the server's setting.
    :param lock_timeout: maximum number of seconds to wait for a lock. None: the server's setting, or 60 in a snapshot,
        because the holder of the lock may be waiting for the end of the snapshot.
    :param idle_in_transaction_session_timeout: maximum number of seconds that a session may be idle in a transaction,
        while a function computes. None: the server's setting, or no limit in a snapshot.
    :param range_retries: how often a range is retried after a transient error of the database.
    :param range_timeout: maximum number of seconds per attempt of a range.

    **Failures**

    :param on_range_failure: "finish": process the other ranges, then fail the task and name the failed ranges. "stop":
        end the job at once.
    :param tolerated_failures: number or percentage ("5%") of ranges that may fail without failing the task. The result
        then has ``complete: False`` and their number in ``failed_ranges``. Not supported with ``incremental``.
    :param isolate_failures: find the rows that make a range fail, and name their keys in the error.
    :param verify: "count": compare the number of processed rows with ``count(*)`` in the same snapshot.

    **Writing and incremental runs**

    :param ledger: table ("schema.table", created if it does not exist) with which ``process_range`` writes exactly
        once: the function's writes and the ledger's row about them are one transaction.
    :param ledger_retention: delete runs from the ledger whose last range was finished longer ago than this. It must be
        longer than your longest run with its retries: a retry of a deleted run writes again. None: delete nothing.
    :param results_table: table ("schema.table", created if it does not exist) that gets one row per range at the end.
    :param incremental: process only keys that are new since the last success. The watermark is stored in Airflow's
        asset state store, for the one asset in ``outlets`` (Airflow 3.3). A run with a window does not advance it.
    :param start: first key of the first incremental run, inclusive. None: the first key of the table.
    :param lag: distance from the newest key to the end of an incremental run, because rows may become visible late: a
        number of ids, or a timedelta. The next run processes the rest.

    See :class:`~burla_provider.operators.base.BurlaBaseOperator` for the other parameters.

    :raises InvalidParameterError: when the DAG file is parsed, if a value cannot be used.
    """

    template_fields: Sequence[str] = (
        *BurlaBaseOperator.template_fields,
        "postgres_conn_id",
        "table",
        "key",
        "columns",
        "where",
        "parameters",
        "totals",
        "start_id",
        "end_id",
        "lower",
        "upper",
        "rows_per_range",
        "ranges",
        "ledger",
        "results_table",
        "start",
        "sql",
    )
    template_fields_renderers = {  # noqa: RUF012 (as Airflow declares it)
        **BurlaBaseOperator.template_fields_renderers,
        "columns": "json",
        "where": "postgresql",
        "parameters": "json",
        "totals": "json",
        "sql": "postgresql",
    }
    function_fields = ("process_rows", "process_range", "combine")
    shallow_copy_attrs: Sequence[str] = function_fields
    ui_color = "#dbe7ff"
    config_class = TableJobConfig

    def __init__(
        self,
        *,
        table: str,
        postgres_conn_id: str = "postgres_default",
        key: str | Sequence[str] | None = None,
        columns: Sequence[str] | Mapping[str, str] | None = None,
        where: str | None = None,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        start_id: int | str | None = None,
        end_id: int | str | None = None,
        lower: Any = None,
        upper: Any = None,
        totals: Mapping[str, str] | None = None,
        process_rows: Callable[[Iterable[Any]], dict[str, Any]] | None = None,
        row_format: RowFormat = "tuple",
        process_range: Callable[..., dict[str, Any]] | None = None,
        combine: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
        split: Split = "auto",
        rows_per_range: int | str | None = None,
        ranges: int | str | None = None,
        trial_ranges: int = 0,
        plan_only: bool = False,
        refine: bool = False,
        consistency: Consistency | None = None,
        statement_timeout: float | None = None,
        lock_timeout: float | None = None,
        idle_in_transaction_session_timeout: float | None = None,
        range_retries: int = 5,
        range_timeout: float | None = None,
        on_range_failure: OnFailure = "finish",
        tolerated_failures: int | str = 0,
        isolate_failures: bool = False,
        verify: Literal["count"] | None = None,
        ledger: str | None = None,
        ledger_retention: timedelta | None = None,
        results_table: str | None = None,
        incremental: bool = False,
        start: Any = None,
        lag: int | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.postgres_conn_id = postgres_conn_id
        self.key = key
        self.columns = columns
        self.where = where
        self.parameters = parameters
        self.start_id = start_id
        self.end_id = end_id
        self.lower = lower
        self.upper = upper
        self.totals = totals
        self.process_rows = process_rows
        self.row_format = row_format
        self.process_range = process_range
        self.combine = combine
        self.split = split
        self.rows_per_range = rows_per_range
        self.ranges = ranges
        self.trial_ranges = trial_ranges
        self.plan_only = plan_only
        self.refine = refine
        self.consistency = consistency
        self.statement_timeout = statement_timeout
        self.lock_timeout = lock_timeout
        self.idle_in_transaction_session_timeout = idle_in_transaction_session_timeout
        self.range_retries = range_retries
        self.range_timeout = range_timeout
        self.on_range_failure = on_range_failure
        self.tolerated_failures = tolerated_failures
        self.isolate_failures = isolate_failures
        self.verify = verify
        self.ledger = ledger
        self.ledger_retention = ledger_retention
        self.results_table = results_table
        self.incremental = incremental
        self.start = start
        self.lag = lag
        self.lineage: TableLineage | None = None
        self._check_at_parse()

    def execute_job(self, config: TableJobConfig, runner: JobRunner) -> dict[str, Any]:
        """Open a session, and process the table or what is new in it."""
        from burla_provider.task.incremental import IncrementalRun
        from burla_provider.task.job_runner import check_picklable, check_reachable
        from burla_provider.task.lineage import TableLineage
        from burla_provider.task.run_identity import check_loop, session_name
        from burla_provider.task.session import open_session
        from burla_provider.task.table_job import TableJob

        context, phases = runner.context, runner.phases
        check_picklable(process_rows=config.process_rows, process_range=config.process_range)
        check_loop(context, [name for name in ("ledger", "incremental") if getattr(config, name)])
        phases.enter("snapshot" if config.consistency == "snapshot" else "connecting")
        name = session_name(context)
        results_table = None if config.plan_only else config.results_table
        with open_session(config.postgres_conn_id, config.table, name, config.consistency, results_table) as session:
            if not config.plan_only:
                check_reachable(runner.hook.engine, session.parameters["host"], config.postgres_conn_id)
            runner.check_client()
            phases.enter("planning")
            sql = str(self.sql) if self.sql is not None else None
            self.lineage = TableLineage(session.connection.info, session.schema, session.table, sql)
            self.inlets = self.lineage.with_table_asset(self.inlets)
            job = TableJob(config, runner, session, self.lineage, self.outlets)
            return IncrementalRun(job).run() if config.is_increment else job.run()

    @property
    def sql(self) -> RenderedText | None:
        """All ranges together as one query, for Airflow's UI. None for ``process_range``, which has its own queries."""
        if self.process_range is not None:
            return None
        return preview_sql(
            self.table,
            totals=self.totals,
            columns=self.columns,
            where=self.where,
            key=self.key,
            start_id=self.start_id,
            end_id=self.end_id,
            lower=self.lower,
            upper=self.upper,
            incremental=self.incremental,
        )

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any] | None:
        """Return the lineage of the run. OpenLineage calls this, also if the task has failed."""
        return self.lineage.facets(self.inlets, self.outlets) if self.lineage else None
