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
    assert advice_for(errors.RaiseException("no")) == ""


@pytest.mark.parametrize(
    ("kind", "text", "advice"),
    [
        (errors.UndefinedColumn, 'column "amont" does not exist\nLINE 1: SELECT "x"', "Check the name amont."),
        (errors.UndefinedColumn, "column o.amont does not exist", "Check the name o.amont."),
        (errors.UndefinedTable, 'relation "ordes" does not exist', "Check the name ordes."),
        (errors.UndefinedFunction, "function f(integer, text) does not exist", "Check the name f(integer, text)."),
        (errors.UndefinedColumn, "die Spalte fehlt", "dropped or renamed."),
        (errors.InsufficientPrivilege, "permission denied for table orders", "GRANT"),
        (errors.DivisionByZero, "division by zero", "NULLIF"),
        (errors.NumericValueOutOfRange, "integer out of range", "bigint"),
        (errors.InvalidTextRepresentation, "invalid input syntax", "isolate_failures"),
        (errors.UniqueViolation, "duplicate key", "ledger"),
        (errors.SerializationFailure, "could not serialize access", "range_retries"),
        (errors.DeadlockDetected, "deadlock detected", "same order"),
        (errors.TooManyConnections, "too many", "max_parallelism"),
        (errors.DiskFull, "could not extend file", "disk"),
        (errors.OutOfMemory, "out of memory", "work_mem"),
        (errors.LockNotAvailable, "canceling statement due to lock timeout", "pg_locks"),
        (errors.AdminShutdown, "terminating connection", "pg_terminate_backend"),
        (errors.InFailedSqlTransaction, "current transaction is aborted", "connection.transaction()"),
        (errors.ReadOnlySqlTransaction, "cannot execute UPDATE", "ledger"),
        (errors.ConnectionFailure, "connection failure", "The connection was lost"),
        (errors.ProtocolViolation, "protocol violation", "The connection was lost"),
        (psycopg.OperationalError, "server closed the connection unexpectedly", "The connection was lost"),
        (psycopg.OperationalError, "the connection is lost", "The connection was lost"),
        (psycopg.OperationalError, "could not receive data from server: Connection timed out", "tcp_user_timeout"),
        (psycopg.OperationalError, "SSL SYSCALL error: Connection timed out", "tcp_user_timeout"),
    ],
)
def test_known_errors_have_advice(kind, text, advice):
    assert advice in advice_for(kind(text))


@pytest.mark.parametrize(
    ("text", "limit", "advice"),
    [
        ("canceling statement due to statement timeout", 2.5, "Raise statement_timeout (2.5 seconds)"),
        ("canceling statement due to statement timeout", None, "The operator sets no statement_timeout"),
        ("canceling statement due to user request", 2.5, "pg_cancel_backend"),
    ],
)
def test_advice_about_a_canceled_statement_says_where_the_limit_is_from(text, limit, advice):
    assert advice in advice_for(errors.QueryCanceled(text), statement_timeout=limit)


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
