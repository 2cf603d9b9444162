"""An Airflow whose packages are newer than burla allows: burla is installed in another environment."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.jobs.conftest import Cluster, cluster, running_cluster  # noqa: F401
from tests.publish.conftest import ROOT, Environment

# Current versions with Airflow, which burla 1.8 does not allow.
TOO_NEW = ("requests>2.32.4", "packaging>=26")

TASK = """
import json, sys

from airflow.sdk import DAG, Connection
from burla_provider.operators.map import BurlaMapOperator
from task_runner import Airflow

def shout(word):
    import platform
    return word.upper()

airflow = Airflow()
airflow.add_connection("burla_default", "burla", **json.loads(sys.argv[1]))
result = airflow.run(BurlaMapOperator(task_id="shout", python_callable=shout, inputs=["a", "b", "c"]))
print(result.log, file=sys.stderr)
print(json.dumps([result.state, result.value, str(result.error)]))
"""


@pytest.fixture(scope="module")
def airflow(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Return an environment with Airflow and this provider, without burla."""
    environment = Environment(tmp_path_factory.mktemp("airflow"))
    [version] = re.findall(r"^(apache-airflow==.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    environment.install(version, *TOO_NEW, wheel)
    shutil.copy(ROOT / "tests" / "support" / "task_runner.py", environment.home)
    (environment.home / "task.py").write_text(TASK)
    return environment


def run_task(airflow: Environment, **connection: object) -> list[object]:
    # Run the script by path: its directory, which contains the runner, must be in sys.path.
    return json.loads(airflow.run("task.py", json.dumps(connection)).splitlines()[-1])


def test_the_package_does_not_require_burla(airflow: Environment) -> None:
    names = "[d.name for d in importlib.metadata.distributions()]"
    installed = json.loads(airflow.run("-c", f"import importlib.metadata, json; print(json.dumps({names}))"))
    assert "airflow-provider-burla" in installed
    assert "burla" not in installed


def test_the_local_engine_needs_no_burla(airflow: Environment) -> None:
    assert run_task(airflow, extra={"engine": "local"})[:2] == ["success", ["A", "B", "C"]]


def test_the_error_without_burla_says_how_to_get_an_interpreter_that_has_it(airflow: Environment) -> None:
    state, _, error = run_task(airflow, host="http://localhost:9")
    assert state == "failed"
    assert "has no burla" in str(error)
    assert '{"python": ...}' in str(error)


@pytest.mark.cluster
def test_a_task_runs_on_the_cluster_with_an_interpreter_that_has_burla(airflow: Environment, cluster: Cluster) -> None:  # noqa: F811
    answer = airflow.run("-m", "burla_provider.jobs.setup_client", airflow.home / "client")
    extra = json.loads(answer.splitlines()[-1])
    engine = cluster.engine
    result = run_task(airflow, host=engine.url, login=engine.email, password=engine.token, extra=extra)
    assert result[:2] == ["success", ["A", "B", "C"]], result
