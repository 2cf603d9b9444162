"""Where a job's plan and outcomes are kept for a retry: the task state store, or, for jobs that write, the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from burla_provider.exceptions import PermanentError
from burla_provider.task.checkpoint import Checkpoint
from burla_provider.task.resume import JobFacts, Resume, find_earlier
from burla_provider.worker.outcome import Outcome

if TYPE_CHECKING:
    from burla_provider.ranges.plan import Plan, RangePlan
    from burla_provider.task.session import TaskSession
    from burla_provider.worker.ledger import Ledger


@dataclass(frozen=True)
class RestoredJob:
    """What there is to go on with.

    :param plan: of the first try, or a new one.
    :param earlier: outcomes of the tries before.
    :param moments: at how many moments the table is read, all tries together.
    :param note: a sentence for the log; "" when there is nothing to say.
    """

    plan: Plan
    earlier: list[Outcome]
    moments: int = 1
    note: str = ""


class JobStore(Protocol):
    """Opened with the plan, told of every outcome, closed when the job has succeeded."""

    def open(self, make_plan: Callable[[], RangePlan]) -> RestoredJob: ...
    def add(self, outcome: Outcome) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class CheckpointStore:
    """In Airflow's task state store, for jobs that read.

    :param resume: the operator's parameter.
    """

    def __init__(self, checkpoint: Checkpoint, resume: Resume, facts: JobFacts, moment: TaskSession) -> None:
        self._checkpoint = checkpoint
        self._resume = resume
        self._facts = facts
        self._moment = moment
        self._doubt = ""
        self.add = checkpoint.add
        self.flush = checkpoint.flush

    def open(self, make_plan: Callable[[], RangePlan]) -> RestoredJob:
        from burla_provider.ranges.plan import from_record, to_record

        saved, note = find_earlier(self._checkpoint, self._resume, self._facts, self._find_doubt)
        if saved is None:
            plan = make_plan()
            facts = self._facts.as_dict(pages=plan.needs_snapshot)
            self._checkpoint.begin(facts, json.dumps(to_record(plan)).encode())
            return RestoredJob(plan, [], 1, note)
        moments = saved.facts["moments"] + bool(self._doubt)
        self._checkpoint.update(self._facts.as_dict(moments, pages=saved.facts["pages"]))
        return RestoredJob(from_record(json.loads(saved.plan)), saved.outcomes, moments, note)

    def close(self) -> None:
        """Nothing to do: the operator clears the checkpoint when Airflow has stored the result."""

    def _find_doubt(self, state: dict[str, str] | None) -> str:
        self._doubt = self._moment.find_doubt(state, wait=self._resume == "auto")
        return self._doubt


class LedgerStore:
    """In the ledger, for jobs that write: the worker's own transactions keep the outcomes.

    :param moment: the task's session; there is no snapshot.
    :param asked: a fingerprint of what is asked for, without the function's code: a mended function may go on.
    :param task: what the keys of all runs of this task begin with, of earlier DAG runs of the same id too.
    :param run: the key of this run of the task; the ledger's may have more behind it.
    :param cleared: the task was cleared in this DAG run.
    :param retention: runs that ended longer ago are removed; None keeps them.
    :param find_more: the run goes on with the plan that the ledger has, and adds the ranges of the plan that this
        answers, given the ledger's; None: the run is a new one, or a retry.
    :param on_planned: called when the ledger has the plan, before a range is worked. Not for a run that goes on.
    """

    def __init__(
        self,
        moment: TaskSession,
        ledger: Ledger,
        asked: str,
        task: str,
        run: str,
        cleared: bool,
        retention: timedelta | None,
        *,
        find_more: Callable[[Plan], Plan | None] | None = None,
        on_planned: Callable[[], None] = lambda: None,
    ) -> None:
        self._find_more = find_more
        self._on_planned = on_planned
        self._moment = moment
        self._ledger = ledger
        self._asked = asked
        self._task = task
        self._run = run
        self._is_cleared = cleared
        self._retention = retention

    def open(self, make_plan: Callable[[], RangePlan]) -> RestoredJob:
        """:raises PermanentError: the task is to do something else than its first try, or its plan is gone."""
        from burla_provider.ranges.plan import from_record, to_record
        from burla_provider.task.ledger_table import finished_ranges, keep_plan

        connection = self._moment.connection
        # The first try's plan holds for all tries: ranges that are done are done with its bounds.
        if self._find_more is None:
            kept = keep_plan(connection, self._ledger, [self._asked, to_record(make_plan())])
            self._check(kept)
            self._on_planned()
        else:
            kept = self._go_on(self._find_more)
        earlier = list(finished_ranges(connection, self._ledger))
        return RestoredJob(from_record(kept[1]), earlier, 1, self._note(len(earlier)))

    def _go_on(self, find_more: Callable[[Plan], Plan | None]) -> list[Any]:
        from burla_provider.ranges.plan import extend_plan, from_record, to_record
        from burla_provider.task.ledger_table import change_plan

        def change(kept: list[Any] | None) -> list[Any]:
            if kept is None:
                raise PermanentError(
                    f"The ledger {self._ledger} no longer has the plan of the run {self._ledger.run_key}, of which a"
                    " part may be written. Clear the task to begin a new run, which writes that part again."
                )
            self._check(kept)
            plan = from_record(kept[1])
            more = find_more(plan)
            return [self._asked, to_record(extend_plan(plan, more))] if more else kept

        return change_plan(self._moment.connection, self._ledger, change)

    def _check(self, kept: list[Any]) -> None:
        if kept[0] != self._asked:
            raise PermanentError(
                "The table, window, condition, split or (under row security) login changed since this run's first try,"
                f" whose writes the ledger {self._ledger} has. Clear the task to begin a new run, or change it back."
            )

    def _note(self, earlier: int) -> str:
        from burla_provider.task.ledger_table import count_finished

        if earlier:
            return f"The ledger has {earlier:,} ranges of this run: working only what is missing."
        written = count_finished(self._moment.connection, self._ledger, self._task, self._run)
        again = "Clearing the task began" if self._is_cleared else "The DAG run was made again, which is"
        return f"{again} a new run: {written:,} ranges are written once more." if written else ""

    def add(self, outcome: Outcome) -> None:
        """Nothing to do: the range's own transaction has kept it."""

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        from burla_provider.task.ledger_table import remove_old_runs

        if self._retention is not None:
            with self._moment.final_connection() as connection:
                remove_old_runs(connection, self._ledger, self._retention)
