"""What tells one run of a task from every other: the part that stays the same from retry to retry.

Every key that outlives a try is made here. Within a task loop (Airflow 3.4) dag, task, run, try number and map index
repeat on every pass, so the pass belongs to all of them.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def dag_run_pass(context: Context) -> str:
    """Return the DAG run's id, followed by the pass of the loop that the task is in, if it is in one."""
    ti = context["ti"]
    if (position := _loop_position(context)) is not None:
        region, index = position
        return f"{ti.run_id}/loop/{region}/{index}"
    # The id of a task instance is another one on every try: nothing is taken for the work of another pass.
    return f"{ti.run_id}/loop/{ti.id}" if _is_in_loop(context) else str(ti.run_id)


def task_run(context: Context) -> str:
    """Return what identifies the task instance in its DAG run, however often it is tried or cleared."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.task_id}/{ti.map_index}/{dag_run_pass(context)}"


def run_key(context: Context) -> str:
    """Return the key of this run of the task: the same on every retry, another one for every new run.

    Clearing the task begins a new run. It raises the number of tries that the task may take; a retry does not. Of a
    task that is cleared while it runs, the scheduler raises it where its process has ended well
    (``process_executor_events`` of Airflow 3.3.2), and leaves it where it has not. The run's own ``clear_number`` tells
    nothing: it counts the clearing of other tasks too (``clear_task_instances``), and a task with a ledger would write
    twice.

    A DAG run that is deleted and made again with the same id is a new run too. It starts at another time. The start of
    a DAG run changes only while none of its tasks can be retried: when it had ended and is cleared, or when somebody
    sets its state back to "queued" by the API.
    """
    started = run_started(context)
    return old_run_key(context) + (f"/{started.astimezone(datetime.UTC).isoformat()}" if started else "")


def old_run_key(context: Context) -> str:
    """Return the key as it was before it had the start of the DAG run: ledgers may have a run under way by it."""
    return f"{task_run(context)}/{context['ti'].max_tries}"


def is_cleared(context: Context) -> bool:
    """Return whether the task was cleared in this DAG run: it may then take more tries than its retries."""
    return (context["ti"].max_tries or 0) > (context["task"].retries or 0)


def run_started(context: Context) -> datetime.datetime | None:
    """Return when the DAG run started."""
    return getattr(context.get("dag_run"), "start_date", None)


def check_loop(context: Context, parameters: Iterable[str]) -> None:
    """Refuse parameters that need to know the pass of the loop, where Airflow does not tell it.

    :raises InvalidParameterError: the task is in a loop, and in which pass is unknown.
    """
    for name in parameters:
        if _is_in_loop(context) and _loop_position(context) is None:
            problem = "the task is in a loop, and Airflow does not tell it in which pass."
            raise InvalidParameterError(name, problem, "Move the task out of the loop, or leave the parameter out.")


def pass_label(context: Context) -> str:
    """Return " (pass 2)" for the second pass of a loop, "" outside of a loop."""
    position = _loop_position(context)
    return f" (pass {position[1]})" if position else ""


def job_name(context: Context) -> str:
    """A name that shows dag, task, run and try in Burla's dashboard, of the characters that Burla takes."""
    ti = context["ti"]
    mapped = f"-{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
    position = _loop_position(context)
    looped = f"-pass{position[1]}" if position else ""
    name = f"{ti.dag_id[:32]}-{ti.task_id[:32]}{mapped}-{ti.run_id[:40]}{looped}-try{ti.try_number}"
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def session_name(context: Context) -> str:
    """Who is at work, for ``pg_stat_activity``."""
    ti = context["ti"]
    return f"{ti.dag_id[:20]}.{ti.task_id[:20]}.{ti.run_id[:18]}"


def _loop_position(context: Context) -> tuple[Any, int] | None:
    # The region is one execution of the loop: clearing later passes begins another one.
    loop: Any = context.get("loop")
    region, index = getattr(loop, "region_id", None), getattr(loop, "index", None)
    return None if region is None or index is None else (region, index)


def _is_in_loop(context: Context) -> bool:
    group: Any = getattr(context.get("task"), "task_group", None)
    while group is not None:
        if hasattr(group, "max_iterations"):  # LoopTaskGroup of Airflow 3.4
            return True
        group = getattr(group, "parent_group", None)
    return context.get("loop") is not None
