"""The base class of the operators on a table: what to read, how to split it, and what happens to failures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from burla_provider.operators.base import BurlaBaseOperator
from burla_provider.task.config import Consistency, Split
from burla_provider.task.failure_policy import OnFailure
from burla_provider.task.rendered import RenderedText, preview_sql

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.lineage import TableLineage
    from burla_provider.task.session import TaskSession
    from burla_provider.task.table_job import TableJob


class BurlaTableOperator(BurlaBaseOperator):
    """Split a table into ranges, and process them in parallel on Burla.

    **Rows**

    :param table: name of the table, with its schema if that is not on the search path: "orders", "sales.orders".
    :param postgres_conn_id: Airflow connection to PostgreSQL. Workers connect with its parameters.
    :param key: column (or columns) to split by. None: the provider chooses: the physical pages of the table, or its
        primary key for ``process_range``, jobs that write, a window, ``refine``, ``resume=True`` or
        ``consistency="none"``.
    :param columns: columns of the rows that a function gets, in this order: a list of names, or a dict of
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

    **Functions**

    A function with a parameter ``key_range`` gets the range: its ``idempotency_key`` names what the function writes
    elsewhere. A class is called as a function is: each worker process makes one instance before its first range, and
    calls that.

    :param op_kwargs: keyword arguments of the function; of a class: of its ``__init__``.
    :param init: name of a keyword argument -> function that makes its value, once per worker process. It gets those of
        ``op_kwargs`` that it names.

    **Splitting**

    :param split: "auto", or a strategy: "width", "histogram", "probed", "keyset", "pages", "single".
    :param rows_per_range: approximate number of rows per range.
    :param ranges: approximate number of ranges. By default, the size of the table and ``max_parallelism`` determine it.
        Not together with ``rows_per_range``.
    :param refine: measure the ranges with the index of the key, and split those that are too large.
    :param trial_ranges: process this number of ranges first, spread over the table. If one fails, the task fails at
        once, also with ``tolerated_failures``. Their results count.
    :param plan_only: return the plan and start no job.

    **Reading**

    :param consistency: "snapshot": all ranges read the same snapshot of the table, and cannot write to it; "none": each
        range reads its own. None: "snapshot", or "none" for ``process_range`` with a ledger and for an update in place.
    :param statement_timeout: maximum number of seconds per statement. The query of a range's rows runs until the
        function has read them. None: the server's setting.
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

    **Writing and incremental runs**

    :param ledger: table ("schema.table", created if it does not exist) with which writes happen exactly once: the
        writes and the ledger's row about them are one transaction.
    :param ledger_retention: delete runs from the ledger that last wrote longer ago than this. A run with missing ranges
        must also have written nothing for seven days: a retry of a deleted run writes again. None: delete nothing.
    :param results_table: table ("schema.table", created if it does not exist) that gets one row per range at the end.
    :param incremental: process only keys that are new since the last success. The watermark is stored in Airflow's
        asset state store, for the one asset in ``outlets`` (Airflow 3.3). A run with a window does not advance it.
        ``max_active_tis_per_dag`` is then 1 by default, so that runs wait for each other, also those of a backfill.
    :param start: first key of the first incremental run, inclusive, and of the next ones if it fails. None: the first
        key of the table.
    :param lag: distance from the newest key to the end of an incremental run, because rows may become visible late: a
        number of ids, or a timedelta. The next run processes the rest. None: 0, or 1 for ids that are not unique.
    """

    template_fields: Sequence[str] = (
        *BurlaBaseOperator.template_fields,
        "postgres_conn_id",
        "table",
        "key",
        "columns",
        "where",
        "parameters",
        "start_id",
        "end_id",
        "lower",
        "upper",
        "split",
        "rows_per_range",
        "ranges",
        "trial_ranges",
        "plan_only",
        "consistency",
        "on_range_failure",
        "tolerated_failures",
        "ledger",
        "results_table",
        "start",
        "op_kwargs",
        "sql",
    )
    template_fields_renderers = {  # noqa: RUF012 (as Airflow declares it)
        **BurlaBaseOperator.template_fields_renderers,
        "columns": "json",
        "where": "postgresql",
        "parameters": "json",
        "op_kwargs": "json",
        "sql": "postgresql",
    }
    worker_functions: tuple[str, ...] = ()
    ui_color = "#dbe7ff"

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
        op_kwargs: Mapping[str, Any] | None = None,
        init: Mapping[str, Callable[..., Any]] | None = None,
        split: Split | str = "auto",
        rows_per_range: int | str | None = None,
        ranges: int | str | None = None,
        refine: bool = False,
        trial_ranges: int | str = 0,
        plan_only: bool | str = False,
        consistency: Consistency | str | None = None,
        statement_timeout: float | None = None,
        lock_timeout: float | None = None,
        idle_in_transaction_session_timeout: float | None = None,
        range_retries: int = 5,
        range_timeout: float | None = None,
        on_range_failure: OnFailure | str = "finish",
        tolerated_failures: int | str = 0,
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
        self.op_kwargs = op_kwargs or {}
        self.init = init
        self.split = split
        self.rows_per_range = rows_per_range
        self.ranges = ranges
        self.refine = refine
        self.trial_ranges = trial_ranges
        self.plan_only = plan_only
        self.consistency = consistency
        self.statement_timeout = statement_timeout
        self.lock_timeout = lock_timeout
        self.idle_in_transaction_session_timeout = idle_in_transaction_session_timeout
        self.range_retries = range_retries
        self.range_timeout = range_timeout
        self.on_range_failure = on_range_failure
        self.tolerated_failures = tolerated_failures
        self.ledger = ledger
        self.ledger_retention = ledger_retention
        self.results_table = results_table
        self.incremental = incremental
        if incremental and self.max_active_tis_per_dag is None:
            # Two runs at the same time cannot both succeed. A backfill ignores max_active_runs of the DAG.
            self.max_active_tis_per_dag = 1
        self.start = start
        self.lag = lag
        self.lineage: TableLineage | None = None

    @abstractmethod
    def open_job(
        self, config: Any, runner: JobRunner, session: TaskSession, lineage: TableLineage
    ) -> AbstractContextManager[TableJob]:
        """Return the job. It may open further sessions, and closes them at the end."""

    def execute_job(self, config: Any, runner: JobRunner) -> dict[str, Any]:
        """Open a session, and process the table or what is new in it."""
        from burla_provider.task.incremental import IncrementalRun
        from burla_provider.task.job_runner import check_picklable, check_reachable
        from burla_provider.task.lineage import TableLineage
        from burla_provider.task.places import session_places
        from burla_provider.task.run_identity import check_loop, pass_label, session_name
        from burla_provider.task.session import open_session

        context, reporter = runner.context, runner.reporter
        check_picklable(**{name: getattr(config, name) for name in (*self.worker_functions, "op_kwargs", "init")})
        check_loop(context, [name for name in ("ledger", "incremental") if getattr(config, name)])
        reporter.enter("connecting")
        results_table = None if config.plan_only else config.results_table
        with open_session(
            config.postgres_conn_id,
            config.table,
            session_name(context),
            config.consistency,
            results_table,
            on_snapshot=lambda: reporter.enter("snapshot"),
        ) as session:
            if not config.plan_only:
                check_reachable(runner.hook.engine, session.parameters["host"], config.postgres_conn_id)
            reporter.add_places(session_places(config, session))
            runner.check_client()
            reporter.enter("planning")
            reporter.report.title = f"{session.schema}.{session.table}{pass_label(context)}"
            sql = str(self.sql) if self.sql is not None else None
            self.lineage = TableLineage(session.connection.info, session.schema, session.table, sql)
            self.inlets = self.lineage.with_table_asset(self.inlets)
            with self.open_job(config, runner, session, self.lineage) as job:
                return IncrementalRun(job).run() if config.is_increment else job.run()

    def _title(self) -> str:
        return str(self.table)

    def _has_ledger(self) -> bool:
        return bool(self.ledger)

    @property
    def sql(self) -> RenderedText | None:
        """All ranges together as one query, for Airflow's UI."""
        return preview_sql(
            self.table,
            totals=getattr(self, "totals", None),
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
