"""The private names of the installed burla that the client process uses."""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import pytest

from burla_provider.exceptions import BurlaNotInstalledError
from burla_provider.jobs.client import burla_errors
from burla_provider.jobs.job import Engine
from tests.unit.jobs.running import run

pytest.importorskip("burla")  # a missing private name must fail the test, not skip it
burla_map = importlib.import_module("burla._remote_parallel_map")


def parameters(function):
    return list(inspect.signature(function).parameters)


def test_scan_environment_can_be_replaced():
    scan = burla_map.scan_environment()
    fields = {field.name for field in dataclasses.fields(scan)}
    assert {"requirements", "local_dists", "local_top_levels", "dist_dir_prefixes"} <= fields
    assert scan.requirements["psycopg"].startswith("psycopg==")


def test_the_heartbeat_can_be_replaced():
    from burla._heartbeat import send_alive_pings

    assert burla_map.send_alive_pings is send_alive_pings
    assert parameters(send_alive_pings) == ["node_hosts", "cluster_ca"]


def test_start_job_can_be_replaced():
    from burla._auth import get_auth_headers
    from burla._cluster_client import ClusterClient

    assert parameters(ClusterClient.start_job) == ["self", "job_id", "config"]
    assert "self._url = " in inspect.getsource(ClusterClient.__init__)
    assert parameters(get_auth_headers) == []


def test_the_state_of_the_cluster_can_be_read():
    from burla import _cluster_client

    assert parameters(_cluster_client.ClusterClient.get_cluster_state) == ["self"]
    assert parameters(_cluster_client.ClusterClient) == ["session"]
    assert "trust_env" in parameters(_cluster_client.aiohttp.ClientSession)


NO_OPTION = {
    "function_": "the job's callable",
    "inputs": "the job's items",
    "detach": "False: the task waits for the job, and cancels it when it is killed",
    "generator": "True: results are stored as they arrive",
    "raise_errors": "False: a failed call must not end the job",
    "spinner": "False: the task's log is no terminal",
}
"""Parameters of Burla that a user cannot set, and their values."""


def test_every_parameter_of_burla_is_a_job_option_or_left_out_for_a_reason():
    from burla_provider.jobs.job import JobOptions

    options = {field.name for field in dataclasses.fields(JobOptions)}
    assert options.isdisjoint(NO_OPTION)
    assert options | NO_OPTION.keys() == set(parameters(burla_map.remote_parallel_map))


def test_every_job_option_is_a_templated_parameter_of_all_operators():
    from burla_provider.jobs.job import JobOptions
    from burla_provider.operators.base import BurlaBaseOperator

    options = {field.name for field in dataclasses.fields(JobOptions)}
    assert options <= set(parameters(BurlaBaseOperator.__init__))
    assert options <= set(BurlaBaseOperator.template_fields)


def test_every_known_exception_exists():
    from burla import _auth, _node

    modules = (burla_map, _node, _auth)
    elsewhere = {"DefaultCredentialsError"}  # in google.auth
    missing = [name for name in burla_errors._KINDS if not any(hasattr(module, name) for module in modules)]
    assert set(missing) == elsewhere


@pytest.mark.parametrize("version", ["1.8.3", "1.9.0", "2.0"])
def test_an_unsupported_version_of_burla_is_refused(version, tmp_path, monkeypatch):
    records = tmp_path / f"burla-{version}.dist-info"
    records.mkdir()
    (records / "METADATA").write_text(f"Metadata-Version: 2.1\nName: burla\nVersion: {version}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BurlaNotInstalledError, match=f"has burla {version}, not 1.8.4 or later below 1.9"):
        run(lambda index, item: b"", [1], Engine("burla"))
