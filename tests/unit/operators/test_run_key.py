"""What a run of a task is known by: to the ledger, the checkpoint and the keys that users are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from burla_provider.operators.base import cleared_run_keys, run_key


def context(*, clear_number: int = 0, **changes: Any) -> Any:
    fields = {"dag_id": "d", "task_id": "t", "map_index": -1, "run_id": "r", "max_tries": 2, "try_number": 1}
    return {
        "ti": SimpleNamespace(**{**fields, **changes}),
        "dag_run": SimpleNamespace(clear_number=clear_number),
    }


def test_a_retry_has_the_key_of_the_first_try() -> None:
    assert run_key(context(try_number=2)) == run_key(context())


def test_a_cleared_task_has_another_one() -> None:
    assert run_key(context(try_number=2, max_tries=4)) != run_key(context())


def test_clearing_another_task_of_the_run_changes_nothing() -> None:
    assert run_key(context(clear_number=1)) == run_key(context())


def test_a_cleared_task_knows_what_it_was_known_by() -> None:
    assert run_key(context()) in cleared_run_keys(context(try_number=2, max_tries=4))
    assert run_key(context()) not in cleared_run_keys(context())
