"""The Burla cluster that `make cluster` starts."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest

from burla_provider.exceptions import ClusterUnreachableError
from burla_provider.jobs.client.http_json import request_json
from burla_provider.jobs.cluster_api import check_cluster
from burla_provider.jobs.job import Engine
from tests.support.waiting import wait_for

URL = os.environ.get("BURLA_CLUSTER_DASHBOARD_URL", "http://localhost:5001")
TOKEN = os.environ.get("BURLA_CLUSTER_TOKEN", "local-dev-token")


class Cluster:
    """Requests to the cluster, without the provider."""

    engine = Engine(url=URL, email="kit@example.com", token=TOKEN)

    def get(self, path: str) -> Any:
        status, answer = request_json("GET", f"{URL}{path}", {"Authorization": f"Bearer {TOKEN}"}, 10)
        assert status == 200, (path, status, answer)
        return answer

    def job(self, job_id: str) -> Any:
        return self.get(f"/v1/management/jobs/{quote(job_id)}")

    def cancel(self, job_id: str) -> bool:
        """Return False if the job has ended already."""
        path = f"/v1/management/jobs/{quote(job_id)}/cancel"
        status, answer = request_json("POST", f"{URL}{path}", {"Authorization": f"Bearer {TOKEN}"}, 10)
        assert status == 200, (path, status, answer)
        return bool(answer["changed"])

    def is_free(self) -> bool:
        return bool(self.get("/v1/cluster/state")["ready_nodes"])

    def restart(self) -> None:
        status, _ = request_json("POST", f"{URL}/v1/cluster/restart", {"Authorization": f"Bearer {TOKEN}"}, 60)
        assert status == 200

    def wait_until_free(self, seconds: float = 120) -> None:
        wait_for(self.is_free, seconds)


@pytest.fixture(scope="session")
def running_cluster() -> Cluster:
    try:
        check_cluster(Cluster.engine)
    except ClusterUnreachableError as error:
        if os.environ.get("BURLA_REQUIRE_CLUSTER") == "1":
            raise
        pytest.skip(f"No Burla cluster runs here: {error} Start one with `make cluster`.")
    return Cluster()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """Return the cluster when a node is free. A node runs one job at a time."""
    running_cluster.wait_until_free()
    return running_cluster


@pytest.fixture(scope="session")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an interpreter that ``setup_client`` creates, with burla and without Airflow."""
    path = tmp_path_factory.mktemp("client") / "env"
    command = [sys.executable, "-m", "burla_provider.jobs.setup_client", str(path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f'{{"python": "{path}/bin/python"}}' in result.stdout
    return str(path / "bin" / "python")
