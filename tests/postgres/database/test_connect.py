import os
import shutil
import signal
import subprocess
from contextlib import closing

import psycopg
import pytest
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from burla_provider.database.connect import (
    connection_parameters,
    is_pooled,
    limit_unreachable_client,
    open_connection,
)
from burla_provider.demo.binaries import find_binaries
from burla_provider.exceptions import EmbeddedPostgresError
from tests.support.postgres import running_server
from tests.support.waiting import wait_for

PASSWORD = "s3cret 'with\\ all/kinds@of:characters é"


def test_the_same_server_user_and_database_are_reached_again(connection):
    with open_connection(connection_parameters(connection), application_name="again") as again:
        row = again.execute("SELECT current_user, current_database(), inet_server_port()").fetchone()
    assert row == connection.execute("SELECT current_user, current_database(), inet_server_port()").fetchone()


def test_a_password_may_have_any_characters(connection, database):
    connection.execute("DROP ROLE IF EXISTS guest")
    connection.execute(sql.SQL("CREATE ROLE guest LOGIN PASSWORD {}").format(sql.Literal(PASSWORD)))
    try:
        with psycopg.connect(database, user="guest", password=PASSWORD) as guest:
            parameters = connection_parameters(guest)
        with open_connection(parameters, application_name="again") as again:
            assert again.execute("SELECT current_user").fetchone() == ("guest",)
    finally:
        connection.execute("DROP ROLE guest")


def test_options_and_timeouts_of_the_connection_are_kept(database):
    given = make_conninfo(database, options="-c search_path=elsewhere", connect_timeout=7, keepalives_idle=99)
    with psycopg.connect(given) as connection:
        parameters = connection_parameters(connection)
    assert (parameters["connect_timeout"], parameters["keepalives_idle"]) == ("7", "99")
    with open_connection(parameters, application_name="again") as again:
        assert again.execute("SHOW search_path").fetchone() == ("elsewhere",)


def test_hostaddr_does_not_travel(database):
    with psycopg.connect(database, host="localhost", hostaddr="127.0.0.1") as connection:
        parameters = connection_parameters(connection)
    assert parameters["host"] == "localhost"
    assert "hostaddr" not in parameters


def test_the_host_that_answered_is_used(database, postgres_server):
    hosts = {"host": "127.0.0.1,127.0.0.1", "port": f"1,{postgres_server.port}"}
    with psycopg.connect(database, **hosts) as connection:
        parameters = connection_parameters(connection)
    assert (parameters["host"], parameters["port"]) == ("127.0.0.1", str(postgres_server.port))


def test_a_direct_connection_is_not_pooled(connection):
    assert not is_pooled(connection)


def test_the_server_ends_the_session_of_an_unreachable_client(connection):
    limit_unreachable_client(connection)
    names = ("idle", "interval", "count")
    idle, interval, count = (int(connection.execute(f"SHOW tcp_keepalives_{name}").fetchone()[0]) for name in names)
    assert idle + interval * count == 60
    assert connection.execute("SHOW tcp_user_timeout").fetchone() == ("60000",)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate authority, with a signed certificate and key for the server and the client."""
    home = tmp_path_factory.mktemp("certificates")
    make = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def run(*command):
        subprocess.run(command, cwd=home, check=True, capture_output=True)

    run(*make, "-x509", "-subj", "/CN=root", "-keyout", "root.key", "-out", "root.crt")
    for name, subject in (("server", "/CN=localhost"), ("client", "/CN=postgres")):
        run(*make, "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sign = ["openssl", "x509", "-req", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial"]
        run(*sign, "-in", f"{name}.csr", "-out", f"{name}.crt")
    return home


@pytest.fixture
def tls_server(certificates):
    """Debian's PostgreSQL, because the embedded one is built without TLS."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make certificates with")
    try:
        find_binaries(15)
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
    with running_server(version=15) as server:
        turn_tls_on(server, certificates)
        yield server


@pytest.fixture
def tls_parameters(tls_server, certificates, tmp_path):
    """Parameters of a connection whose certificate files do not exist on the worker."""
    given = make_conninfo(
        tls_server.dsn,
        host="localhost",
        sslmode="verify-full",
        sslrootcert=certificates / "root.crt",
        sslcert=certificates / "client.crt",
        sslkey=certificates / "client.key",
    )
    with psycopg.connect(given) as connection:
        parameters = connection_parameters(connection)
    assert str(certificates) not in str(parameters)
    names = ("root.crt", "client.crt", "client.key")
    for name in names:
        (certificates / name).rename(tmp_path / name)
    yield parameters
    for name in names:
        (tmp_path / name).rename(certificates / name)


def test_certificates_travel_to_a_worker_without_the_files(tls_parameters):
    with open_connection(tls_parameters, application_name="again") as again:
        query = "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert again.execute(query).fetchone() == (True, "/CN=postgres")


def test_a_query_of_a_worker_with_certificates_can_be_cancelled(tls_parameters, tls_server):
    sleeping = "SELECT FROM pg_stat_activity WHERE application_name = 'again' AND wait_event = 'PgSleep'"
    with (
        psycopg.connect(tls_server.dsn, autocommit=True) as other,
        closing(open_connection(tls_parameters, application_name="again")) as again,
    ):
        again.pgconn.send_query(b"SELECT pg_sleep(60)")
        wait_for(lambda: other.execute(sleeping).fetchall())
        again.cancel_safe()
        assert again.pgconn.get_result().error_field(pq.DiagnosticField.SQLSTATE) == b"57014"


def test_a_killed_process_leaves_no_certificate(tls_parameters, tmp_path, monkeypatch):
    own = tmp_path / "temporary"
    own.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(own))
    pid = os.fork()
    if pid == 0:
        try:
            connection = open_connection(tls_parameters, application_name="again")
            connection.execute("SELECT 1")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert list(own.iterdir()) == []


def turn_tls_on(server, certificates):
    owner = server.data.stat()
    for name in ("server.crt", "server.key", "root.crt"):
        target = server.data / name
        shutil.copy(certificates / name, target)
        os.chown(target, owner.st_uid, owner.st_gid)
        target.chmod(0o600)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
        connection.execute("ALTER SYSTEM SET ssl = on")
    server.restart()
