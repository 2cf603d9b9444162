"""Keys and names that identify a run of a task: the same for every try of the run, different for every other run.

All keys that are stored for longer than a try are built here. In a task loop (Airflow 3.4), dag, task, run, try number
and map index are the same in every pass, so the pass is part of all keys.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def dag_run_pass(context: Context) -> str:
    """Return the id of the DAG run, followed by the pass of the loop if the task is in one."""
    ti = context["ti"]
    if (position := _loop_position(context)) is not None:
        region, index = position
        return f"{ti.run_id}/loop/{region}/{index}"
    # The pass is unknown. The id of the task instance changes with every try, so no pass resumes another pass.
    return f"{ti.run_id}/loop/{ti.id}" if _is_in_loop(context) else str(ti.run_id)


def task_run(context: Context) -> str:
    """Return a key of the task instance in its DAG run: the same for all retries, and after the task was cleared."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.task_id}/{ti.map_index}/{dag_run_pass(context)}"


def run_key(context: Context) -> str:
    """Return the key of this run of the task: the same for every retry, different for every new run.

    Clearing the task starts a new run. It raises ``max_tries``; a retry does not. If a task is cleared while it runs,
    the scheduler raises ``max_tries`` only if the process of the task succeeds (``process_executor_events`` of Airflow
    3.3.2). ``clear_number`` of the DAG run cannot be used: it also changes when other tasks are cleared
    (``clear_task_instances``), and a task with a ledger would write twice.

    A DAG run that is deleted and created again with the same id is a new run, too: its start is different. The start
    of a DAG run changes only while none of its tasks can be retried: when it has ended and is cleared, or when the API
    sets its state back to "queued".
    """
    started = run_started(context)
    return old_run_key(context) + (f"/{started.astimezone(datetime.UTC).isoformat()}" if started else "")


def old_run_key(context: Context) -> str:
    """Return the key without the start of the DAG run, which earlier versions of the provider stored in ledgers."""
    return f"{task_run(context)}/{context['ti'].max_tries}"


def is_cleared(context: Context) -> bool:
    """Return whether the task was cleared in this DAG run: its ``max_tries`` is then greater than its retries.

    The first try is never one of a cleared task. A later one is wrongly taken for it if somebody has lowered the
    retries of the DAG file since the run began, and the other way round if somebody has raised them.
    """
    ti = context["ti"]
    return (ti.try_number or 1) > 1 and (ti.max_tries or 0) > (context["task"].retries or 0)


def is_continued(context: Context, tries: Iterable[Mapping[str, Any]] = ()) -> bool:
    """Return whether the run has begun before: this try is a retry, or the task has rescheduled itself.

    :param tries: the records of earlier tries. Without them, the number of the first try is computed from ``retries``,
        which is wrong if the DAG file has got other ``retries`` since Airflow created or cleared the task instance.
    """
    ti = context["ti"]
    number, max_tries = ti.try_number or 1, ti.max_tries or 0
    if number == 1 or context.get("task_reschedule_count"):
        return bool(context.get("task_reschedule_count"))
    counts = {record["number"]: record["count"] for record in tries if "count" in record and record["number"] < number}
    # Only clearing changes max_tries.
    if any(count == max(earlier, max_tries + 1) for earlier, count in counts.items()):
        return True
    return number - 1 not in counts and number != max_tries - (context["task"].retries or 0) + 1


def run_started(context: Context) -> datetime.datetime | None:
    """Return when the DAG run started."""
    return getattr(context.get("dag_run"), "start_date", None)


def check_loop(context: Context, parameters: Iterable[str]) -> None:
    """Check that the pass of the loop is known, if the task is in a loop.

    :param parameters: parameters of the task that cannot be used without it.
    :raises InvalidParameterError: if it is unknown.
    """
    for name in parameters:
        if _is_in_loop(context) and _loop_position(context) is None:
            problem = "the task is in a loop, and this version of Airflow does not report the pass."
            raise InvalidParameterError(name, problem, "Move the task out of the loop, or leave the parameter out.")


def pass_label(context: Context) -> str:
    """Return " (pass 2)" for the second pass of a loop, "" outside of a loop."""
    position = _loop_position(context)
    return f" (pass {position[1]})" if position else ""


def job_name(context: Context) -> str:
    """Return the name of the job in Burla's dashboard: dag, task, run and try, in characters that Burla allows."""
    ti = context["ti"]
    map_index = f"-{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
    position = _loop_position(context)
    loop_pass = f"-pass{position[1]}" if position else ""
    name = f"{ti.dag_id[:32]}-{ti.task_id[:32]}{map_index}-{ti.run_id[:40]}{loop_pass}-try{ti.try_number}"
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def session_name(context: Context) -> str:
    """Return the name of the database session in ``pg_stat_activity``."""
    ti = context["ti"]
    return f"{ti.dag_id[:20]}.{ti.task_id[:20]}.{ti.run_id[:18]}"


def _loop_position(context: Context) -> tuple[Any, int] | None:
    # The region is one execution of the loop. Clearing a later pass starts another region.
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
