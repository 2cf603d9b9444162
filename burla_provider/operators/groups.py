"""Lines of a task's log that Airflow's UI folds away below a title."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burla_provider.ranges.stored import Plan


def log_group(log: Any, title: str, lines: Iterable[str]) -> None:
    """Log lines as a group that opens on a click.

    The UI looks for the markers record by record: each has a record of its own.
    """
    for line in [f"::group::{title}", *lines, "::endgroup::"]:
        log.info("%s", line)


def log_plan(log: Any, plan: Plan) -> None:
    """Log a plan as a group, with what matters most in its title."""
    summary = plan.as_dict()
    title = f"Plan: {summary['ranges']:,} ranges of {summary['table']}, about {summary['expected_rows']:,} rows"
    log_group(log, title, str(plan).splitlines())
