"""Whether a retry may go on where an earlier try ended, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from burla_provider.checkpoint import Checkpoint, Saved

Resume = Literal["auto"] | bool

NO_STORE = "This Airflow has no task state store (it came with 3.3): a retry of this task starts its job afresh."


@dataclass(frozen=True)
class JobFacts:
    """What makes two jobs the same.

    :param run: this run of the task (``run_key``).
    :param fingerprint: of what is asked for: database, table, window, condition, kind of work and its code.
    :param reads_one_moment: all ranges are read in one snapshot.
    :param state: of the table before that moment (``table_state``); None: unknown.
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


def find_earlier(
    checkpoint: Checkpoint, resume: Resume, facts: JobFacts, state_now: dict[str, str] | None = None
) -> tuple[Saved | None, str]:
    """What an earlier try left, if this try may go on with it, and a sentence for the log ("" when there is nothing).

    :param resume: "auto": where it is sound; True: also at another moment of the table; False: never.
    :param state_now: the table's state, asked for after this try's snapshot was taken.
    """
    saved = checkpoint.load()
    if saved is None:
        return None, ""
    done = f"An earlier try has done {len(saved.outcomes):,}"
    if reason := _objection(saved, resume, facts, state_now):
        return None, f"{done}, but this one starts afresh: {reason}"
    return saved, f"{done}: working only what is missing."


def _objection(saved: Saved, resume: Resume, facts: JobFacts, state_now: dict[str, str] | None) -> str:
    if resume is False:
        return "resume=False."
    if saved.facts.get("run") != facts.run:
        return "the task was cleared since, or its DAG run was made again."
    if saved.facts.get("fingerprint") != facts.fingerprint:
        return "what it is to do has changed since (database, table, columns, window, condition, split or function)."
    if not facts.reads_one_moment:
        return ""
    is_unchanged = state_now is not None and saved.facts.get("state") == state_now
    if not is_unchanged and saved.facts.get("pages"):
        return "its ranges are of physical pages, which hold other rows when the table has changed."
    if not is_unchanged and resume is not True:
        return (
            "the table may have changed since, and all ranges are to be read at one moment."
            " With resume=True it would go on at a second moment, and say so in the result."
        )
    return ""
