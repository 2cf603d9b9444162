"""A short record of the earlier tries of a task, for the Ranges tab: Airflow deletes a try's XComs before the next."""

from __future__ import annotations

from typing import Any

from burla_provider.task.checkpoint import StateStore
from burla_provider.task.short_text import SEE_LOG
from burla_provider.worker.errors import cut

TRIES = "burla_tries"
"""Key of the task state store: the earlier tries."""
_MAX_TRIES = 10
_MAX_DETAIL_CHARS = 250


def load_tries(store: StateStore, report_key: str, number: int) -> list[dict[str, Any]]:
    """Return the earlier tries, the oldest first.

    :param report_key: key of a report that a try has left because its process was killed.
    :param number: the number of this try. A DAG run that was created again counts from 1.
    """
    stored = store.get(TRIES)
    tries = [record for record in stored if record["number"] <= number] if isinstance(stored, list) else []
    left = store.get(report_key)
    left_number = (left.get("try") or {}).get("number", number) if isinstance(left, dict) else number
    if left_number < number and left_number not in [record["number"] for record in tries]:
        tries.append(
            _try_record(left | {"status": {"state": "failed", "detail": "The process of the try was killed."}})
        )
    return tries[-_MAX_TRIES:]


def save_try(store: StateStore, tries: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """Add a try that has ended to the earlier ones, for the next try.

    :param report: its last report.
    """
    store.set(TRIES, [*tries, _try_record(report)][-_MAX_TRIES:])


def _try_record(report: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a try.

    :param report: its last report.
    """
    status = report["status"]
    detail = _first_sentence(status["detail"])
    return {
        "number": report["try"]["number"],
        "count": report["try"]["count"],
        "state": status["state"],
        "detail": cut(detail, _MAX_DETAIL_CHARS, SEE_LOG),
        "began": report["began"],
        "seconds": report["elapsed"],
        "done": report["done"],
        "failed": report["failed"],
    }


def _first_sentence(text: str) -> str:
    """Return the first line, and the second one too if the first one announces it."""
    first, *others = text.split("\n")
    return f"{first} {others[0].removeprefix('- ')}" if first.endswith(":") and others else first
