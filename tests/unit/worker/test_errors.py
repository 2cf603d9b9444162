import psycopg
import pytest

from burla_provider.database.errors import advice_for
from burla_provider.worker.errors import MESSAGE_LIMIT, mark_row_names, mark_rows, to_failure

PARAMETERS = {"host": "db", "password": "s3cret/é", "sslkey": "-----BEGIN KEY"}


class HomeMade(Exception):
    pass


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def caught(error):
    try:
        raise error
    except BaseException as raised:
        return raised


def test_the_type_is_named_in_full():
    assert to_failure(caught(HomeMade("x")), {}).type == f"{__name__}.HomeMade"
    assert to_failure(caught(ValueError("x")), {}).type == "ValueError"


def test_a_missing_package_gives_advice():
    failure = to_failure(caught(ModuleNotFoundError("No module named 'pandas'")), {})
    assert failure.message == "No module named 'pandas'"
    assert failure.advice.startswith("The workers do not have this module. Name its package in")


def test_a_server_error_has_its_sqlstate():
    assert to_failure(caught(psycopg.errors.UniqueViolation("x")), {}).sqlstate == "23505"


@pytest.mark.parametrize("written", ["s3cret/é", "s3cret%2F%C3%A9", "-----BEGIN KEY"])
def test_secrets_are_in_neither_message_nor_traceback(written):
    failure = to_failure(caught(ValueError(f"postgresql://u:{written}@db")), PARAMETERS)
    assert written not in failure.message + failure.traceback
    assert "***" in failure.message


def test_an_exception_without_text_is_reported():
    failure = to_failure(caught(Unprintable()), {})
    assert failure.message == "(its text cannot be shown: RuntimeError)"


@pytest.mark.parametrize("length", [MESSAGE_LIMIT, MESSAGE_LIMIT + 1, 10_000, 100_000])
def test_a_long_message_is_cut_and_says_so(length):
    message = to_failure(caught(ValueError("x" * length)), {}).message
    assert len(message) <= MESSAGE_LIMIT
    kept = message.count("x")
    assert message == "x" * kept + (f"... ({length - kept:,} more characters)" if kept < length else "")


def test_a_long_traceback_is_cut_and_says_so():
    failure = to_failure(caught(ValueError("x" * 100_000)), {})
    assert failure.traceback.endswith("xxx")
    assert "characters are left out) ..." in failure.traceback[:60]


def test_advice_follows_the_message():
    error = caught(psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE"))
    failure = to_failure(error, {}, advice_for(error))
    assert failure.message == "cannot execute UPDATE"
    assert failure.text.endswith("[25006]: cannot execute UPDATE. " + failure.advice)
    assert failure.advice.startswith("Ranges are read in a read-only transaction")


def test_a_note_is_part_of_the_message():
    error = ValueError("no")
    error.add_note("Use another one.")
    assert to_failure(caught(error), {}).message == "no. Use another one."


@pytest.mark.parametrize(
    ("keys", "names", "rows"),
    [
        ([], ("id",), ""),
        ([()], ("id",), ""),
        ([("5",), ("9",)], ("id",), "id = 5; id = 9"),
        ([("1", "x")], ("a", "b"), "a = 1 and b = x"),
        ([("1", "x")], (), "1, x"),
        ([(str(n),) for n in range(12)], ("k",), "; ".join(f"k = {n}" for n in range(10)) + "; and 2 more"),
    ],
)
def test_rows_are_named_apart_from_the_message(keys, names, rows):
    error = ValueError("no")
    mark_rows(error, keys)
    mark_row_names(error, names)
    failure = to_failure(caught(error), {})
    assert (failure.message, failure.rows) == ("no", rows)


def test_secrets_are_not_in_the_rows():
    error = ValueError("no")
    mark_rows(error, [("s3cret/é",)])
    assert to_failure(caught(error), PARAMETERS).rows == "***"


def test_the_traceback_shows_where_it_happened():
    assert "in caught" in to_failure(caught(ValueError("x")), {}).traceback
