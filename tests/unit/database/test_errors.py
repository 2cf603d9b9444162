import psycopg
import pytest
from psycopg import errors

from burla_provider.database.errors import advice_for, is_canceled, is_this_machine, is_transient
from burla_provider.exceptions import ConnectionLimitError, SnapshotLostError


@pytest.mark.parametrize(
    "kind",
    [
        errors.SerializationFailure,
        errors.DeadlockDetected,
        errors.LockNotAvailable,
        errors.AdminShutdown,
        errors.CannotConnectNow,
        errors.TooManyConnections,
        errors.ConnectionFailure,
    ],
)
def test_errors_that_pass_are_transient(kind):
    assert is_transient(kind("x"))


@pytest.mark.parametrize(
    "text",
    [
        "consuming input failed: server closed the connection unexpectedly",
        "connection failed: Connection refused",
        "failed to resolve host 'db': Temporary failure in name resolution",
        "connection failed: FATAL:  sorry, too many clients already",
        "connection timeout expired",
        "the connection is lost",
    ],
)
def test_connection_errors_are_transient(text):
    assert is_transient(psycopg.OperationalError(text))


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "x"',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.1"',
        'FATAL:  database "x" does not exist',
        "SSL error: certificate verify failed",
    ],
)
def test_a_rejected_login_is_not_transient(text):
    assert not is_transient(psycopg.OperationalError(text))


@pytest.mark.parametrize(
    "error",
    [
        errors.DivisionByZero("x"),
        errors.UndefinedColumn("x"),
        ValueError("x"),
        psycopg.ProgrammingError("x"),
        SnapshotLostError("x"),
        ConnectionLimitError("x"),
    ],
)
def test_other_errors_are_not_transient(error):
    assert not is_transient(error)


def test_a_statement_timeout_is_canceled_but_not_transient():
    assert is_canceled(errors.QueryCanceled("x"))
    assert not is_transient(errors.QueryCanceled("x"))


def test_a_recovery_conflict_is_explained():
    error = errors.SerializationFailure("canceling statement due to conflict with recovery")
    assert is_transient(error)
    assert "hot standby" in advice_for(error)


def test_a_local_host_name_gives_advice():
    refused = psycopg.OperationalError("connection failed: Connection refused")
    assert "give the connection a host name that workers can resolve" in advice_for(refused, "localhost")
    assert advice_for(refused, "db.example.com") == ""


def test_an_expired_token_gives_advice():
    assert "token" in advice_for(psycopg.OperationalError("FATAL: PAM authentication failed"), "db.example.com")


def test_a_plain_error_needs_no_advice():
    assert advice_for(errors.DivisionByZero("division by zero")) == ""


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST.", "db.localhost", "localhost.localdomain", "0.0.0.0")),
        *((host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "/var/run/postgresql", "@socket")),
        *((host, False) for host in ("db", "localhost.example.com", "10.0.0.1", "2001:db8::1", "")),
    ],
)
def test_local_hosts_are_recognized(host, expected):
    assert is_this_machine(host) == expected
