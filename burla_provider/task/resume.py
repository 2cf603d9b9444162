"""Whether a retry may go on where an earlier try ended, and why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from burla_provider.task.checkpoint import Checkpoint, SavedJob

Resume = Literal["auto"] | bool

NO_STORE = "This Airflow has no task state store (it came with 3.3): a retry of this task starts its job afresh."


@dataclass(frozen=True)
class JobFacts:
    """What makes two jobs the same.

    :param run: this run of the task (``run_key``).
    :param fingerprint: of what is asked for: database, table, window, condition, kind of work and its code.
    :param reads_one_moment: all ranges are read in one snapshot.
    :param state: of the table before that moment (``state_before``); None: unknown.
    """

    run: str
    fingerprint: str
    reads_one_moment: bool = False
    state: dict[str, str] | None = None

    def as_dict(self, moments: int = 1, *, pages: bool = False) -> dict[str, Any]:
        """For the checkpoint.

        :param moments: at how many moments the table has been read.
        :param pages: the ranges are of physical pages.
        """
        facts = {"run": self.run, "fingerprint": self.fingerprint, "state": self.state}
        return facts | {"moments": moments, "pages": pages}


State = dict[str, str] | None


def find_earlier(
    checkpoint: Checkpoint, resume: Resume, facts: JobFacts, find_doubt: Callable[[State], str] | None = None
) -> tuple[SavedJob | None, str]:
    """What an earlier try left, if this try may go on with it, and a sentence for the log ("" when there is nothing).

    :param resume: "auto": where it is sound; True: also at another moment of the table; False: never.
    :param find_doubt: the table's earlier state -> why it may have changed until this try's snapshot was taken, or "".
    """
    saved = checkpoint.load()
    if saved is None:
        return None, ""
    done = f"An earlier try has done {len(saved.outcomes):,}"
    if reason := _objection(saved, resume, facts, find_doubt):
        return None, f"{done}, but this one starts afresh: {reason}"
    return saved, f"{done}: working only what is missing."


def _objection(saved: SavedJob, resume: Resume, facts: JobFacts, find_doubt: Callable[[State], str] | None) -> str:
    if resume is False:
        return "resume=False."
    if saved.facts.get("run") != facts.run:
        return "the task was cleared since, or its DAG run was made again."
    if saved.facts.get("fingerprint") != facts.fingerprint:
        return (
            "what it is to do has changed since (database, login, session settings, table, columns, window, condition,"
            " split or function)."
        )
    doubt = find_doubt(saved.facts.get("state")) if find_doubt and facts.reads_one_moment else ""
    if doubt and saved.facts.get("pages"):
        return f"its ranges are of physical pages, which hold other rows when the table has changed ({doubt})."
    if doubt and resume is not True:
        return (
            f"the table may have changed since ({doubt}), and all ranges are to be read at one moment."
            " With resume=True it would go on at a second moment, and say so in the result."
        )
    return ""
