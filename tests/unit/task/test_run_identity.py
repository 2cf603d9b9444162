"""What identifies a run of a task: in the ledger, in the checkpoint and in idempotency keys."""

from __future__ import annotations

import datetime
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.run_identity import (
    check_loop,
    dag_run_pass,
    is_cleared,
    is_continued,
    job_name,
    old_run_key,
    pass_label,
    run_key,
    task_run,
)

START = datetime.datetime(2026, 11, 20, 1, 2, 3, 456789, datetime.UTC)


def context(
    *, clear_number: int = 0, started: datetime.datetime = START, loop: Any = None, task: Any = None, **changes: Any
) -> Any:
    fields = {"dag_id": "d", "task_id": "t", "map_index": -1, "run_id": "r", "max_tries": 2, "try_number": 1}
    return {
        "ti": SimpleNamespace(**{**fields, **changes}),
        "dag_run": SimpleNamespace(clear_number=clear_number, start_date=started),
        "task": task,
        **({"loop": loop} if loop else {}),
    }


def test_a_retry_has_the_key_of_the_first_try() -> None:
    assert run_key(context(try_number=2)) == run_key(context())


def test_a_cleared_task_has_another_one() -> None:
    assert run_key(context(try_number=2, max_tries=4)) != run_key(context())


def test_clearing_another_task_of_the_run_changes_nothing() -> None:
    assert run_key(context(clear_number=1)) == run_key(context())


def test_a_dag_run_that_was_made_again_has_another_one() -> None:
    assert run_key(context(started=START + datetime.timedelta(seconds=1))) != run_key(context())


def test_the_start_is_written_the_same_in_every_zone() -> None:
    elsewhere = START.astimezone(datetime.timezone(datetime.timedelta(hours=5)))
    assert run_key(context(started=elsewhere)) == run_key(context())


def test_all_keys_of_a_task_begin_with_the_task() -> None:
    for one in (run_key(context(max_tries=4)), run_key(context()), old_run_key(context())):
        assert one.startswith(f"{task_run(context())}/")
    assert old_run_key(context()) == "d/t/-1/r/2"


def made_up_loop(index: int = 1, region: int = 1) -> Any:
    """What Airflow 3.4 gives as ``loop``, by its documentation: it cannot be installed here."""
    return SimpleNamespace(index=index, region_id=uuid.UUID(int=region), max_iterations=3)


@pytest.mark.parametrize("identity", [run_key, old_run_key, task_run, dag_run_pass])
def test_every_pass_of_a_loop_has_its_own_identity(identity: Any) -> None:
    contexts = [context(loop=made_up_loop(*place)) for place in ((1, 1), (2, 1), (1, 2))]
    assert len({identity(one) for one in (*contexts, context())}) == 4
    assert identity(context(loop=made_up_loop())) == identity(context(loop=made_up_loop(), try_number=2))


def test_people_see_which_pass_it_is() -> None:
    assert job_name(context(loop=made_up_loop(2))) == "d-t-r-pass2-try1"
    assert pass_label(context(loop=made_up_loop(2))) == " (pass 2)"
    assert job_name(context()) == "d-t-r-try1"
    assert pass_label(context()) == ""


def made_up_task_in_a_loop() -> Any:
    loop = SimpleNamespace(max_iterations=3, parent_group=None)
    return SimpleNamespace(task_group=SimpleNamespace(parent_group=loop))


def test_in_a_loop_with_an_unknown_pass_nothing_is_restored() -> None:
    first, second = (context(task=made_up_task_in_a_loop(), id=uuid.UUID(int=number)) for number in (1, 2))
    assert run_key(first) != run_key(second)
    with pytest.raises(InvalidParameterError, match="ledger: the task is in a loop"):
        check_loop(first, ["ledger"])


def test_in_a_loop_with_a_known_pass_nothing_is_refused() -> None:
    check_loop(context(task=made_up_task_in_a_loop(), loop=made_up_loop()), ["ledger", "incremental"])
    check_loop(context(), ["ledger", "incremental"])


@pytest.mark.parametrize(("try_number", "max_tries", "expected"), [(1, 3, False), (2, 1, False), (2, 2, True)])
def test_the_first_try_is_not_one_of_a_cleared_task(try_number: int, max_tries: int, expected: bool) -> None:
    tried = context(try_number=try_number, max_tries=max_tries, task=SimpleNamespace(retries=1))
    assert is_cleared(tried) is expected


@pytest.mark.parametrize(
    ("try_number", "max_tries", "retries", "tries", "expected"),
    [
        (1, 2, 2, [], False),
        (2, 2, 2, [(1, 3)], True),
        (3, 4, 2, [(1, 3), (2, 3)], False),  # cleared after two tries
        (4, 4, 2, [(1, 3), (2, 3), (3, 5)], True),
        (2, 0, 0, [(1, 1)], True),  # cleared while it ran, and Airflow has not raised max_tries
        # The file has got other retries since the run began.
        (1, 1, 3, [], False),
        (2, 3, 2, [(1, 4)], True),
        (2, 3, 1, [(1, 4)], True),
        (2, 2, 5, [(1, 2)], False),  # and the task was cleared
        (3, 2, 5, [(1, 2), (2, 3)], True),
        # No try has a record: before Airflow 3.3, or of an earlier version of the provider.
        (2, 2, 2, [], True),
        (3, 4, 2, [], False),
        (2, 3, 1, [], True),
        (2, 2, 2, [(1, None)], True),
        # The process of the last try was killed before it had a record.
        (3, 3, 2, [(1, 4)], True),
        (3, 4, 3, [(1, 3)], True),
    ],
)
def test_a_retry_continues_its_run(
    try_number: int, max_tries: int, retries: int, tries: list[tuple[int, int | None]], expected: bool
) -> None:
    task = SimpleNamespace(retries=retries)
    records = [{"number": number} | ({} if count is None else {"count": count}) for number, count in tries]
    tried = context(try_number=try_number, max_tries=max_tries, task=task)
    assert is_continued(tried, records) is expected
    assert is_continued({**tried, "task_reschedule_count": 1}, records)
