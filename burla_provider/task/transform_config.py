"""The parameters of one transform job: frozen, checked, and normalized, as in ``task/config.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.config import TableConfig
from burla_provider.task.failure_policy import allowance
from burla_provider.task.validation import (
    UNRENDERED,
    check_boolean,
    check_choice,
    check_function,
    check_single,
    check_strings,
    check_text,
    is_given,
)

MAX_PAUSE_SECONDS = 600.0
"""Longest pause of a running job, whose snapshot holds back vacuum, and whose workers others could use."""

WriteMode = Literal["insert", "upsert", "update", "overwrite"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TransformJobConfig(TableConfig):
    """The parameters of a ``BurlaPostgresTransformOperator``, which documents them."""

    map_row: Callable[[Any], Any] | None
    map_batch: Callable[[Any], Any] | None
    target_table: str | None
    target_conn_id: str
    target_columns: Sequence[str] | None
    write_mode: WriteMode
    conflict_columns: Sequence[str] | None
    update_columns: Sequence[str] | None
    version_column: str | None
    overwrite_where: str | None
    reject_table: str | None
    tolerated_rejects: int | str | None
    isolate_failures: bool
    pause_while: str | None
    pause_conn_id: str

    result_size_advice: ClassVar[str] = "Raise the limit."
    # What BurlaPostgresOperator does with rows.
    totals: ClassVar[None] = None
    process_rows: ClassVar[None] = None
    process_range: ClassVar[None] = None
    combine: ClassVar[None] = None
    verify: ClassVar[None] = None

    @property
    def requires_key(self) -> bool:
        """True: a range is written in the order of its key."""
        return True

    @property
    def continues_plan(self) -> bool:
        """Whether a later try processes the rest of the ranges although the table has changed since."""
        return super().continues_plan or (self.write_mode == "overwrite" and self.resume is not False)

    @property
    def task_connections(self) -> int:
        """During a pause, the task holds a lock on a connection of its own."""
        return super().task_connections + int(self.pause_while is not None)

    @property
    def reading_idle_timeout(self) -> float | None:
        """During a pause, the transactions in which ranges are read are idle."""
        timeout = super().reading_idle_timeout
        return 2 * MAX_PAUSE_SECONDS if self.pause_while and timeout is None else timeout

    @property
    def gets_batches(self) -> bool:
        """Whether the function gets several rows at once."""
        return self.map_batch is not None

    @property
    def is_in_place(self) -> bool:
        """Whether the rows that are read are updated."""
        return self.target_table is None

    def _check_rows(self) -> None:
        check_single("Give a function of a row, or of a batch of rows.", map_row=self.map_row, map_batch=self.map_batch)
        for name in ("map_row", "map_batch"):
            if getattr(self, name) is not None:
                check_function(name, getattr(self, name))
        for name in ("batch_format", "batch_size"):
            if getattr(self, name) is not None and self.map_row is not None:
                raise InvalidParameterError(name, "is for map_batch, and map_row gets single rows.", "Use map_batch.")
        if self.split == "pages":
            problem = "'pages' cannot be used by a job that writes: a retry continues in the order of a key."
            raise InvalidParameterError("split", problem, "Split by a key.")
        super()._check_rows()

    def _check_writes(self) -> None:
        self._check_texts(
            "target_table", "target_conn_id", "version_column", "reject_table", "pause_while", "pause_conn_id"
        )
        if not is_given(self.target_table):
            self._normalize("target_table", None)
        if self.consistency is None:
            self._normalize("consistency", "none" if self.is_in_place else "snapshot")
        super()._check_writes()
        check_choice("write_mode", self.write_mode, get_args(WriteMode))
        for name in ("target_columns", "conflict_columns", "update_columns"):
            if getattr(self, name) is not None:
                check_strings(name, getattr(self, name))
                self._check_once(name)
        if self.is_in_place:
            self._check_in_place()
        if not is_given(self.target_conn_id):
            self._normalize("target_conn_id", self.postgres_conn_id)
        if not is_given(self.pause_while):
            self._normalize("pause_while", None)
        if not is_given(self.pause_conn_id):
            self._normalize("pause_conn_id", self.target_conn_id)
        if not is_given(self.overwrite_where):
            self._normalize("overwrite_where", None)
        self._check_mode()

    def _check_mode(self) -> None:
        """Check the parameters that only some write modes have."""
        if self.write_mode == "insert" and self.ledger is None:
            raise InvalidParameterError(
                "ledger",
                'is required with write_mode="insert": without it, a retry inserts rows twice.',
                'Name a table of the target\'s database, which is created: ledger="public.burla_ledger".',
            )
        if self.write_mode == "insert":
            self._refuse('is not used with write_mode="insert".', "conflict_columns", "update_columns")
        if self.write_mode != "upsert":
            self._refuse('is for write_mode="upsert".', "version_column")
        if self.write_mode == "update" and self.update_columns == []:
            raise InvalidParameterError("update_columns", "must not be empty, got [].", "Name the columns to update.")
        if self.write_mode == "overwrite":
            self._check_overwrite()
        else:
            self._refuse('is for write_mode="overwrite".', "overwrite_where")
        self._check_rejects()

    def _check_overwrite(self) -> None:
        mode = 'write_mode="overwrite"'
        self._refuse(f"is not used with {mode}, which replaces rows.", "update_columns")
        if self.overwrite_where is None:
            raise InvalidParameterError(
                "overwrite_where",
                f"is required with {mode}: it names the rows of the target to replace.",
                "Give a condition on the target's columns: \"day = '{{ data_interval_start | ds }}'\"."
                ' "TRUE" replaces all rows.',
            )
        advice = 'Write it as text: "TRUE" replaces all rows.'
        check_text("overwrite_where", self.overwrite_where, "a condition in SQL", advice)
        if allowance(self.tolerated_failures, 1):
            problem = f"must be 0 with {mode}, got {self.tolerated_failures!r}"
            reason = "the rows of a failed range would be deleted."
            raise InvalidParameterError("tolerated_failures", f"{problem}: {reason}", "Leave it out.")
        if self.incremental:
            problem = f"cannot be used with {mode}: rows of earlier runs that overwrite_where names would be deleted."
            raise InvalidParameterError("incremental", problem, 'Give each run a window, or use write_mode="upsert".')

    def _check_rejects(self) -> None:
        for name in ("reject_table", "tolerated_rejects", "version_column"):
            if not is_given(getattr(self, name)):
                self._normalize(name, None)
        check_boolean("isolate_failures", self.isolate_failures)
        if self.tolerated_rejects is not None and self.tolerated_rejects is not UNRENDERED:
            allowance(self.tolerated_rejects, 1, "tolerated_rejects")
        if self.reject_table is None:
            self._refuse("there is no reject_table.", "tolerated_rejects")
            return
        if self.ledger is None and self.write_mode != "overwrite":  # which has its own
            raise InvalidParameterError(
                "ledger",
                "is required with a reject_table: without it, a retry rejects rows twice.",
                'Name a table of the target\'s database, which is created: ledger="public.burla_ledger".',
            )
        if self.map_batch is not None and not self.isolate_failures:
            raise InvalidParameterError(
                "isolate_failures",
                "must be True with map_batch and a reject_table, to find the rows of a batch that fail.",
                "The function is then called about three times per row of a batch if one row fails.",
            )

    def _check_in_place(self) -> None:
        if self.write_mode != "update":
            raise InvalidParameterError(
                "target_table",
                f'is required with write_mode="{self.write_mode}".',
                'Name the table to write to. Without it, write_mode="update" updates the rows that are read.',
            )
        self._refuse("is for writing to a target_table.", "target_conn_id", "target_columns", "conflict_columns")
        if self.update_columns is None:
            raise InvalidParameterError(
                "update_columns", "is required without a target_table.", "Name the columns that the function computes."
            )
        if self.consistency == "snapshot":
            problem = 'must be "none" without a target_table: a row is updated only if it has not changed since it was'
            raise InvalidParameterError("consistency", f"{problem} read.", "Leave it out.")

    def _check_once(self, name: str) -> None:
        columns = getattr(self, name)
        if columns is not UNRENDERED and len(set(columns)) < len(columns):
            problem = f"has a column twice: {', '.join(columns)}."
            raise InvalidParameterError(name, problem, "Name each column once.")

    def _refuse(self, problem: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise InvalidParameterError(name, problem, "Leave it out.")
