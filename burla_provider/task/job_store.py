"""Store a job's plan and outcomes for a retry: in the task state store or, for jobs that write, in the ledger."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from burla_provider.database.table_state import REPORT_TIMEOUT, find_possible_change
from burla_provider.database.wording import quantity
from burla_provider.exceptions import PermanentError, RunChangedError
from burla_provider.task.checkpoint import Checkpoint
from burla_provider.task.resume import JobIdentity, Resume, TableState, find_earlier
from burla_provider.task.resumption import DISCARDED, Resumption, checkpoint_resumption
from burla_provider.worker.outcome import Outcome

if TYPE_CHECKING:
    import psycopg

    from burla_provider.ranges.plan import Plan, RangePlan
    from burla_provider.task.session import TaskSession
    from burla_provider.worker.ledger import Ledger

_log = logging.getLogger(__name__)

_NOT_RESUMABLE = (
    "The ranges are ranges of physical pages: a retry starts from the beginning if the table was written since, also"
    " with resume=True. Give key=... to continue in another snapshot."
)

_OTHER_LEAVES = (
    "Partitions or children of the table were attached, detached, renamed, created or dropped since the first try. The"
    " finished ranges have read those of an earlier time: rows of a new partition may be left out, and rows of a"
    " detached one may be written."
)


@dataclass(frozen=True)
class RestoredJob:
    """The plan to run, and the outcomes of earlier tries.

    :param plan: the first try's plan, or a new one.
    :param earlier: the outcomes of earlier tries.
    :param snapshot_count: number of snapshots in which the table is read, all tries together.
    :param note: a sentence for the log, or "".
    :param warning: a warning for the log, or "".
    """

    plan: Plan
    earlier: list[Outcome]
    snapshot_count: int = 1
    note: str = ""
    warning: str = ""


class JobStore(Protocol):
    """Stores the plan and the outcomes of one job."""

    def open(self, make_plan: Callable[[], RangePlan]) -> RestoredJob:
        """Restore the job of an earlier try, or store a new plan."""

    def add(self, outcome: Outcome) -> None:
        """Store an outcome, now or at the next flush."""

    def flush(self) -> None:
        """Store what is not stored yet."""

    def close(self) -> None:
        """End the job, which has succeeded."""

    def discard(self, problem: str) -> None:
        """Remove the job, so that the next try starts from the beginning.

        :param problem: what is wrong with the outcomes, a sentence.
        :raises PermanentError: if that is not possible, because the ranges have written rows.
        """

    def has_written(self) -> bool:
        """Return whether the run has written rows, so that a retry must stay possible: clearing writes them again."""

    @property
    def resumption(self) -> Resumption:
        """What the next try finds stored."""


class CheckpointStore:
    """Stores a job that reads in Airflow's task state store.

    :param resume: the operator's parameter.
    """

    def __init__(self, checkpoint: Checkpoint, resume: Resume, identity: JobIdentity, session: TaskSession) -> None:
        self._checkpoint = checkpoint
        self._resume = resume
        self._identity = identity
        self._session = session
        self._possible_change = ""
        self._is_discarded = False
        self.add = checkpoint.add
        self.flush = checkpoint.flush

    def open(self, make_plan: Callable[[], RangePlan]) -> RestoredJob:
        """Restore the job of an earlier try if that is safe, else store a new plan."""
        from burla_provider.ranges.plan import from_record, to_record

        saved, note = find_earlier(self._checkpoint, self._resume, self._identity, self._find_possible_change)
        if saved is None:
            plan = make_plan()
            header = self._identity.as_header(pages=plan.needs_snapshot)
            self._checkpoint.begin(header, json.dumps(to_record(plan)).encode())
            pages_note = _NOT_RESUMABLE if plan.needs_snapshot and self._resume is True else ""
            return RestoredJob(plan, [], note=f"{note} {pages_note}".strip())
        snapshot_count = saved.header["moments"] + bool(self._possible_change)
        self._checkpoint.update(self._identity.as_header(snapshot_count, pages=saved.header["pages"]))
        return RestoredJob(from_record(json.loads(saved.plan)), saved.outcomes, snapshot_count, note)

    def close(self) -> None:
        """Do nothing: the operator clears the checkpoint when Airflow has stored the result."""

    def discard(self, _: str) -> None:
        """Remove the checkpoint."""
        self._checkpoint.clear()
        self._is_discarded = True

    def has_written(self) -> bool:
        """Return False: the job only reads, or a repeated write is allowed."""
        return False

    @property
    def resumption(self) -> Resumption:
        """What the next try finds in Airflow's task state store."""
        if self._is_discarded:
            return DISCARDED
        is_comparable = None if self._session.snapshot is None else self._identity.state is not None
        return checkpoint_resumption(self._checkpoint.is_stored, self._resume, is_comparable=is_comparable)

    def _find_possible_change(self, state: TableState) -> str:
        session = self._session
        # With resume=True, the job continues in any case.
        timeout = REPORT_TIMEOUT if self._resume == "auto" else 0
        self._possible_change = find_possible_change(session.connection, session.schema, session.table, state, timeout)
        return self._possible_change


class LedgerSession(Protocol):
    """The task's session with the database of the ledger."""

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection."""

    def final_connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Return a connection for the last steps."""


class LedgerStore:
    """Stores a job that writes in the ledger. The workers' transactions store the outcomes.

    :param session: the session with the ledger's database.
    :param fingerprint: fingerprint of the job's parameters without the function's code, so that a run can continue
        with a corrected function.
    :param task: prefix of the keys of all runs of this task, including earlier DAG runs with the same id.
    :param run: the key of this run of the task; the ledger's key may be longer.
    :param cleared: whether the task was cleared in this DAG run.
    :param retention: remove runs that ended longer ago; None: remove none.
    :param find_more: for a run that continues with the ledger's plan: returns the plan of the ranges to append, or None
        if there are none. None: the run is new, or a retry.
    :param on_planned: called when the ledger has the plan of a new run, before any range is processed.
    :param leaves: identifies the partitions and children that this try reads; "" if each range reads the current ones.
    :param is_staging: whether the ranges write to a staging table, which the next try can drop.
    :param resumption: what the next try finds in this ledger.
    """

    def __init__(
        self,
        session: LedgerSession,
        ledger: Ledger,
        fingerprint: str,
        task: str,
        run: str,
        cleared: bool,
        retention: timedelta | None,
        *,
        find_more: Callable[[Plan], Plan | None] | None = None,
        on_planned: Callable[[], None] = lambda: None,
        leaves: str = "",
        is_staging: bool = False,
        resumption: Resumption,
    ) -> None:
        self._resumption = resumption
        self._session = session
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._task = task
        self._run = run
        self._is_cleared = cleared
        self._retention = retention
        self._find_more = find_more
        self._on_planned = on_planned
        self._leaves = leaves
        self._is_staging = is_staging

    def open(self, make_plan: Callable[[], RangePlan]) -> RestoredJob:
        """Store the plan of a new run, or restore the plan and the outcomes of an earlier try.

        :raises RunChangedError: if the parameters have changed since the first try.
        :raises PermanentError: if its plan is missing.
        """
        from burla_provider.ranges.plan import from_record, to_record
        from burla_provider.task.ledger_table import is_begun, read_outcomes, store_plan

        connection = self._session.connection
        # All tries use the plan of the first try, because its bounds decide what the finished ranges have written.
        if self._find_more is None:
            items = [self._fingerprint, to_record(make_plan()), self._leaves]
            stored = store_plan(connection, self._ledger, items)
            self._check(stored)
            self._on_planned()
        else:
            stored = self._extend_plan(self._find_more)
        earlier = list(read_outcomes(connection, self._ledger))
        snapshot_count = 2 if self._leaves and is_begun(connection, self._ledger) else 1
        has_other_leaves = snapshot_count > 1 and stored[2:] not in ([], [""], [self._leaves])
        warning = _OTHER_LEAVES if has_other_leaves else ""
        return RestoredJob(from_record(stored[1]), earlier, snapshot_count, self._note(len(earlier)), warning)

    def add(self, outcome: Outcome) -> None:
        """Do nothing: the range's own transaction has stored it."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Remove old runs from the ledger. If that is not possible now, a later run removes them."""
        import psycopg

        from burla_provider.task.ledger_table import remove_old_runs

        if self._retention is None:
            return
        try:
            with self._session.final_connection() as connection:
                remove_old_runs(connection, self._ledger, self._retention)
        except psycopg.Error as error:  # everything is written: the task has succeeded
            _log.warning(
                "ledger_retention: old runs cannot be removed from the ledger %s now (%s). The next run that succeeds"
                " tries it again.",
                self._ledger,
                error.diag.message_primary or type(error).__name__,
            )

    def discard(self, problem: str) -> None:
        """Remove the run from the ledger. The next try then drops the staging table, because there is no plan.

        :raises PermanentError: if rows are written, and not to a staging table.
        """
        from burla_provider.task.ledger_table import is_begun, remove_run

        with self._session.final_connection() as connection:
            if self._is_staging:
                remove_run(connection, self._ledger, self._ledger.run_key)
            elif is_begun(connection, self._ledger):
                raise PermanentError(
                    f"{problem} Some ranges may have written their rows, and others not. A retry cannot correct that:"
                    f" the ledger {self._ledger} has what is written. Compare the target with these partitions."
                    " Clearing the task starts a new run, which writes all ranges again."
                )
        self._resumption = replace(self._resumption, keeps=False, reason=DISCARDED.reason)

    def has_written(self) -> bool:
        """Return whether ranges, or chunks of them, are written. A staging table may be written again."""
        import psycopg

        from burla_provider.task.ledger_table import is_begun

        if self._is_staging:
            return False
        try:
            with self._session.final_connection() as connection:
                return is_begun(connection, self._ledger)
        except psycopg.Error:  # unknown
            return True

    @property
    def resumption(self) -> Resumption:
        """What the next try finds in the ledger."""
        return self._resumption

    def _extend_plan(self, find_more: Callable[[Plan], Plan | None]) -> list[Any]:
        from burla_provider.ranges.plan import extend_plan, from_record, to_record
        from burla_provider.task.ledger_table import update_plan

        def extend(stored: list[Any] | None) -> list[Any]:
            if stored is None:
                raise PermanentError(
                    f"The ledger {self._ledger} no longer has the plan of the run {self._ledger.run_key}, which may"
                    " have written a part of its window. Clear the task to start a new run, which writes that part"
                    " again."
                )
            self._check(stored)
            plan = from_record(stored[1])
            more = find_more(plan)
            return [self._fingerprint, to_record(extend_plan(plan, more)), *stored[2:]] if more else stored

        return update_plan(self._session.connection, self._ledger, extend)

    def _check(self, stored: list[Any]) -> None:
        if stored[0] != self._fingerprint:
            problem = (
                "The version of the provider, the table, its primary key, the window, condition, split, target or"
                " (under row security) login changed since this run's first try, whose writes are recorded in the"
                f" ledger {self._ledger}."
            )
            if self._is_staging:
                self.discard(problem)
                raise RunChangedError(f"{problem} The next try starts from the beginning.")
            raise RunChangedError(
                f"{problem} Undo the change before the next retry, which continues this run. Clearing the task starts"
                " a new run, which writes all ranges again."
            )
        if any(relation for _, _, _, relation, _ in stored[1]["items"]):
            raise PermanentError(
                "An earlier version of the provider has planned this run partition by partition. A row that has moved"
                " to another partition since would be written twice or left out. Clear the task to start a new run,"
                " which writes all ranges again."
            )

    def _note(self, earlier: int) -> str:
        from burla_provider.task.ledger_table import count_finished

        if earlier:
            return f"The ledger has {quantity(earlier, 'finished range')} of this run: processing only what is missing."
        written = count_finished(self._session.connection, self._ledger, self._task, self._run)
        again = "The task was cleared" if self._is_cleared else "The DAG run was created again"
        was = "was" if written == 1 else "were"
        ranges = f"{quantity(written, 'range')} that {was} already written will be written again"
        return f"{again}, which starts a new run: {ranges}." if written else ""
