"""How the inputs of a map job are named."""

from __future__ import annotations

import datetime
import logging
import pickle
import sys
import threading
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from airflow.sdk.log import mask_secret

from burla_provider.exceptions import TaskKilledError
from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.task.input_names import InputNames

LOG = logging.getLogger("task")


def name(value: Any, describe: Any = None) -> str:
    return InputNames({3: pickle_for_workers(value, "inputs")}, describe, LOG)(3)


class Customer:
    """A class of a DAG file."""


class Broken:
    """A class whose objects cannot be unpickled."""

    def __reduce__(self) -> Any:
        return __import__, ("no_such_package",)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2026-01-03", "'2026-01-03'"),
        (17, "17"),
        (None, "None"),
        (Decimal("1.50"), "Decimal('1.50')"),
        (("s3://bucket", 2), "('s3://bucket', 2)"),
        ({"day": "2026-01-03", "shop": 5}, "{'day': '2026-01-03', 'shop': 5}"),
        (datetime.date(2026, 1, 3), "datetime.date(2026, 1, 3)"),
        ("a\nb", r"'a\nb'"),
        ("a\0b", r"'a\x00b'"),
    ],
)
def test_plain_data_is_shown(value: Any, shown: str) -> None:
    assert name(value) == f"input 3 ({shown})"


@pytest.mark.parametrize("value", ["x" * 5000, list(range(5000)), {str(key): "y" * 100 for key in range(50)}])
def test_a_long_value_is_cut(value: Any) -> None:
    shown = name(value)
    assert len(shown) <= len("input 3 ()") + 60
    assert "..." in shown


@pytest.mark.parametrize(("value", "shown"), [(Customer(), "Customer"), ([Customer()], "list"), ({1, 2}, "set")])
def test_other_inputs_are_shown_by_their_type(value: Any, shown: str) -> None:
    assert name(value) == f"input 3 ({shown})"


@pytest.mark.parametrize(
    "value", [Broken(), 10**5000, "x" * 100_000, [[0] * 10] * 100_000], ids=["broken", "digits", "text", "list"]
)
def test_what_cannot_be_shown_is_named_by_its_number(value: Any) -> None:
    assert name(value) == "input 3"


def test_describe_names_an_input() -> None:
    assert name({"id": 7, "blob": "x" * 100_000}, lambda one: f"customer {one['id']}") == "input 3 (customer 7)"
    assert name(7, lambda _: "a\nb \t c") == "input 3 (a b c)"
    assert len(name(7, lambda _: "x" * 1000)) == len("input 3 ()") + 100


@pytest.mark.parametrize("describe", [lambda _: 1 / 0, lambda _: 7, lambda _: None, lambda _: sys.exit(1)])
def test_a_describe_that_fails_falls_back_to_the_value_and_is_logged_once(describe: Any, caplog: Any) -> None:
    names = InputNames({index: pickle.dumps("abc") for index in range(3)}, describe, LOG)
    assert [names(index) for index in range(3)] == [f"input {index} ('abc')" for index in range(3)]
    (record,) = caplog.records
    assert record.getMessage().startswith("describe failed for input 0, so that its value names it. ")


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_description_is_the_value(text: str, caplog: Any) -> None:
    assert name("abc", lambda _: text) == "input 3 ('abc')"
    assert caplog.records == []


def test_the_end_of_the_task_is_not_caught() -> None:
    def kill(_: Any) -> str:
        raise TaskKilledError

    with pytest.raises(TaskKilledError):
        name("abc", kill)


def test_secrets_are_masked_also_where_the_text_is_cut() -> None:
    secret = "correct-horse-battery-staple"
    mask_secret(secret)
    for shown in (
        name(f"https://user:{secret}@host"),
        name("x" * 40 + secret),
        name(f"{'x' * 40}{secret}{'y' * 40}"),
        name(["a", {"b": f"{'x' * 50}{secret}"}]),
        name(1, lambda _: f"{'x' * 90}{secret}"),
    ):
        assert not any(part in shown for part in (secret, secret[:8], secret[-8:])), shown


def test_a_value_under_the_name_of_a_secret_is_masked() -> None:
    assert name({"password": "abc"}) == "input 3 ({'password': '***'})"


def test_text_that_a_database_refuses_is_changed() -> None:
    assert name("x", lambda _: "a\0b \udcff ::group::") == "input 3 (a\ufffdb \\udcff :group:)"


def test_a_million_names_are_not_kept() -> None:
    items = dict.fromkeys(range(20_000), pickle.dumps("x" * 50))
    names = InputNames(items, None, LOG)
    names(0)
    tracemalloc.start()
    for index in items:
        names(index)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 1_000_000


def test_a_name_that_is_shown_often_is_made_once() -> None:
    calls: list[int] = []
    names = InputNames({3: pickle.dumps(1)}, lambda one: str(calls.append(one)), LOG)
    assert {names(3) for _ in range(10)} == {"input 3 (None)"}
    assert calls == [1]


def test_an_input_that_cannot_be_copied_is_not_needed() -> None:
    assert name(threading.Event, lambda one: one.__name__) == "input 3 (Event)"
