"""Environments for the client process, from a real package index."""

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


def test_the_environment_has_burla_but_not_airflow(other_python):
    names = packages(other_python)
    assert {"burla", "cloudpickle"} <= set(names)
    assert not [name for name in names if "airflow" in name]


def test_pip_creates_the_environment_without_uv(no_uv, tmp_path, monkeypatch):
    monkeypatch.setattr(setup_client, "REQUIREMENT", "iniconfig==2.0.0")  # burla takes pip a minute
    assert "iniconfig" in packages(setup_client.make_environment(tmp_path / "env"))


def test_the_error_says_if_the_environment_cannot_be_created(tmp_path):
    file = tmp_path / "file"
    file.touch()
    command = [sys.executable, "-m", "burla_provider.jobs.setup_client", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Could not create an environment" in result.stderr
