"""Decide whether a retry can resume the job of an earlier try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from burla_provider.database.wording import quantity
from burla_provider.task.checkpoint import Checkpoint, SavedJob

Resume = Literal["auto"] | bool
TableState = dict[str, str] | None

NO_STORE = (
    "This Airflow has no task state store (added in 3.3): a retry of this task starts its job from the beginning."
)


@dataclass(frozen=True)
class JobIdentity:
    """The values that must be equal for a retry to resume a job.

    :param run: this run of the task (``run_key``).
    :param fingerprint: fingerprint of database, table, window, condition, and the functions with their code.
    :param has_snapshot: whether all ranges are read in one snapshot.
    :param state: the table's state just before that snapshot (``state_before``); None: unknown.
    :param leaves: identifies the partitions and children in that snapshot.
    """

    run: str
    fingerprint: str
    has_snapshot: bool = False
    state: TableState = None
    leaves: str = ""

    def as_header(self, snapshot_count: int = 1, *, pages: bool = False) -> dict[str, Any]:
        """Return the header of the checkpoint, JSON. Other versions of this provider read the same keys.

        :param snapshot_count: number of snapshots in which the table has been read.
        :param pages: whether the ranges are ranges of physical pages.
        """
        header = {"run": self.run, "fingerprint": self.fingerprint, "state": self.state}
        return header | {"leaves": self.leaves, "moments": snapshot_count, "pages": pages}


def find_earlier(
    checkpoint: Checkpoint,
    resume: Resume,
    identity: JobIdentity,
    find_possible_change: Callable[[TableState], str] | None = None,
) -> tuple[SavedJob | None, str]:
    """Return the job of an earlier try if this try can resume it, and a sentence for the log, or "".

    :param resume: "auto": if that is safe; True: also in another snapshot of the table; False: never.
    :param find_possible_change: returns why the table may have changed since an earlier state of it; "" if it has not.
    """
    saved = checkpoint.load()
    if saved is None:
        return None, ""
    done = f"An earlier try has finished {quantity(len(saved.outcomes), 'item')}"
    if reason := _objection(saved, resume, identity, find_possible_change):
        return None, f"{done}, but this try starts from the beginning: {reason}"
    return saved, f"{done}: processing only what is missing."


def _objection(
    saved: SavedJob, resume: Resume, identity: JobIdentity, find_possible_change: Callable[[TableState], str] | None
) -> str:
    if resume is False:
        return "resume=False."
    if saved.header.get("run") != identity.run:
        return "the task was cleared since, or its DAG run was created again."
    if saved.header.get("fingerprint") != identity.fingerprint:
        return (
            "its parameters have changed since (database, login, session settings, table, columns, window, condition,"
            " split, function, requirements, image or version of Python)."
        )
    if saved.header.get("pages") and not identity.has_snapshot:
        return "its ranges are ranges of physical pages, which can be read in a snapshot only."
    if identity.has_snapshot and saved.header.get("leaves") not in ("", identity.leaves):
        return "partitions or children of the table were attached, detached, renamed, created or dropped since."
    possible_change = (
        find_possible_change(saved.header.get("state")) if find_possible_change and identity.has_snapshot else ""
    )
    if possible_change and saved.header.get("pages"):
        return f"its ranges are ranges of physical pages, and the table may have changed since ({possible_change})."
    if possible_change and resume is not True:
        return (
            f"the table may have changed since ({possible_change}), and all ranges must be read in one snapshot."
            " With resume=True the job would continue in a second snapshot, and the result would say so."
        )
    return ""
