"""Lines of a task's log that Airflow's UI folds away below a title."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burla_provider.ranges.plan import Plan


SHOWN_TOTALS = 10_000
"""Characters of a result: Airflow looks for secrets in all that is logged, and the UI loads it."""


def without_markers(text: str) -> str:
    """A user's text in which nothing opens or closes a group: the UI finds the markers anywhere in a record."""
    return text.replace("::group::", ":group:").replace("::endgroup::", ":endgroup:")


def log_group(log: Any, title: str, lines: Iterable[str]) -> None:
    """Log lines as a group that opens on a click.

    The UI looks for the markers record by record: each has a record of its own.
    """
    for line in [f"::group::{title}", *lines, "::endgroup::"]:
        log.info("%s", line)


def log_totals(log: Any, totals: dict[str, Any]) -> None:
    """Log the result of a job, the beginning of one that is long."""
    text = without_markers(json.dumps(totals, indent=2))
    rest = len(text) - SHOWN_TOTALS
    log.info("Totals\n%s%s", text[:SHOWN_TOTALS], f" ... and {rest:,} more characters" if rest > 0 else "")


def log_plan(log: Any, plan: Plan) -> None:
    """Log a plan as a group, with what matters most in its title."""
    summary = plan.as_dict()
    title = f"Plan: {summary['ranges']:,} ranges of {summary['table']}, about {summary['expected_rows']:,} rows"
    log_group(log, title, str(plan).splitlines())
