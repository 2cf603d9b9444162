"""BurlaPostgresOperator: every row of a PostgreSQL table, range by range."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from burla_provider.exceptions import InvalidParameter
from burla_provider.failures import Failures, OnFailure, allowance
from burla_provider.fingerprint import fingerprint
from burla_provider.operators.base import BurlaBaseOperator, run_key, session_name
from burla_provider.operators.moment import Moment, open_moment, render
from burla_provider.operators.resume import JobFacts, find_earlier
from burla_provider.operators.watch import Watch

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.checkpoint import Checkpoint, Saved
    from burla_provider.database.session import Session
    from burla_provider.jobs.job import Job
    from burla_provider.ranges import RangePlan
    from burla_provider.totals import Combination, Totals
    from burla_provider.work.kinds import Kind
    from burla_provider.work.source import Source

KINDS = ("totals", "process_rows", "process_range")


class BurlaPostgresOperator(BurlaBaseOperator):
    """Splits a table into ranges of its key, works them in parallel on Burla, and combines what they answer, exactly.

    Exactly one of ``totals``, ``process_rows`` and ``process_range`` says what is done with the rows. The return value
    is one small dict: ``row_count`` and the totals; a Decimal in it is a string, so that no digit is lost on the way
    through XCom.

    **What to work on**

    :param table: name of the table, with its schema where it is not on the search path: "orders", "sales.orders".
    :param postgres_conn_id: an ordinary Airflow connection to PostgreSQL; workers connect with what it says.
    :param key: column (or columns) to split by; None picks the best one.
    :param columns: what ``process_rows`` gets of every row, in this order; None: all columns.
    :param where: condition that picks the rows, in SQL, with psycopg's placeholders where ``parameters`` are given.
    :param parameters: values for the placeholders.
    :param start_id: first id, inclusive, for integer keys. None: from the table's first.
    :param end_id: last id, inclusive, for integer keys. None: to the table's last.
    :param lower: first key, inclusive, for keys of any type.
    :param upper: end of the keys, exclusive, for keys of any type.

    **What to do**

    :param totals: name -> count, sum, min, max or avg of an SQL expression: ``{"total": "sum(amount)"}``. PostgreSQL
        computes them inside each range.
    :param process_rows: ``f(rows) -> dict``; ``rows`` is an iterator over the range's rows in bounded memory.
    :param row_format: of these rows: "tuple", "dict", or "arrow" (record batches).
    :param process_range: ``f(connection, key_range) -> dict``: an open psycopg connection and the range.
    :param combine: ``f(list of the ranges' dicts) -> dict``, in place of adding the numbers up key by key.

    **How to split**

    :param split: "auto", or a strategy: "width", "histogram", "keyset", "pages", "single".
    :param rows_per_range: rows that a range should have, about.
    :param ranges: how many ranges to make. With neither, the table's size and ``max_parallelism`` decide.
    :param trial_ranges: work so many ranges first, spread over the table; go on only if none fails. They count.
    :param plan_only: return the plan and start nothing.

    **How to read**

    :param consistency: "snapshot": all ranges see the table at one moment; "none": each sees it at its own. Default:
        "snapshot".
    :param statement_timeout: seconds for one statement. None: what the server says.
    :param lock_timeout: seconds to wait for a lock. None: what the server says.
    :param idle_in_transaction_session_timeout: seconds that a session may rest inside a transaction.
    :param pgbouncer: a transaction-mode pooler stands before the database: keep no state in sessions.
    :param range_retries: how often a range is tried again after a transient fault of the database.
    :param range_timeout: seconds for one range, all its tries together.

    **When ranges fail**

    :param on_range_failure: "finish": the others finish, then the task fails and names the failed ranges; "stop".
    :param tolerated_failures: so many failed ranges, or a percentage such as "5%", do not fail the task: the result
        then says ``complete: False`` and names them.
    :param isolate_failures: find the rows that make ``process_rows`` fail, and name their keys.
    :param verify: "count": compare the rows worked with ``count(*)`` at the same moment.

    Running options: see :class:`~burla_provider.operators.base.BurlaBaseOperator`.

    :raises InvalidParameter: at parse, for values that cannot be used.
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
    )
    template_fields_renderers = {"where": "postgresql", "parameters": "json", "totals": "json"}  # noqa: RUF012
    shallow_copy_attrs: Sequence[str] = ("process_rows", "process_range", "combine")
    worker_requirements = ("psycopg[binary]", "tenacity")
    ui_color = "#dbe7ff"

    def __init__(
        self,
        *,
        table: str,
        postgres_conn_id: str = "postgres_default",
        key: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        start_id: int | str | None = None,
        end_id: int | str | None = None,
        lower: Any = None,
        upper: Any = None,
        totals: Mapping[str, str] | None = None,
        process_rows: Callable[[Iterable[Any]], dict[str, Any]] | None = None,
        row_format: Literal["tuple", "dict", "arrow"] = "tuple",
        process_range: Callable[..., dict[str, Any]] | None = None,
        combine: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
        split: str = "auto",
        rows_per_range: int | str | None = None,
        ranges: int | str | None = None,
        trial_ranges: int = 0,
        plan_only: bool = False,
        consistency: Literal["snapshot", "none"] | None = None,
        statement_timeout: float | None = None,
        lock_timeout: float | None = None,
        idle_in_transaction_session_timeout: float | None = None,
        pgbouncer: bool = False,
        range_retries: int = 5,
        range_timeout: float | None = None,
        on_range_failure: OnFailure = "finish",
        tolerated_failures: int | str = 0,
        isolate_failures: bool = False,
        verify: Literal["count"] | None = None,
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
        self.consistency = consistency or "snapshot"
        self.statement_timeout = statement_timeout
        self.lock_timeout = lock_timeout
        self.idle_in_transaction_session_timeout = idle_in_transaction_session_timeout
        self.pgbouncer = pgbouncer
        self.range_retries = range_retries
        self.range_timeout = range_timeout
        self.on_range_failure = on_range_failure
        self.tolerated_failures = tolerated_failures
        self.isolate_failures = isolate_failures
        self.verify = verify
        self._check_parameters()

    def _check_parameters(self) -> None:
        """At parse what is known then, and all of it when the templates are rendered."""
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            given = f"{' and '.join(kinds)} are given" if kinds else "none of them is given"
            raise InvalidParameter(
                ", ".join(KINDS), f"{given}.", "Give exactly one: it says what is done with the rows."
            )
        for name in ("process_rows", "process_range", "combine"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise InvalidParameter(name, f"{getattr(self, name)!r} cannot be called.", "Give a function.")
        for name in ("rows_per_range", "ranges", "max_parallelism"):
            value = getattr(self, name)
            if isinstance(value, int) and value <= 0:
                raise InvalidParameter(name, f"{value} is not positive.", "Use 1 or more, or leave it out.")
        if isinstance(self.start_id, int) and isinstance(self.end_id, int) and self.start_id > self.end_id:
            problem = f"{self.start_id} is greater than end_id, {self.end_id}."
            raise InvalidParameter("start_id", problem, "Give the first and the last id, both inclusive.")
        if self.combine is not None and self.totals is not None:
            raise InvalidParameter(
                "combine", "totals are combined by themselves.", "Leave it out, or use process_rows."
            )
        if self.consistency not in ("snapshot", "none"):
            raise InvalidParameter("consistency", f"{self.consistency!r} is unknown.", 'Use "snapshot" or "none".')
        allowance(self.tolerated_failures, 1)

    def _execute(self, context: Context) -> dict[str, Any]:
        from burla_provider.ranges import RangePlan
        from burla_provider.totals import Totals

        self._check_parameters()
        name = session_name(context)
        with open_moment(self.postgres_conn_id, self.table, name, self.consistency) as moment:
            source = self._source(moment)
            kind, combination = self._kind(moment, source)
            checkpoint = self._checkpoint(context)
            facts = self._facts(context, moment, source)
            saved = self._find_earlier(checkpoint, facts, moment)
            plan = RangePlan.load(saved.plan) if saved else self._plan(moment, source)
            self.log.info("::group::Plan\n%s\n::endgroup::", plan)
            if self.plan_only:
                return plan.as_dict()
            totals = Totals(combination, range(len(plan.ranges)))
            watch = self._watch(context, plan, checkpoint, totals)
            snapshots = self._take_over(saved, facts, checkpoint, plan, watch)
            job = self._job(context, moment, source, plan, kind, totals.missing)
            self._work_off(job, watch, trial=int(self.trial_ranges))
            checkpoint.clear()
            return self._result(moment, totals, snapshots)

    def _source(self, moment: Moment) -> Source:
        from burla_provider.work.aggregates import check_source
        from burla_provider.work.source import Source

        where = self.where and render(moment.connection, self.where, self.parameters)
        source = Source(moment.schema, moment.table, tuple(self.columns or ()), where or None)
        check_source(moment.connection, source)
        return source

    def _plan(self, moment: Moment, source: Source) -> RangePlan:
        from burla_provider.ranges import plan_ranges

        return plan_ranges(
            moment.connection,
            table=source.relation.as_string(moment.connection),
            key=self.key or None,
            start_id=self._number("start_id"),
            end_id=self._number("end_id"),
            lower=self.lower,
            upper=self.upper,
            where=source.where,
            split=self.split,
            rows_per_range=self._number("rows_per_range"),
            ranges=self._number("ranges"),
            parallelism=self._parallelism(),
        )

    def _kind(self, moment: Moment, source: Source) -> tuple[Kind, Combination]:
        from burla_provider.totals import AddedByKey, CombinedBy, SqlCombination
        from burla_provider.work.aggregates import check_totals, parse_totals
        from burla_provider.work.kinds import ProcessRange, ProcessRows, SqlTotals

        if self.totals is not None:
            aggregates = check_totals(moment.connection, source, parse_totals(self.totals))
            return SqlTotals(aggregates), SqlCombination(aggregates, source)
        combination = CombinedBy(self.combine) if self.combine else AddedByKey()
        if self.process_rows is not None:
            return ProcessRows(self.process_rows, self.row_format), combination
        assert self.process_range is not None  # noqa: S101 (_check_parameters)
        return ProcessRange(self.process_range), combination

    def _facts(self, context: Context, moment: Moment, source: Source) -> JobFacts:
        """What decides what the ranges are and what each of them answers."""
        window = (self.key, self.start_id, self.end_id, self.lower, self.upper)
        cut = (self.split, self.rows_per_range, self.ranges)
        kind = (self.totals, self.process_rows, self.row_format, self.process_range)
        asked = fingerprint(self.postgres_conn_id, repr(source), repr(window), repr(cut), *kind)
        return JobFacts(run_key(context), asked, moment.snapshot is not None, moment.state_before)

    def _find_earlier(self, checkpoint: Checkpoint, facts: JobFacts, moment: Moment) -> Saved | None:
        saved, reason = find_earlier(checkpoint, self.resume, facts, moment.state_now)
        if reason:
            self.log.info(reason)
        return saved

    def _take_over(
        self, saved: Saved | None, facts: JobFacts, checkpoint: Checkpoint, plan: RangePlan, watch: Watch
    ) -> int:
        """Start to keep this job, or go on with what an earlier try left; answers how many moments it reads."""
        if saved is None:
            checkpoint.begin(facts.as_dict(snapshots=1), plan.dump())
            return 1
        watch.resume(saved.outcomes)
        is_another_moment = facts.reads_one_moment and saved.facts["state"] != facts.state
        snapshots = saved.facts["snapshots"] + is_another_moment
        checkpoint.update(facts.as_dict(snapshots))
        return int(snapshots)

    def _watch(self, context: Context, plan: RangePlan, checkpoint: Checkpoint, totals: Totals) -> Watch:
        def describe(index: int) -> str:
            return str(plan.ranges[index])

        failures = Failures(self.on_range_failure, self.tolerated_failures, describe)
        title = f"{plan.schema}.{plan.table}"
        return Watch(
            context, self.log, title, len(plan.ranges), describe, failures, checkpoint, [totals], plan.as_dict()
        )

    def _job(
        self, context: Context, moment: Moment, source: Source, plan: RangePlan, kind: Kind, missing: Sequence[int]
    ) -> Job:
        from burla_provider.database.budget import connection_budget
        from burla_provider.work.range_work import RangeWork

        budget = connection_budget(moment.connection, self._parallelism())
        self.log.info("%s", budget)
        work = RangeWork(
            parameters=moment.parameters,
            source=source,
            key=plan.key,
            kind=kind,
            session=self._session(moment),
            snapshot=moment.snapshot,
            range_retries=self.range_retries,
            job_key=run_key(context),
        )
        wanted = set(missing)
        items = {place.index: place.to_item() for place in plan.largest_first() if place.index in wanted}
        return self._make_job(context, work, items, budget.limit)

    def _result(self, moment: Moment, totals: Totals, snapshots: int) -> dict[str, Any]:
        from burla_provider.totals import to_xcom

        result: dict[str, Any] = to_xcom(totals.result(moment.connection))
        if snapshots > 1:
            result["snapshots"] = snapshots
        self.log.info("::group::Totals\n%s\n::endgroup::", json.dumps(result, indent=2))
        return result

    def _session(self, moment: Moment) -> Session:
        from burla_provider.database.session import Session

        return Session(
            name=moment.name,
            statement_timeout=self.statement_timeout,
            lock_timeout=self.lock_timeout,
            idle_in_transaction_session_timeout=self.idle_in_transaction_session_timeout,
        )

    def _number(self, name: str) -> int | None:
        """The parameter as an integer; a template renders to text."""
        value = getattr(self, name)
        if value is None or value == "":
            return None
        try:
            return int(value)
        except (TypeError, ValueError):
            raise InvalidParameter(name, f"{value!r} is not an integer.", "Give a whole number.") from None
