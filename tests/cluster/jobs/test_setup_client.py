"""Environments for the client process, made from a real package index."""

from __future__ import annotations

import subprocess
import sys

import pytest

from burla_provider.jobs import setup_client


@pytest.fixture
def no_uv(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)


def packages(python):
    script = (
        "from importlib import metadata; print(*[found.metadata['Name'].lower() for found in metadata.distributions()])"
    )
    return subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_it_holds_burla_and_nothing_of_airflow(other_python):
    names = packages(other_python)
    assert {"burla", "cloudpickle"} <= set(names)
    assert not [name for name in names if "airflow" in name]


def test_pip_makes_it_where_there_is_no_uv(no_uv, tmp_path, monkeypatch):
    monkeypatch.setattr(setup_client, "REQUIREMENT", "iniconfig==2.0.0")  # burla takes pip a minute
    assert "iniconfig" in packages(setup_client.make_environment(tmp_path / "env"))


def test_a_place_where_none_can_be_made_is_an_error_in_words(tmp_path):
    file = tmp_path / "file"
    file.touch()
    command = [sys.executable, "-m", "burla_provider.jobs.setup_client", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Could not create an environment" in result.stderr
