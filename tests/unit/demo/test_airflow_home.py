from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

import burla_provider
from burla_provider.demo.airflow_home import AirflowHome, find_dags


def test_home_is_private(tmp_path):
    home = AirflowHome(tmp_path / "airflow")
    home.prepare()
    assert home.path.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in home.path.iterdir())


def test_keys_are_kept_so_that_saved_connections_can_be_decrypted(tmp_path):
    home = AirflowHome(tmp_path / "airflow")
    home.prepare()
    before = (home.path / "airflow.cfg").read_text()
    home.prepare()
    assert (home.path / "airflow.cfg").read_text() == before


def test_keys_that_could_not_be_written_are_created_by_the_next_run(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    home = AirflowHome(tmp_path / "airflow")
    with monkeypatch.context() as full_disk:
        full_disk.setattr(Path, "write_text", fail)
        with pytest.raises(OSError, match="No space left"):
            home.prepare()
    home.prepare()
    assert len((home.path / "keys").read_text().split()) == 3


def test_tasks_use_the_port_of_this_airflow(tmp_path):
    home = AirflowHome(tmp_path / "airflow")
    home.port = 8081  # another program has the default, 8080
    home.prepare()
    configuration = ConfigParser()
    configuration.read(home.path / "airflow.cfg")
    assert configuration["api"]["port"] == "8081"
    assert configuration["core"]["execution_api_server_url"] == "http://127.0.0.1:8081/execution/"


@pytest.mark.parametrize("name", ["50%d", "a%20b", "a b"])
def test_the_database_is_in_the_home_whatever_its_name(tmp_path, name):
    home = AirflowHome(tmp_path / name)
    home.prepare()
    configuration = ConfigParser()
    configuration.read(home.path / "airflow.cfg")
    url = make_url(configuration["database"]["sql_alchemy_conn"])
    assert (url.database, url.query) == (str(home.path / "airflow.db"), {"timeout": "60"})


def test_dags_of_a_checkout_are_found_beside_the_package():
    assert (find_dags() / "order_totals.py").exists()


def test_dags_of_a_wheel_are_found_in_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(burla_provider, "__file__", str(tmp_path / "burla_provider" / "__init__.py"))
    (tmp_path / "burla_provider" / "example_dags").mkdir(parents=True)
    assert find_dags() == tmp_path / "burla_provider" / "example_dags"
