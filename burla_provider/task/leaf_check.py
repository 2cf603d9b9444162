"""Check that all ranges of a try have read the partitions and children that its snapshot sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import PartitionsChangedError

if TYPE_CHECKING:
    from burla_provider.ranges.plan import Plan
    from burla_provider.task.job_store import JobStore
    from burla_provider.task.reporter import Reporter
    from burla_provider.task.session import TaskSession

_ADVICE = "Attach and detach partitions when no job reads the table."


@contextmanager
def leaves_checked(
    session: TaskSession, plan: Plan, store: JobStore, reporter: Reporter, log: Any, *, counts_table: bool
) -> Iterator[None]:
    """Check the partitions and children again when the ranges were read, or when an error has ended that.

    Ranges of the whole table, and a count of its rows, read the partitions that exist at the time.

    :param store: must not keep the outcomes of the ranges if partitions have changed.
    :param counts_table: whether the rows of the table are counted.
    :raises PartitionsChangedError: if the partitions are not those of the snapshot any more.
    :raises PermanentError: if the outcomes cannot be discarded, because the ranges have written rows.
    """
    import psycopg

    reads_table = counts_table or any(key_range.relation is None for key_range in plan.ranges)
    if session.snapshot is None or not reads_table:
        yield
        return
    try:
        yield
    except Exception:
        changed = []
        # The connection may be lost, which may be the error.
        with suppress(psycopg.Error):
            changed = session.find_changed_leaves()
        if changed:
            _discard(store, reporter, problem := _describe(changed))
            log.warning("%s The next try starts from the beginning.", problem)
        raise
    if changed := session.find_changed_leaves():
        _discard(store, reporter, problem := _describe(changed))
        raise PartitionsChangedError(
            f"{problem} The result would mix rows of different snapshots. Retry the task: it starts from the beginning."
            f" {_ADVICE}"
        )


def _describe(changed: list[str]) -> str:
    return f"Partitions or children changed while the ranges were read: {', '.join(changed)}."


def _discard(store: JobStore, reporter: Reporter, problem: str) -> None:
    store.discard(problem)
    reporter.resumption = store.resumption
