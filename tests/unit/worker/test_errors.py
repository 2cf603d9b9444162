import psycopg
import pytest

from burla_provider.database.errors import advice_for
from burla_provider.worker.errors import MESSAGE_LIMIT, to_failure

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
    message = to_failure(caught(ModuleNotFoundError("No module named 'pandas'")), {}).message
    assert message.startswith("No module named 'pandas' - the workers do not have it. Name its package in")


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


def test_a_long_message_is_cut():
    assert len(to_failure(caught(ValueError("x" * 10_000)), {}).message) == MESSAGE_LIMIT


def test_advice_follows_the_message():
    error = caught(psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE"))
    failure = to_failure(error, {}, advice_for(error))
    assert failure.message.startswith("cannot execute UPDATE. Ranges are read in a read-only transaction")


def test_the_traceback_shows_where_it_happened():
    assert "in caught" in to_failure(caught(ValueError("x")), {}).traceback
