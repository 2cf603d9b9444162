"""One try of an operator on a table, from the open session to the result: plan, run, combine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from burla_provider.combine.combiners import Combiner, CustomCombiner, SumByKey, Totals
from burla_provider.combine.sql_combiner import SqlCombiner
from burla_provider.database.connection_limit import ConnectionLimit, find_connection_limit
from burla_provider.database.redact import redact
from burla_provider.database.settings import is_under_row_security, session_identity
from burla_provider.database.wording import quantity
from burla_provider.exceptions import PermanentError, WrittenResultError
from burla_provider.ranges.key_choice import choose_row_key
from burla_provider.ranges.sizing import DEFAULT_PARALLELISM
from burla_provider.ranges.window import WindowLimits
from burla_provider.task.failure_policy import FailurePolicy
from burla_provider.task.fingerprint import fingerprint
from burla_provider.task.job_store import CheckpointStore, JobStore, LedgerSession, LedgerStore
from burla_provider.task.leaf_check import leaves_checked
from burla_provider.task.ledger_table import open_ledger
from burla_provider.task.lineage import TableLineage, set_outlet_extra
from burla_provider.task.logs import log_plan, log_result
from burla_provider.task.masking import masked
from burla_provider.task.monitor import JobMonitor, OutcomeListener
from burla_provider.task.places import connection_places, source_places
from burla_provider.task.reproduce import TableReproduction
from burla_provider.task.result_values import result_part, total_values
from burla_provider.task.results_table import ResultsTable
from burla_provider.task.resume import JobIdentity
from burla_provider.task.resumption import Resumption
from burla_provider.task.run_identity import is_cleared, run_key, task_run
from burla_provider.task.session import TaskSession, reconnect, worker_settings
from burla_provider.task.sql_checks import check_source, fill_in_parameters
from burla_provider.task.sql_text import has_escapes
from burla_provider.task.sql_totals import check_totals, parse_totals
from burla_provider.task.table_plan import plan_job
from burla_provider.task.verify import full_window, verify_row_count, window_end
from burla_provider.task.whole_query import may_read_other_tables
from burla_provider.worker.json_values import to_json
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.processors import ProcessRange, ProcessRows, RangeProcessor, SqlTotals, Transform
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.source import Source

if TYPE_CHECKING:
    import psycopg

    from burla_provider.jobs.job import Job
    from burla_provider.ranges.plan import Plan, RangePlan
    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.table_job_config import TableJobConfig
    from burla_provider.task.transform_config import TransformJobConfig


class TableJob:
    """Process a table. The session is open as long as this object is used. ``TransformJob`` is a subclass.

    :param runner: runs the job on the workers.
    :param session: the task's session with the database.
    :param lineage: counts the rows, and learns which tables are written.
    :param outlets: of the task.
    :cvar is_staging: whether the ranges write to a staging table.
    :ivar function: the ``UserFunction`` of the workers; None: SQL computes everything.
    :ivar lower: the first key. An incremental run replaces it, and ``upper`` or ``end_id``.
    :ivar end: end of the window that was processed, after ``run``; None: the window was open.
    :ivar find_more: if the run continues the ledger's plan: returns what to add to that plan. See ``LedgerStore``.
    :ivar on_planned: called when the ledger has the plan of a new run.
    """

    is_staging: ClassVar[bool] = False

    def __init__(
        self,
        config: TableJobConfig | TransformJobConfig,
        runner: JobRunner,
        session: TaskSession,
        lineage: TableLineage,
        outlets: Sequence[Any],
    ) -> None:
        self.config = config
        self.session = session
        self.context = runner.context
        self.log = runner.log
        self.outlets = outlets
        self._runner = runner
        self._lineage = lineage
        self.lower: Any = config.lower
        self.upper: Any = config.upper
        self.function: Any = config.bind_function()
        self.end_id = config.end_id
        self.end: str | None = None
        self._verified: str | None = None
        self.ledger_key = run_key(self.context)
        self.find_more: Callable[[Plan], Plan | None] | None = None
        self.on_planned: Callable[[], None] = lambda: None

    def run(self) -> dict[str, Any]:
        """Process every range and return the totals as JSON. With ``plan_only``, return the plan."""
        if self.config.plan_only:
            plan = self.plan()
            log_plan(self.log, plan, self.config.batch_hint)
            self._begin_items(plan)
            self._runner.reporter.set_ending("planned")
            return plan.as_dict()
        return self._run()

    def _run(self) -> dict[str, Any]:
        processor, combiner = self.processing
        store = self._make_store()
        self.session.check_visible()  # the server has planned all SQL of the user
        restored = store.open(self.plan)
        plan = restored.plan
        if restored.note:
            self.log.info(restored.note)
        if restored.warning:
            self.log.warning(restored.warning)
        log_plan(self.log, plan, self.config.batch_hint)
        totals = Totals(combiner, range(len(plan.ranges)))
        names = self.session.results_table
        results = None
        if names:
            has_parts = self.config.totals is not None
            connect = partial(reconnect, self.session.parameters, "burla results")
            results = ResultsTable(connect, *names, task_run(self.context), has_parts=has_parts)
        listeners: list[OutcomeListener] = [totals, self._lineage, *([results] if results else [])]
        monitor = self.make_monitor(plan, store, listeners)
        monitor.resume(restored.earlier)  # adds them to totals, so that totals.missing is right below
        with monitor:
            job = self._make_job(plan, processor, totals.missing)
            reporter, counts_table = self._runner.reporter, self.config.verify is not None
            with leaves_checked(self.session, plan, store, reporter, self.log, counts_table=counts_table):
                self._runner.process_items(job, monitor, trial=self.config.trial_ranges)
                reporter.enter("combining")
            self._verify(plan, totals)
            published = self.finish_writing(totals)
            if results:
                results.write(plan.ranges)
                self._lineage.add_output(results.schema, results.table)
            result = self._combine_written(totals, restored.snapshot_count, published)
        store.close()
        self.end = window_end(plan)
        return result

    def empty_result(self) -> dict[str, Any]:
        """Return the result of a window without rows."""
        return self._combine(Totals(self.processing[1], ()), snapshot_count=1, published={})

    # Plan

    def plan(self, lower: Any = None) -> RangePlan:
        """Return a new plan of the table as it is now.

        :param lower: the first key, instead of ``self.lower``.
        :raises InvalidParameterError: if the table cannot be split with these parameters.
        """
        return plan_job(
            self.config,
            self.session,
            self.source,
            self._limits(lower),
            self._runner.parallelism,
            takes_range=self.config.process_range is not None,
            processor=lambda: self.processing[0],
        )

    def _limits(self, lower: Any = None) -> WindowLimits:
        return WindowLimits(self.config.start_id, self.end_id, self.lower if lower is None else lower, self.upper)

    @cached_property
    def source(self) -> Source:
        """The rows of the job. The server has accepted the condition and the columns.

        :raises InvalidParameterError: if the server refuses them.
        """
        config, session = self.config, self.session
        where = fill_in_parameters(session.connection, config.where, config.parameters) if config.where else None
        # By name, because a partition may have the columns in another order than the table.
        all_columns = session.columns if config.totals is None and config.process_range is None else ()
        columns = dict(config.columns) if isinstance(config.columns, Mapping) else tuple(config.columns or all_columns)
        source = Source(session.schema, session.table, columns, where, session.partitioned)
        check_source(session.connection, source, in_snapshot=session.snapshot is not None)
        return source

    @cached_property
    def processing(self) -> tuple[RangeProcessor, Combiner]:
        """How a range is processed, and how the values of all ranges are combined."""
        config, connection = self.config, self.session.connection
        if config.totals is not None:
            parsed = parse_totals(config.totals, escapes=has_escapes(connection))
            aggregates = check_totals(connection, self.source, parsed)
            return SqlTotals(aggregates), SqlCombiner(aggregates, self.source)
        combiner = CustomCombiner(config.combine) if config.combine else SumByKey()
        if config.process_rows is not None:
            return ProcessRows(self.function, *config.formats), combiner
        return ProcessRange(self.function), combiner

    # Run

    def _make_store(self) -> JobStore:
        config, session, given = self.config, self.session, self.config.given
        lower = self.lower if config.is_increment else given["lower"]
        window = (*(given[name] for name in ("key", "start_id", "end_id", "lower", "upper")), lower)
        split = (config.split, given["rows_per_range"], given["ranges"])
        rows = (config.postgres_conn_id, repr(self.source), repr(window), repr(split), config.totals, *self.written)
        login = [session.parameters.get(name) for name in ("user", "options")] + session_identity(session.connection)
        if self.ledger:
            # Another login may continue the run, unless row security shows it other rows.
            has_policy = is_under_row_security(session.connection, session.schema, session.table)
            return LedgerStore(
                self.ledger_session,
                self.ledger,
                fingerprint(*rows, *([login] if has_policy else [])),
                task_run(self.context),
                run_key(self.context),
                is_cleared(self.context),
                config.ledger_retention,
                find_more=self.find_more,
                on_planned=self.on_planned,
                leaves=session.leaves_id,
                is_staging=self.is_staging,
                resumption=self.ledger_resumption,
            )
        functions = (config.process_rows, *config.formats, config.process_range, *self.functions)
        server = [session.parameters.get(name) for name in ("host", "port", "dbname")]
        identity = JobIdentity(
            run_key(self.context),
            fingerprint(*rows, *functions, config.op_kwargs, config.init, server, login, self._runner.environment),
            session.snapshot is not None,
            # It is the state of one table only.
            None if may_read_other_tables(self.source, config.totals) else session.state_before,
            session.leaves_id,
        )
        return CheckpointStore(self._runner.open_checkpoint(), config.resume, identity, session)

    @property
    def written(self) -> tuple[Any, ...]:
        """What identifies the table that rows are written to, for the fingerprint."""
        return ()

    @property
    def ledger_resumption(self) -> Resumption:
        """What a retry finds in the ledger."""
        clearing = "Clearing the task starts a new run, which writes all ranges again."
        return Resumption(keeps=True, reason=f"the ledger {self.config.ledger} has the others", clearing=clearing)

    @property
    def functions(self) -> tuple[Any, ...]:
        """The functions that only a subclass has, for the fingerprint of a checkpoint."""
        return ()

    @property
    def secrets(self) -> Mapping[str, str]:
        """Connection parameters whose secrets no text may have."""
        return self.session.parameters

    @property
    def ledger_session(self) -> LedgerSession:
        """The session with the database of the ledger."""
        return self.session

    @cached_property
    def limit(self) -> ConnectionLimit:
        """The connections that the workers may use."""
        return self.find_limit(self.session.connection)

    def find_limit(self, connection: psycopg.Connection[Any], per_call: int = 1) -> ConnectionLimit:
        """Return how many connections the workers may open to the server of this connection.

        :param per_call: connections that each call opens.
        """
        return find_connection_limit(
            connection,
            self._runner.parallelism,
            task_connections=self.config.task_connections,
            is_given=self.config.max_parallelism is not None,
            per_call=per_call,
        )

    @cached_property
    def ledger(self) -> Ledger | None:
        """The ledger of the run, if there is one. Its table exists."""
        if self.config.ledger is None:
            return None
        return open_ledger(self.ledger_session.connection, self.config.ledger, self.ledger_key, self.context)

    def make_monitor(self, plan: Plan, store: JobStore, listeners: Sequence[OutcomeListener]) -> JobMonitor:
        """Return what receives the events of the job."""
        describe, config = self._begin_items(plan), self.config
        self._runner.reporter.resumption = store.resumption
        report = self._runner.reporter.report
        TableReproduction(config, self.source, plan).add_to(report)
        return JobMonitor(
            self.context,
            self.log,
            self._runner.reporter,
            len(plan.ranges),
            describe,
            FailurePolicy(config.on_range_failure, config.tolerated_failures, report.failures, store.has_written),
            store,
            listeners,
            redact=self._redact,
        )

    def _begin_items(self, plan: Plan) -> Callable[[int], str]:
        """Report the plan, and return what describes a range."""

        def describe(index: int) -> str:
            return masked(str(plan.ranges[index]))

        reporter = self._runner.reporter
        expected_rows = [key_range.expected_rows for key_range in plan.ranges]
        reporter.report.begin_items(len(plan.ranges), describe, plan.as_dict(), expected_rows)
        reporter.add_places(source_places(self.config, self.source, self._limits()), self._redact)
        return describe

    def _redact(self, text: str) -> str:
        return redact(text, self.secrets)

    def _make_job(self, plan: Plan, processor: RangeProcessor, missing: Sequence[int]) -> Job:
        config, session = self.config, self.session
        self.log.info("%s", self.limit)
        self._runner.reporter.add_places(connection_places(self.limit, len(missing)))
        task = RangeTask(
            parameters=session.parameters,
            source=self.source,
            key=plan.key,
            processor=processor,
            settings=replace(
                worker_settings(config, session.name, session.settings),
                idle_in_transaction_session_timeout=config.reading_idle_timeout,
            ),
            snapshot=session.snapshot,
            slots=self.limit.slots,
            range_retries=config.range_retries,
            range_timeout=config.range_timeout,
            isolate_failures=config.isolate_failures and not isinstance(processor, Transform),
            row_key=choose_row_key(session.facts, plan.key),
            # A processor that does not write here has a connection and a ledger of its own.
            ledger=self.ledger if processor.writes else None,
            secrets=self.secrets,
            job_key=self.ledger.run_key if self.ledger else run_key(self.context),
            function=self.function,
        )
        indexes = set(missing)
        items = {part.index: part.to_item() for part in plan.largest_first() if part.index in indexes}
        workers = min(self._runner.parallelism or DEFAULT_PARALLELISM, self.limit.limit)
        return self._runner.make_job(task, items, self.limit.limit, batched_for=workers)

    # Combine

    def finish_writing(self, totals: Totals) -> Mapping[str, int]:
        """Complete what the ranges have written and its totals, and return further counts for the result."""
        return {}

    def _verify(self, plan: Plan, totals: Totals) -> None:
        # A plan without ranges has no window to count in.
        if self.config.verify is None or not totals.complete or not plan.ranges:
            return
        verify_row_count(self.session.connection, self.source, full_window(plan), totals.row_count)
        self._verified = f"count(*) gives {quantity(totals.row_count, 'row')} too, in the same snapshot."
        self.log.info("Verified: %s", self._verified)

    def _combine_written(self, totals: Totals, snapshot_count: int, published: Mapping[str, int]) -> dict[str, Any]:
        try:
            return self._combine(totals, snapshot_count, published)
        except PermanentError as error:
            if self.ledger is None:
                raise
            # Without a retry, the user could only clear the task, which writes everything again.
            raise WrittenResultError(
                f"{error} All ranges are written: correct this before the next retry, which writes nothing again."
                " Clearing the task writes everything again."
            ) from error

    def _combine(self, totals: Totals, snapshot_count: int, published: Mapping[str, int]) -> dict[str, Any]:
        combiner = self.processing[1]
        if self.config.combine:
            self.log.info("Calling combine with the results of %s ranges.", f"{totals.ranges:,}")
        if isinstance(combiner, SqlCombiner) and combiner.needs_server:
            with self.session.final_connection() as connection:
                combined = totals.result(connection)
        else:
            combined = totals.result()
        result: dict[str, Any] = to_json(combined) | published
        if snapshot_count > 1:
            result["snapshots"] = snapshot_count
        self.config.check_result_size(len(json.dumps(result)))
        set_outlet_extra(self.context, self.outlets, result)
        log_result(self.log, result)
        part = result_part(total_values(result), len(result), complete=totals.complete, verified=self._verified)
        self._runner.reporter.report.result = part
        return result
