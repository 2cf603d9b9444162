"""The record of earlier tries: short, limited, and without later tries."""

from __future__ import annotations

from typing import Any

from burla_provider.task.report import Report
from burla_provider.task.tries import TRIES, load_tries, save_try


class Store(dict[str, Any]):
    """The state store, as far as it is used here."""

    set = dict.__setitem__
    delete = dict.__delitem__


def report(number: int, detail: str = "no") -> dict[str, Any]:
    made = Report("t")
    made.attempt = (number, 20)
    made.set_status("failed", detail)
    return made.as_dict()


def test_at_most_ten_tries_are_kept_the_last_ones() -> None:
    store = Store()
    for number in range(1, 16):
        save_try(store, load_tries(store, "report", number), report(number, f"error {number}\nmore"))
    tries = load_tries(store, "report", 16)
    assert [one["number"] for one in tries] == list(range(6, 16))
    assert tries[-1]["detail"] == "error 15"


def test_a_try_keeps_the_reason_of_its_failed_ranges() -> None:
    store = Store()
    save_try(store, [], report(1, "3 of 12 ranges failed (tolerated: 0):\n- ValueError: no\n  in range 5"))
    [first] = load_tries(store, "report", 2)
    assert first["detail"] == "3 of 12 ranges failed (tolerated: 0): ValueError: no"


def test_a_dag_run_that_was_created_again_forgets_the_tries_of_the_first_one() -> None:
    store = Store({TRIES: [{"number": 1, "state": "failed"}, {"number": 2, "state": "failed"}]})
    assert [one["number"] for one in load_tries(store, "report", 1)] == [1]


def test_a_report_that_was_left_is_a_try_that_was_killed() -> None:
    store = Store({"report": report(1)})
    [first] = load_tries(store, "report", 2)
    assert first["detail"] == "The process of the try was killed."
    assert load_tries(store, "report", 1) == []
