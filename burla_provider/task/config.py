"""The parameters of one job: frozen, checked, and normalized. Every check of every parameter happens here, once.

An operator builds its config twice: when the DAG file is parsed, with ``UNRENDERED`` in place of values that only a run
knows, and in ``execute``, with all values. Defaults are in the signatures of the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.failure_policy import OnFailure, allowance
from burla_provider.task.function_arguments import POSITIONAL, bind_function, check_arguments
from burla_provider.task.resume import Resume
from burla_provider.task.validation import (
    UNRENDERED,
    check_age,
    check_boolean,
    check_choice,
    check_columns,
    check_integer,
    check_lag,
    check_name,
    check_seconds,
    check_strings,
    check_text,
    is_given,
    parse_boolean,
    parse_integer,
)

if TYPE_CHECKING:
    from burla_provider.jobs.job import Engine
    from burla_provider.worker.user_function import UserFunction

# Written out, because the modules that define them import psycopg. A unit test compares the names.
Split = Literal["auto", "width", "histogram", "probed", "keyset", "pages", "single"]
RowFormat = Literal["tuple", "dict"]
BatchFormat = Literal["pandas", "polars", "arrow"]
Consistency = Literal["snapshot", "none"]


_CONNECTION = "Use the id of an Airflow connection."


# No eq and no repr: a config is neither compared nor printed, and every DAG file pays for the import of this module.
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class JobConfig:
    """The parameters that all operators share. ``BurlaBaseOperator`` documents them.

    :param do_xcom_push: whether the result is pushed to XCom, which limits its size.
    :raises InvalidParameterError: if a value cannot be used.
    """

    burla_conn_id: str
    max_parallelism: int | None
    func_cpu: int | Literal["dynamic"]
    func_ram: int | Literal["dynamic"]
    func_gpu: str | None
    grow: bool
    image: str | None
    region: str | None
    disk_gb: int | None
    requirements: Sequence[str] | Literal["environment"]
    burla_python: str | None
    queue_timeout: float
    job_retries: int
    max_result_bytes: int | None
    resume: Resume
    do_xcom_push: bool

    worker_requirements: ClassVar[tuple[str, ...]] = ()
    """Packages that the provider's own code needs on the workers."""
    worker_modules: ClassVar[tuple[str, ...]] = ()
    """The modules of these packages that it imports."""
    result_size_advice: ClassVar[str] = ""
    """What to do about a result that exceeds ``max_result_bytes``."""

    def __post_init__(self) -> None:
        check_name("burla_conn_id", self.burla_conn_id, _CONNECTION)
        self._check_texts("image", "region", "burla_python")
        self._normalize("max_parallelism", parse_integer("max_parallelism", self.max_parallelism, 1))
        for name in ("func_cpu", "func_ram"):
            self._normalize(name, parse_integer(name, getattr(self, name), 1, keyword="dynamic"))
        self._check_nodes()
        if self.requirements == "":
            self._normalize("requirements", ())
        if self.requirements != "environment":
            check_strings("requirements", self.requirements)
        self._check_integers("job_retries")
        check_seconds("queue_timeout", self.queue_timeout)
        if self.max_result_bytes is not None:
            self._check_integers("max_result_bytes", minimum=1)
        check_choice("resume", self.resume, ("auto", True, False))

    @property
    def starts_job(self) -> bool:
        """Whether the task runs a job, if there is anything to process."""
        return True

    def check_engine(self, engine: Engine) -> None:
        """Check that the engine has what the calls need.

        :raises InvalidParameterError: if it does not.
        """
        if self.func_gpu is not None and engine.is_local:
            problem = f"the local engine assigns no GPUs, got {self.func_gpu!r}."
            raise InvalidParameterError("func_gpu", problem, "Leave it out, or use a connection to a cluster.")

    @property
    def batch_packages(self) -> tuple[str, ...]:
        """Packages that the workers need for batches."""
        return ()

    def check_result_size(self, size: int) -> None:
        """Check that a result of so many bytes of JSON may be pushed to XCom.

        :raises InvalidParameterError: if it is too large.
        """
        if self.do_xcom_push and self.max_result_bytes is not None and size > self.max_result_bytes:
            problem = f"the result has more than {self.max_result_bytes:,} bytes as JSON."
            raise InvalidParameterError("max_result_bytes", problem, self.result_size_advice)

    def _check_nodes(self) -> None:
        # The cluster checks the name: which GPUs there are depends on its cloud.
        if not is_given(self.func_gpu):
            self._normalize("func_gpu", None)
        check_text("func_gpu", self.func_gpu, "a string", 'Use a name that Burla knows, such as "A100".')
        self._normalize("grow", parse_boolean("grow", self.grow))
        self._normalize("disk_gb", parse_integer("disk_gb", self.disk_gb, 1))
        if isinstance(self.disk_gb, int) and not self.grow:  # an unrendered value is true
            problem = f"is for nodes that are booted for the job, got {self.disk_gb}."
            raise InvalidParameterError("disk_gb", problem, "Use grow=True, or leave it out.")

    def _check_texts(self, *names: str) -> None:
        for name in names:
            check_text(name, getattr(self, name), "text", "Use text, or leave it out.")

    def _check_integers(self, *names: str, minimum: int = 0) -> None:
        for name in names:
            check_integer(name, getattr(self, name), minimum)
            self._normalize(name, int(getattr(self, name)))

    def _normalize(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TableConfig(JobConfig):
    """The parameters that all operators on a table share. ``BurlaTableOperator`` documents them."""

    table: str
    postgres_conn_id: str
    key: str | Sequence[str] | None
    columns: Sequence[str] | Mapping[str, str] | None
    where: str | None
    parameters: Sequence[Any] | Mapping[str, Any] | None
    start_id: int | None
    end_id: int | None
    lower: Any
    upper: Any
    op_kwargs: Mapping[str, Any]
    init: Mapping[str, Callable[..., Any]] | None
    row_format: RowFormat
    batch_format: BatchFormat | None
    batch_size: int | None
    split: Split
    rows_per_range: int | None
    ranges: int | None
    trial_ranges: int
    plan_only: bool
    refine: bool
    consistency: Consistency
    statement_timeout: float | None
    lock_timeout: float | None
    idle_in_transaction_session_timeout: float | None
    range_retries: int
    range_timeout: float | None
    on_range_failure: OnFailure
    tolerated_failures: int | str
    ledger: str | None
    ledger_retention: timedelta | None
    results_table: str | None
    incremental: bool
    start: Any
    lag: int | timedelta | None

    given: Mapping[str, Any] = field(init=False)
    """The window and the size of ranges as given, before they are normalized. Fingerprints in ledgers have them so."""

    worker_requirements: ClassVar[tuple[str, ...]] = ("psycopg[binary]", "tenacity")
    worker_modules: ClassVar[tuple[str, ...]] = ("psycopg", "tenacity")

    def __post_init__(self) -> None:
        names = ("key", "start_id", "end_id", "lower", "upper", "rows_per_range", "ranges")
        self._normalize("given", {name: getattr(self, name) for name in names})
        super().__post_init__()
        check_name("table", self.table, "Write it as in SQL: orders, sales.orders.")
        check_name("postgres_conn_id", self.postgres_conn_id, _CONNECTION)
        self._check_texts("ledger", "results_table")
        for name in ("refine", "incremental"):
            check_boolean(name, getattr(self, name))
        if self.key is not None and not isinstance(self.key, str):
            check_strings("key", self.key)
        for name in ("key", "columns", "where", "lower", "upper", "start", "consistency"):
            if not is_given(getattr(self, name)):
                self._normalize(name, None)
        for name in ("start_id", "end_id"):
            self._normalize(name, parse_integer(name, getattr(self, name)))
        for name in ("rows_per_range", "ranges", "batch_size"):
            self._normalize(name, parse_integer(name, getattr(self, name), 1))
        self._normalize("trial_ranges", parse_integer("trial_ranges", self.trial_ranges, 0) or 0)
        self._normalize("plan_only", parse_boolean("plan_only", self.plan_only))
        self._check_integers("range_retries")
        self._check_rows()
        self._check_function()
        self._check_limits()
        self._check_writes()
        self._check_increments()

    @property
    def starts_job(self) -> bool:
        """Whether the task runs a job, if there is anything to process."""
        return not self.plan_only

    @property
    def batch_packages(self) -> tuple[str, ...]:
        """Packages that the workers need for batches."""
        from burla_provider.worker.batch_formats import BATCH_FORMATS

        return BATCH_FORMATS[self.batch_format].packages if self.batch_format else ()

    @property
    def formats(self) -> tuple[RowFormat, BatchFormat | None, int | None]:
        """How ``process_rows`` gets rows."""
        return self.row_format, self.batch_format, self.batch_size

    @property
    def gets_batches(self) -> bool:
        """Whether the function gets several rows at once."""
        return self.batch_format is not None

    @property
    def batch_hint(self) -> str:
        """A hint about the size of batches; empty if no hint applies."""
        if self.func_gpu is None or self.batch_size is not None or not self.gets_batches:
            return ""
        return "Hint: func_gpu is given without batch_size. Give the number of rows that fit into the GPU's memory."

    @property
    def has_window(self) -> bool:
        """Whether the user has limited the keys."""
        return any(value is not None for value in (self.start_id, self.end_id, self.lower, self.upper))

    @property
    def requires_key(self) -> bool:
        """Whether a later try continues the ranges of the first one, so that their bounds must be keys."""
        return self.ledger is not None

    @property
    def continues_plan(self) -> bool:
        """Whether a later try processes the rest of the ranges although the table has changed since."""
        return self.ledger is not None or self.resume is True

    @property
    def task_connections(self) -> int:
        """The connections that the task may open while workers hold theirs."""
        locks_watermark = self.is_increment and self.consistency == "snapshot"
        return int(self.results_table is not None or locks_watermark)

    @property
    def reading_idle_timeout(self) -> float | None:
        """``idle_in_transaction_session_timeout`` of the transactions in which ranges are read."""
        return self.idle_in_transaction_session_timeout

    @property
    def is_increment(self) -> bool:
        """Whether the run processes what is new since the last success. A run with a window processes the window."""
        return self.incremental and not self.has_window

    def _check_rows(self) -> None:
        check_text("where", self.where, "a condition in SQL", 'Write it as text: "TRUE" selects all rows.')
        if self.columns is not None:
            check_columns("columns", self.columns)
        check_choice("split", self.split, get_args(Split))
        check_choice("row_format", self.row_format, get_args(RowFormat))
        check_choice("batch_format", self.batch_format, (*get_args(BatchFormat), None))
        if self.batch_format is not None and self.row_format != "tuple":
            raise InvalidParameterError("row_format", "is not used with batch_format.", "Leave one of them out.")
        if isinstance(self.start_id, int) and isinstance(self.end_id, int) and self.start_id > self.end_id:
            problem = f"{self.start_id} is greater than end_id, {self.end_id}."
            raise InvalidParameterError("start_id", problem, "Use the first and the last id, both inclusive.")
        self._check_combinations()

    def _check_combinations(self) -> None:
        # As in ranges/, which cannot be imported at parse: it needs psycopg.
        for name, other in (("ranges", "rows_per_range"), ("start_id", "lower"), ("end_id", "upper")):
            if self._is_known(name) and self._is_known(other):
                raise InvalidParameterError(name, f"cannot be combined with {other}.", "Give one of the two.")
        if self.split == "pages":
            if self._is_known("key"):
                problem = f"is not supported with split='pages', got {self.key!r}."
                raise InvalidParameterError("key", problem, "Leave it out, or use another split.")
            for name in filter(self._is_known, ("start_id", "end_id", "lower", "upper")):
                problem = f"is not supported with split='pages', which has no key, got {getattr(self, name)!r}."
                raise InvalidParameterError(name, problem, "Use where instead.")

    def _is_known(self, name: str) -> bool:
        """Return whether the parameter is given, and not as a template that is still to be rendered."""
        return (value := getattr(self, name)) is not UNRENDERED and value is not None

    @property
    def function_name(self) -> str | None:
        """The parameter that has the function of the workers; None: SQL computes everything."""
        return next((name for name in POSITIONAL if getattr(self, name, None) is not None), None)

    def bind_function(self) -> UserFunction | None:
        """Return this function with its arguments."""
        name = self.function_name
        return None if name is None else bind_function(name, getattr(self, name), self.op_kwargs, self.init)

    def _check_function(self) -> None:
        if not is_given(self.op_kwargs):
            self._normalize("op_kwargs", {})
        if self.function_name is not None:
            check_arguments(self.function_name, getattr(self, self.function_name), self.op_kwargs, self.init)
            return
        for name in ("op_kwargs", "init"):
            if (value := getattr(self, name)) and value is not UNRENDERED:
                raise InvalidParameterError(name, "is for functions: totals have no arguments.", "Leave it out.")

    def _check_limits(self) -> None:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name))
        if self.range_timeout is not None:
            check_seconds("range_timeout", self.range_timeout, allow_zero=False)
        check_choice("on_range_failure", self.on_range_failure, get_args(OnFailure))
        allowance(self.tolerated_failures, 1)

    def _check_writes(self) -> None:
        check_choice("consistency", self.consistency, get_args(Consistency))
        if self.ledger_retention is not None:
            check_age("ledger_retention", self.ledger_retention)
            if self.ledger is None:
                raise InvalidParameterError("ledger_retention", "there is no ledger.", "Leave it out.")

    def _check_increments(self) -> None:
        if not self.incremental:
            for name in ("start", "lag"):
                if (value := getattr(self, name)) is not None:
                    problem = f"is for incremental=True, got {value!r}."
                    raise InvalidParameterError(name, problem, "Leave it out, or use lower or start_id for a window.")
            return
        check_lag("lag", self.lag)
        if self.key is not UNRENDERED and not isinstance(self.key, str):
            raise InvalidParameterError(
                "incremental", f"key must be one column, got {self.key!r}.", "Name a column whose values only increase."
            )
        if allowance(self.tolerated_failures, 1):
            problem = f"must be 0 with incremental=True, got {self.tolerated_failures!r}"
            reason = "no later run would process the rows of a failed range."
            raise InvalidParameterError("tolerated_failures", f"{problem}: {reason}", "Leave it out.")
