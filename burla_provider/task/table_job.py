"""One try of a BurlaPostgresOperator: from its rendered parameters to the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError, PermanentError, WrittenResultError
from burla_provider.task.failure_policy import FailurePolicy
from burla_provider.task.fingerprint import fingerprint
from burla_provider.task.job_store import CheckpointStore, JobStore, LedgerStore, RestoredJob
from burla_provider.task.lineage import TableLineage, tell_outlets
from burla_provider.task.logs import log_plan, log_totals
from burla_provider.task.monitor import JobMonitor, OutcomeListener
from burla_provider.task.rendered import statement
from burla_provider.task.resume import JobFacts
from burla_provider.task.run_identity import is_cleared, old_run_key, run_key, run_started, task_run
from burla_provider.task.session import TaskSession, not_covered, render
from burla_provider.task.validation import whole_number

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.combine.combiners import Combiner, Totals
    from burla_provider.jobs.job import Job
    from burla_provider.operators.postgres import BurlaPostgresOperator
    from burla_provider.ranges.key_range import KeyRange
    from burla_provider.ranges.plan import Plan, RangePlan
    from burla_provider.task.results_table import ResultsTable
    from burla_provider.worker.ledger import Ledger
    from burla_provider.worker.processors import RangeProcessor
    from burla_provider.worker.source import Source


class TableJob:
    """Plans, fans out, combines. The moment is open for as long as this lives.

    :param asked: the operator, its templates rendered and its parameters checked.
    :ivar lower: the least key that is to be worked: the operator's, unless somebody sets another; so are
        ``upper`` and ``end_id``.
    :ivar end: where the window that was worked ended, after ``run``; None: it was open.
    :ivar ledger_key: what the ledger knows the run by.
    :ivar find_more: of a run that goes on with the ledger's plan: what it adds to this plan. See ``LedgerStore``.
    :ivar on_planned: called when the ledger has the plan of a new run.
    """

    def __init__(self, asked: BurlaPostgresOperator, context: Context, moment: TaskSession) -> None:
        self.asked = asked
        self.context = context
        self.moment = moment
        self.lower: Any = asked.lower
        self.upper: Any = asked.upper
        self.end_id: int | None = asked.number("end_id")
        self.log = asked.log
        self.end: str | None = None
        self.ledger_key = run_key(context)
        self.find_more: Callable[[Plan], Plan | None] | None = None
        self.on_planned: Callable[[], None] = lambda: None
        # OpenLineage asks the operator for it, when the task has ended.
        self.lineage = TableLineage(moment.connection.info, moment.schema, moment.table, statement(asked))
        asked.lineage = self.lineage
        asked.inlets = self.lineage.beside(asked.inlets)

    def run(self) -> dict[str, Any]:
        """Work every range and answer with the totals, as JSON."""
        kind, combination = self.kind
        books = self._books()
        opened = books.open(self.plan)
        plan = self._told(opened)
        totals = self._totals(combination, plan)
        results = self._results()
        watch = self._watch(plan, books, [totals, self.lineage, *([results] if results else [])])
        watch.resume(opened.earlier)
        with watch:
            self.asked._work_off(self._job(plan, kind, totals.missing), watch, trial=int(self.asked.trial_ranges))
            self.asked.phases.enter("combining")
            self._check_leaves(plan, books)
            self._verify(plan, totals)
            if results:
                results.write(plan.ranges)
                self.lineage.wrote(results.schema, results.table)
            answer = self._final_result(totals, opened.snapshot_count)
        books.close()
        self.end = upper_end(plan)
        return answer

    def plan(self, lower: Any = None) -> RangePlan:
        """A new plan, of the table as it is at this moment.

        :param lower: the least key, in place of the run's own.
        :raises InvalidParameterError: the table cannot be split as it is asked for.
        """
        from burla_provider.ranges.plan_request import PlanRequest
        from burla_provider.ranges.planner import plan_table
        from burla_provider.ranges.sizing import RangeSizing
        from burla_provider.ranges.window import WindowLimits

        asked = self.asked
        lower = self.lower if lower is None else lower
        # A window may have the server leave partitions out, which only the plan knows.
        if not (asked.has_window or lower):
            self._check_covered({None})
        request = PlanRequest(
            key=asked.key or None,
            limits=WindowLimits(
                asked.number("start_id"),
                self.end_id,
                # A template that renders to nothing leaves the end open.
                lower=None if lower == "" else lower,
                upper=None if self.upper == "" else self.upper,
            ),
            where=self.source.where,
            split=asked.split,
            sizing=RangeSizing(asked.number("rows_per_range"), asked.number("ranges"), asked._parallelism()),
            refine=asked.refine,
            # A table that grows while it is written would never end.
            freeze_upper=asked.ledger is not None,
            # A user's query names the table, not its partitions.
            by_partition=asked.process_range is None,
        )
        plan = plan_table(self.moment.connection, self.moment.facts, request)
        if plan.needs_snapshot and self.moment.snapshot is None:
            raise InvalidParameterError(
                "key",
                f"{plan.schema}.{plan.table} has none that the provider could choose, and pages need a snapshot.",
                'Name a column to split by, or read with consistency="snapshot".',
            )
        self._check_covered({key_range.relation for key_range in plan.ranges})
        return plan

    def _check_covered(self, read: Set[tuple[str, str] | None]) -> None:
        """:param read: the partitions whose rows will be read; None among them: those of the whole table.
        :raises InvalidParameterError: some would not be read at the snapshot's moment.
        """
        if foreign := self.moment.foreign if None in read else self.moment.foreign & read:
            raise not_covered(foreign)

    @cached_property
    def source(self) -> Source:
        """The rows in question; the server has seen the condition and the columns.

        :raises InvalidParameterError: it does not accept them.
        """
        from burla_provider.task.sql_checks import check_source
        from burla_provider.worker.source import Source

        asked = self.asked
        where = render(self.moment.connection, asked.where, asked.parameters) if asked.where else None
        # By name, because a partition may have its columns in another order than the table.
        every = self.moment.columns if asked.process_rows is not None else ()
        columns = dict(asked.columns) if isinstance(asked.columns, Mapping) else tuple(asked.columns or every)
        source = Source(self.moment.schema, self.moment.table, columns, where, self.moment.partitioned)
        check_source(self.moment.connection, source, in_snapshot=self.moment.snapshot is not None)
        return source

    @cached_property
    def kind(self) -> tuple[RangeProcessor, Combiner]:
        """What is done with a range, and how the ranges' values become one."""
        from burla_provider.combine.combiners import CustomCombiner, SqlCombiner, SumByKey
        from burla_provider.task.sql_text import has_escapes
        from burla_provider.task.sql_totals import check_totals, parse_totals
        from burla_provider.worker.processors import ProcessRange, ProcessRows, SqlTotals

        asked = self.asked
        if asked.totals is not None:
            parsed = parse_totals(asked.totals, escapes=has_escapes(self.moment.connection))
            aggregates = check_totals(self.moment.connection, self.source, parsed)
            return SqlTotals(aggregates), SqlCombiner(aggregates, self.source)
        combination = CustomCombiner(asked.combine) if asked.combine else SumByKey()
        if asked.process_rows is not None:
            return ProcessRows(asked.process_rows, asked.row_format), combination
        assert asked.process_range is not None  # noqa: S101 (the operator has checked it)
        return ProcessRange(asked.process_range), combination

    def nothing(self) -> dict[str, Any]:
        """The result of no rows at all."""
        _, combination = self.kind
        return self._result(self._totals(combination, None), snapshot_count=1)

    def _books(self) -> JobStore:
        from burla_provider.database.settings import is_under_row_security, session_identity

        asked, moment = self.asked, self.moment
        window = (asked.key, asked.start_id, asked.end_id, asked.lower, asked.upper, self.lower)
        cut = (asked.split, asked.rows_per_range, asked.ranges)
        what = (asked.postgres_conn_id, repr(self.source), repr(window), repr(cut), asked.totals)
        login = [moment.parameters.get(name) for name in ("user", "options")] + session_identity(moment.connection)
        if self.ledger:
            # Ranges that are done stay done whoever did them, unless another login sees other rows.
            filtered = [login] if is_under_row_security(moment.connection, moment.schema, moment.table) else []
            return LedgerStore(
                moment,
                self.ledger,
                fingerprint(*what, *filtered),
                task_run(self.context),
                run_key(self.context),
                is_cleared(self.context),
                asked.ledger_retention,
                find_more=self.find_more,
                on_planned=self.on_planned,
            )
        how = (asked.process_rows, asked.row_format, asked.process_range)
        one_moment = moment.snapshot is not None
        server = [moment.parameters.get(name) for name in ("host", "port", "dbname")]
        job = fingerprint(*what, *how, server, login)
        state = None if self._has_subselect else moment.state_before
        facts = JobFacts(run_key(self.context), job, one_moment, state)
        return CheckpointStore(asked._checkpoint(self.context), asked.resume, facts, moment)

    @property
    def _has_subselect(self) -> bool:
        """Whether what is asked for may read other tables, of which ``state_before`` knows nothing."""
        from burla_provider.task.sql_text import words

        columns, totals = self.source.columns, self.asked.totals or {}
        texts = [self.source.where or "", *(columns.values() if isinstance(columns, Mapping) else ()), *totals.values()]
        return any(not words(text).isdisjoint({"select", "table"}) for text in texts)

    @cached_property
    def ledger(self) -> Ledger | None:
        from burla_provider.task.ledger_table import is_planned_since, prepare_ledger
        from burla_provider.worker.ledger import Ledger

        if self.asked.ledger is None:
            return None
        schema, table = self.moment.resolve("ledger", self.asked.ledger)
        ledger = Ledger(schema, table, self.ledger_key)
        prepare_ledger(self.moment.connection, ledger)
        # A run that was under way when the provider was upgraded goes on by the key that it began with.
        old = Ledger(schema, table, old_run_key(self.context))
        started = run_started(self.context)
        return old if started and is_planned_since(self.moment.connection, old, started) else ledger

    def _results(self) -> ResultsTable | None:
        from burla_provider.task.results_table import ResultsTable

        if self.moment.results_table is None:
            return None
        return ResultsTable(self.moment.parameters, *self.moment.results_table, task_run(self.context))

    def _told(self, opened: RestoredJob) -> Plan:
        if opened.note:
            self.log.info(opened.note)
        log_plan(self.log, opened.plan)
        return opened.plan

    def _totals(self, combination: Combiner, plan: Plan | None) -> Totals:
        from burla_provider.combine.combiners import Totals

        return Totals(combination, range(len(plan.ranges)) if plan else ())

    def _watch(self, plan: Plan, books: JobStore, collectors: Sequence[OutcomeListener]) -> JobMonitor:
        from burla_provider.database.redact import redact

        def describe(index: int) -> str:
            return str(plan.ranges[index])

        asked = self.asked
        failures = FailurePolicy(asked.on_range_failure, asked.tolerated_failures, describe)
        title = f"{plan.schema}.{plan.table}"
        count = len(plan.ranges)
        return JobMonitor(
            self.context,
            self.log,
            title,
            count,
            describe,
            failures,
            books,
            collectors,
            plan.as_dict(),
            redact=partial(redact, parameters=self.moment.parameters),
        )

    def _job(self, plan: Plan, kind: RangeProcessor, missing: Sequence[int]) -> Job:
        from burla_provider.database.connection_limit import find_connection_limit
        from burla_provider.database.settings import SessionSettings
        from burla_provider.worker.range_task import RangeTask

        asked, moment = self.asked, self.moment
        budget = find_connection_limit(
            moment.connection,
            asked._parallelism(),
            task_connections=int(asked.results_table is not None),
            is_given=whole_number(asked.max_parallelism) is not None,
        )
        self.log.info("%s", budget)
        work = RangeTask(
            parameters=moment.parameters,
            source=self.source,
            key=plan.key,
            processor=kind,
            settings=SessionSettings(
                name=moment.name,
                statement_timeout=asked.statement_timeout,
                lock_timeout=asked.lock_timeout,
                idle_in_transaction_session_timeout=asked.idle_in_transaction_session_timeout,
                inherited=moment.settings,
            ),
            snapshot=moment.snapshot,
            slots=budget.slots,
            range_retries=asked.range_retries,
            range_timeout=asked.range_timeout,
            isolate_failures=asked.isolate_failures,
            ledger=self.ledger,
            job_key=self.ledger.run_key if self.ledger else run_key(self.context),
        )
        wanted = set(missing)
        items = {one.index: one.to_item() for one in plan.largest_first() if one.index in wanted}
        return asked._make_job(self.context, work, items, budget.limit)

    def _check_leaves(self, plan: Plan, books: JobStore) -> None:
        """:raises PartitionsChangedError: ranges of the whole table, or the count, may have read other partitions."""
        from burla_provider.exceptions import PartitionsChangedError

        reads_all = self.asked.verify is not None or any(one.relation is None for one in plan.ranges)
        if self.moment.snapshot is None or not reads_all:
            return
        try:
            self.moment.check_leaves()
        except PartitionsChangedError:
            books.close()  # Nobody knows which of the outcomes are right.
            raise

    def _verify(self, plan: Plan, totals: Totals) -> None:
        from burla_provider.task.verify import check_count

        # Without a range there is no row in the window, and no window to count in.
        if self.asked.verify is None or not totals.complete or not plan.ranges:
            return
        check_count(self.moment.connection, self.source, whole(plan), totals.row_count)
        self.log.info("Verified: count(*) gives %s rows too, at the same moment.", f"{totals.row_count:,}")

    def _final_result(self, totals: Totals, snapshot_count: int) -> dict[str, Any]:
        try:
            return self._result(totals, snapshot_count)
        except PermanentError as error:
            if self.ledger is None:
                raise
            # Without retries only clearing the task would be left, which writes again.
            raise WrittenResultError(
                f"{error} All ranges are written: correct this before the next retry, which writes nothing again."
                " Clearing the task writes everything again."
            ) from error

    def _result(self, totals: Totals, snapshot_count: int) -> dict[str, Any]:
        from burla_provider.worker.json_values import to_json

        result: dict[str, Any] = to_json(self._combined(totals))
        if snapshot_count > 1:
            result["snapshots"] = snapshot_count
        self.asked.check_result_size(len(json.dumps(result)))
        tell_outlets(self.context, self.asked.outlets, result)
        log_totals(self.log, result)
        return result

    def _combined(self, totals: Totals) -> dict[str, Any]:
        from burla_provider.combine.combiners import SqlCombiner

        _, combination = self.kind
        if self.asked.combine:
            self.log.info("Calling combine with the results of %s ranges.", f"{totals.ranges:,}")
        if not (isinstance(combination, SqlCombiner) and combination.needs_server):
            return totals.result()
        with self.moment.final_connection() as connection:
            return totals.result(connection)


def upper_end(plan: Plan) -> str | None:
    """Where the plan's window ends, of a key of one column; None where it is open or there are no ranges."""
    from burla_provider.ranges.key import INTEGER_LIMITS

    last = next((one for one in reversed(plan.ranges) if not one.nulls), None)
    if last and last.upper is None and plan.key.is_integer:
        # The type's greatest value is in it: the end behind it is no value of the type.
        return str(INTEGER_LIMITS[plan.key.columns[0].type][1] + 1)
    return last.upper[0] if last and last.upper else None


def whole(plan: Plan) -> KeyRange:
    """The plan's window as one range. Open at both ends it has the NULL keys too, as the plan does."""
    from burla_provider.ranges.key_range import KeyRange

    stretches = [one for one in plan.ranges if not one.nulls]
    lower, upper = (stretches[0].lower, stretches[-1].upper) if stretches else (None, None)
    return KeyRange(plan.key, 0, lower, upper)
