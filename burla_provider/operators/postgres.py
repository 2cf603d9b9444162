"""BurlaPostgresOperator: every row of a PostgreSQL table, range by range."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, get_args

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.base import BurlaBaseOperator
from burla_provider.task.failure_policy import OnFailure, allowance
from burla_provider.task.incremental import IncrementalRun, check_lag
from burla_provider.task.logs import log_plan
from burla_provider.task.rendered import RenderedText, statement
from burla_provider.task.run_identity import check_loop, session_name
from burla_provider.task.table_job import TableJob
from burla_provider.task.validation import (
    check_age,
    check_choice,
    check_columns,
    check_count,
    check_function,
    check_seconds,
    check_text_by_name,
    is_rendered_later,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from burla_provider.task.lineage import TableLineage

Split = Literal["auto", "width", "histogram", "probed", "keyset", "pages", "single"]
RowFormat = Literal["tuple", "dict", "arrow"]
KINDS = ("totals", "process_rows", "process_range")


class BurlaPostgresOperator(BurlaBaseOperator):
    """Splits a table into ranges of its key, works them in parallel on Burla, and combines what they answer, exactly.

    Exactly one of ``totals``, ``process_rows`` and ``process_range`` says what is done with the rows. The return value
    is one small dict: ``row_count`` and the totals; a Decimal in it, or an integer beyond 64 bits, is a string, so
    that no digit is lost on the way through XCom.

    **What to work on**

    :param table: name of the table, with its schema where it is not on the search path: "orders", "sales.orders".
    :param postgres_conn_id: an ordinary Airflow connection to PostgreSQL; workers connect with what it says.
    :param key: column (or columns) to split by; None picks the best one.
    :param columns: what ``process_rows`` gets of every row, in this order: names of columns, or a dict of
        name -> SQL expression, ``{"id": "id", "day": "created_at::date"}``; None: all columns.
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
    :param combine: ``f(list of the ranges' dicts) -> dict``, in place of adding the numbers up key by key. It is not
        called where there was no range to work.

    **How to split**

    :param split: "auto", or a strategy: "width", "histogram", "probed", "keyset", "pages", "single".
    :param rows_per_range: rows that a range should have, about.
    :param ranges: how many ranges to make. With neither, the table's size and ``max_parallelism`` decide.
    :param refine: look how large the ranges really are, and cut those that are too large.
    :param trial_ranges: work so many ranges first, spread over the table; go on only if none fails. They count.
    :param plan_only: return the plan and start nothing.

    **How to read**

    :param consistency: "snapshot": all ranges see the table at one moment, and only read; "none": each sees it at its
        own. Default: "snapshot"; with a ledger "none".
    :param statement_timeout: seconds for one statement. None: what the server says.
    :param lock_timeout: seconds to wait for a lock. None: what the server says; in a snapshot 60, because who is in the
        way may be waiting for the snapshot's end.
    :param idle_in_transaction_session_timeout: seconds that a session may rest inside a transaction, while a function
        computes. None: what the server says; in a snapshot no limit.
    :param range_retries: how often a range is tried again after a transient fault of the database.
    :param range_timeout: seconds for one try of a range, whatever it is doing.

    **When ranges fail**

    :param on_range_failure: "finish": the others finish, then the task fails and names the failed ranges; "stop".
    :param tolerated_failures: so many failed ranges, or a percentage such as "5%", do not fail the task: the result
        then says ``complete: False`` and names them. Not with ``incremental``.
    :param isolate_failures: find the rows that make ``process_rows`` fail, and name their keys.
    :param verify: "count": compare the rows worked with ``count(*)`` at the same moment.

    **Writing, and what comes after**

    :param ledger: table ("schema.table", made if it is not there) with which ``process_range`` writes exactly once: the
        function's writes and the ledger's row about them are one transaction.
    :param ledger_retention: remove runs from the ledger whose last range was finished longer ago; None keeps them. Must
        be longer than your longest run with its retries, which would write again what was removed.
    :param results_table: table ("schema.table", made if it is not there) that gets a row per range at the end.
    :param incremental: work only the keys that came since the last success; the mark is kept in Airflow's asset state
        store for the one asset in ``outlets`` (Airflow 3.3). A run with a window of its own does not move it.
    :param start: where the very first incremental run begins, inclusive; None: at the table's first key.
    :param lag: leave so much to the next incremental run, because rows may become visible late: a number of ids, or a
        timedelta.

    Running options: see :class:`~burla_provider.operators.base.BurlaBaseOperator`.

    :raises InvalidParameterError: at parse, for values that cannot be used.
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
    template_fields_renderers = {  # noqa: RUF012 (Airflow declares it so)
        **BurlaBaseOperator.template_fields_renderers,
        "columns": "json",
        "where": "postgresql",
        "parameters": "json",
        "totals": "json",
        "sql": "postgresql",
    }
    function_fields = ("process_rows", "process_range", "combine")
    shallow_copy_attrs: Sequence[str] = function_fields
    worker_requirements = ("psycopg[binary]", "tenacity")
    ui_color = "#dbe7ff"
    advice_on_size = (
        "Return less: results_table keeps what each range returned, so that combine can return a summary. Or let the"
        " function write to a table or an object store, and return where. Raise the limit only if your XCom backend"
        " keeps large values."
    )

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
        consistency: Literal["snapshot", "none"] | None = None,
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
        self.consistency = consistency or ("none" if ledger else "snapshot")
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

    def _check_parameters(self) -> None:
        super()._check_parameters()
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            given = f"{' and '.join(kinds)} are given" if kinds else "none of them is given"
            raise InvalidParameterError(
                ", ".join(KINDS), f"{given}.", "Give exactly one: it says what is done with the rows."
            )
        # A template that renders to nothing means all columns.
        if self.columns not in (None, ""):
            check_columns("columns", self.columns)
        if self.totals is not None:
            check_text_by_name("totals", self.totals)
        for name in self.function_fields:
            if getattr(self, name) is not None:
                check_function(name, getattr(self, name))
        for name in ("start_id", "end_id", "rows_per_range", "ranges"):
            if not is_rendered_later(getattr(self, name)):
                self.number(name)
        for name in ("rows_per_range", "ranges"):
            if isinstance(getattr(self, name), int):
                check_count(name, getattr(self, name), 1)
        for name in ("trial_ranges", "range_retries"):
            check_count(name, getattr(self, name), 0)
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "range_timeout"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name), zero=name != "range_timeout")
        if self.ledger_retention is not None:
            check_age("ledger_retention", self.ledger_retention)
        check_choice("split", self.split, get_args(Split))
        check_choice("row_format", self.row_format, get_args(RowFormat))
        check_choice("consistency", self.consistency, ("snapshot", "none"))
        check_choice("on_range_failure", self.on_range_failure, get_args(OnFailure))
        check_choice("verify", self.verify, ("count", None))
        if isinstance(self.start_id, int) and isinstance(self.end_id, int) and self.start_id > self.end_id:
            problem = f"{self.start_id} is greater than end_id, {self.end_id}."
            raise InvalidParameterError("start_id", problem, "Give the first and the last id, both inclusive.")
        if self.combine is not None and self.totals is not None:
            raise InvalidParameterError(
                "combine", "totals are combined by themselves.", "Leave it out, or use process_rows."
            )
        self._check_combinations()
        check_lag(self.lag)
        allowance(self.tolerated_failures, 1)

    def _check_combinations(self) -> None:
        if self.ledger is not None and self.process_range is None:
            raise InvalidParameterError("ledger", "it is for functions that write.", "Use it with process_range.")
        if self.ledger is not None and self.consistency == "snapshot":
            raise InvalidParameterError(
                "consistency", "a snapshot can only be read.", "Leave it out where there is a ledger."
            )
        if self.ledger_retention is not None and self.ledger is None:
            raise InvalidParameterError("ledger_retention", "there is no ledger.", "Give a ledger, or leave it out.")
        if self.verify is not None and self.consistency != "snapshot":
            raise InvalidParameterError(
                "verify", "rows can be compared at one moment only.", 'Use consistency="snapshot".'
            )
        if self.incremental and not isinstance(self.key, str):
            raise InvalidParameterError(
                "incremental", f"the key is {self.key!r}.", "Name the one column that only goes up."
            )
        if self.incremental and allowance(self.tolerated_failures, 1):
            problem = "what one run leaves out no later run would work, or it would work the rest twice."
            raise InvalidParameterError("tolerated_failures", problem, "Leave it out where there is incremental=True.")
        if not self.incremental and (self.start is not None or self.lag is not None):
            raise InvalidParameterError(
                "start, lag", "they are for incremental=True.", "Use lower or start_id for a window."
            )

    def _execute(self, context: Context) -> dict[str, Any]:
        from burla_provider.task.session import open_session

        self._check_sendable("process_rows", "process_range")
        check_loop(context, [name for name in ("ledger", "incremental") if getattr(self, name)])
        self.phases.enter("snapshot" if self.consistency == "snapshot" else "connecting")
        results_table = None if self.plan_only else self.results_table
        name = session_name(context)
        with open_session(self.postgres_conn_id, self.table, name, self.consistency, results_table) as moment:
            if not self.plan_only:
                self._check_reachable(moment.parameters["host"])
            self.phases.enter("planning")
            if self.incremental and not self.has_window:
                return IncrementalRun(self, context, moment).run()
            run = TableJob(self, context, moment)
            return self._show_plan(run) if self.plan_only else run.run()

    def _check_reachable(self, host: str) -> None:
        from burla_provider.database.errors import is_this_machine

        if not is_this_machine(host) or self.hook.engine.name == "local":
            return
        problem = (
            f"the connection is to the Unix socket {host}, which only this machine has."
            if host.startswith(("/", "@"))
            else f"the connection {self.postgres_conn_id!r} is to {host}, which to a worker is the worker itself."
        )
        raise InvalidParameterError("postgres_conn_id", problem, "Give it the host that workers reach the database at.")

    def _show_plan(self, run: TableJob) -> dict[str, Any]:
        plan = run.plan()
        log_plan(self.log, plan)
        return plan.as_dict()

    @property
    def sql(self) -> RenderedText | None:
        """What all ranges come to, for people who look at the task; None for ``process_range``."""
        text = statement(self)
        return RenderedText(text) if text else None

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any] | None:
        """What OpenLineage asks where it is installed, whether the task ended well or not."""
        return self.lineage.facets(self.inlets, self.outlets) if self.lineage else None

    @property
    def has_window(self) -> bool:
        """Whether the user says which keys are to be worked."""
        return any(value not in (None, "") for value in (self.start_id, self.end_id, self.lower, self.upper))

    def number(self, name: str) -> int | None:
        """A parameter as an integer; a template renders to text.

        :raises InvalidParameterError: it is something else.
        """
        value = getattr(self, name)
        if value is None or value == "":
            return None
        if isinstance(value, Integral | str | Decimal) and not isinstance(value, bool):
            with suppress(ValueError, OverflowError):  # of a Decimal, that of a query in an earlier task: NaN, infinity
                number = int(value)
                if isinstance(value, str) or number == value:
                    return number
        raise InvalidParameterError(name, f"{value!r} is not an integer.", "Give a whole number.")
