"""Messages of errors with the same cause have the same pattern, and others have not."""

from __future__ import annotations

import pytest

from burla_provider.task.message_pattern import message_pattern
from burla_provider.worker.outcome import Failure


def pattern(message: str, type_: str = "ValueError", sqlstate: str | None = None) -> str:
    return message_pattern(Failure(type_, message, sqlstate))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("order 17 has no currency", "order <number> has no currency"),
        ("-1.5e-3 is not in [0, 1,000.5]", "<number> is not in [<number>, ...]"),
        ("could not convert string to float: 'n/a'", "could not convert string to float: <text>"),
        ("can't read 'its' of the user's file", "can't read <text> of the user's file"),
        ("no value for b'abc' and \"x y\"", "no value for <text> and <text>"),
        ("row 0b4e58c2-6f2b-4d7a-9a5e-3c1f2a7b9d10 is bad", "row <uuid> is bad"),
        ("no rate for 2026-11-30", "no rate for <date>"),
        ("no rate at 2026-11-30T02:03:04.5+00:00!", "no rate at <date>!"),
        ("<Order object at 0x7f91c2a3d040>", "<Order object at <hex>>"),
        ("commit 4be1a0c39f is missing", "commit <hex> is missing"),
        ("the row at (12,7) vanished", "the row at <ctid> vanished"),
        ("GET https://x.example/a?b=1 failed with status 503", "GET <url> failed with status 503"),
        ("order KU_00017 is unknown", "order <id> is unknown"),
        ("sum of int4 in utf8", "sum of int4 in utf8"),
        ("dead beef cafe", "dead beef cafe"),
        ("This item killed 3 worker processes (signal 9).", "This item killed <number> worker processes (signal 9)."),
        ("", ""),
    ],
)
def test_values_are_replaced(message: str, expected: str) -> None:
    assert pattern(message) == expected


def test_details_of_the_server_do_not_count() -> None:
    message = 'duplicate key value violates unique constraint "orders_pkey"\nDETAIL:  Key (id)=({}) already exists.'
    first, second = (pattern(message.format(key), "UniqueViolation", "23505") for key in ("5", "Smith (A)"))
    assert first == second == 'duplicate key value violates unique constraint "orders_pkey"'


@pytest.mark.parametrize(
    ("message", "type_", "sqlstate"),
    [
        ("No module named '{}'", "ModuleNotFoundError", None),
        ("name '{}' is not defined", "NameError", None),
        ('column "{}" does not exist', "psycopg.errors.UndefinedColumn", "42703"),
        ('new row violates check constraint "{}"', "psycopg.errors.CheckViolation", "23514"),
    ],
)
def test_names_are_not_values(message: str, type_: str, sqlstate: str | None) -> None:
    assert pattern(message.format("a"), type_, sqlstate) != pattern(message.format("b"), type_, sqlstate)


def test_a_text_that_only_the_server_quotes_is_a_value() -> None:
    message = 'invalid input syntax for type integer: "{}"'
    states = {pattern(message.format(text), "InvalidTextRepresentation", "22P02") for text in ("a", "b 1")}
    assert states == {"invalid input syntax for type integer: <text>"}


def test_a_long_message_takes_no_long_time() -> None:
    for text in ("'" * 100_000, "a" * 100_000, "1" * 100_000, "1,2," * 50_000, "(1,2)=(" * 20_000):
        assert len(pattern(text)) <= 300
