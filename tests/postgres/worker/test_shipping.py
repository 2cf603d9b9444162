"""A task runs on a worker that has psycopg, tenacity and cloudpickle, but neither this package nor Airflow."""

import json
import subprocess
import sys

import cloudpickle
import pytest

from burla_provider.worker.processors import ProcessRange, ProcessRows, SqlTotals
from tests.postgres.worker.conftest import ROWS, ranges

BARE = """
import json, pickle, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("burla_provider", "airflow", "pyarrow", "pandas", "polars", "numpy", "tests"):
            raise ModuleNotFoundError(f"{name} is not on this worker")

sys.meta_path.insert(0, Forbidden())
task = pickle.load(open(sys.argv[1], "rb"))
answers = [task(index, item) for index, item in enumerate(json.loads(sys.argv[2]))]
answers.append(task(99, ["'", None, False, None, None]))
assert not any(name.startswith(("burla_provider", "airflow")) for name in sys.modules)
print(json.dumps([pickle.loads(answer) for answer in answers], default=str))
"""


def count_rows(connection, key_range):
    return {
        "n": connection.execute(
            "SELECT count(*) FROM orders WHERE id BETWEEN %s AND %s", [key_range.start_id, key_range.end_id]
        ).fetchone()[0]
    }


@pytest.mark.parametrize(
    "processor",
    [ProcessRows(lambda rows: {"n": sum(1 for _ in rows)}), ProcessRange(count_rows), SqlTotals(())],
    ids=["rows", "range", "totals"],
)
def test_a_task_runs_without_this_package(worker, held, tmp_path, processor):
    one = worker(processor, snapshot=held.snapshot)
    path = tmp_path / "task"
    path.write_bytes(one.pickled)
    items = json.dumps([key_range.to_item() for key_range in ranges(4)])
    bare = subprocess.run(
        [sys.executable, "-I", "-c", BARE, path, items], capture_output=True, text=True, check=False, timeout=60
    )
    assert bare.returncode == 0, bare.stderr
    *good, bad = json.loads(bare.stdout)
    assert sum(answer["row_count"] or answer["value"]["n"] for answer in good) == ROWS
    assert bad["failure"]


def test_open_connections_do_not_travel(worker):
    one = worker(SqlTotals(()))
    assert one(ranges(1)[0]).ok
    again = cloudpickle.loads(cloudpickle.dumps(one.task))
    assert again._cached.connection is None


def test_the_password_is_not_in_repr(worker, orders):
    assert orders.info.password not in repr(worker(SqlTotals(())).task)
