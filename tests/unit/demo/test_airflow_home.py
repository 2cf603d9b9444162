from __future__ import annotations

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


def test_dags_of_a_checkout_are_found_beside_the_package():
    assert (find_dags() / "order_totals.py").exists()


def test_dags_of_a_wheel_are_found_in_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(burla_provider, "__file__", str(tmp_path / "burla_provider" / "__init__.py"))
    (tmp_path / "burla_provider" / "example_dags").mkdir(parents=True)
    assert find_dags() == tmp_path / "burla_provider" / "example_dags"
