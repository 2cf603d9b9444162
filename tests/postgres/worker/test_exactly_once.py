"""Every row is written once, even if processes are killed and the task is retried."""

import contextlib
import os
import random
import subprocess
import sys

import psutil
import pytest

from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.worker.ledger import Ledger

SEEDS = int(os.environ.get("BURLA_TEST_SEEDS", "2"))
ROWS = 200_000


def kill_task(task, connection, chance):
    with contextlib.suppress(psutil.NoSuchProcess):
        task.kill()


def kill_descendant(task, connection, chance):
    """The client process or one of its workers."""
    # psutil compares the start time, so a process that reuses the pid is not killed.
    with contextlib.suppress(psutil.NoSuchProcess):
        descendants = task.children(recursive=True)
        if descendants:
            chance.choice(descendants).kill()


def kill_backend(task, connection, chance):
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    pids = connection.execute(query).fetchall()
    if pids:
        connection.execute("SELECT pg_terminate_backend(%s)", chance.choice(pids))


def done(connection):
    return connection.execute("SELECT count(*) FROM burla_ledger WHERE range_index >= 0").fetchone()[0]


def try_once(database, connection, chance, count):
    """Run one try of the task and kill a process now and then; return whether the try succeeded."""
    command = [sys.executable, "-m", "tests.postgres.worker.writing_task", database, "run", str(count)]
    with psutil.Popen(command, stderr=subprocess.DEVNULL) as task:
        while task.poll() is None:
            next_time = done(connection) + chance.randint(1, count * 3 // 8)
            while task.poll() is None and done(connection) < next_time:
                with contextlib.suppress(psutil.TimeoutExpired):
                    task.wait(0.02)
            if task.poll() is None:
                chance.choice([kill_task, kill_descendant, kill_backend])(task, connection, chance)
    return task.returncode == 0


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("count", [40, 1_000], ids=["a range per call", "batches of ranges"])
def test_every_row_is_written_once_under_random_kills(seed, count, orders, database):
    orders.execute("TRUNCATE orders")
    orders.execute("INSERT INTO orders SELECT g, 0 FROM generate_series(1, %s) AS g", [ROWS])
    prepare_ledger(orders, Ledger("public", "burla_ledger", "run"))
    chance = random.Random(seed)
    tries = 1
    while not try_once(database, orders, chance, count):
        tries += 1
    assert orders.execute("SELECT min(n), max(n), count(*) FROM orders").fetchone() == (1, 1, ROWS)
    assert done(orders) == count
    print(f"seed {seed}: {tries} tries")
