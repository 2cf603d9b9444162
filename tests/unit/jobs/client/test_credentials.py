from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from burla_provider.jobs.client import credentials
from burla_provider.jobs.client.credentials import PrivateConfig

LOGIN = {"email": "a@example.com", "token": "t0ken", "project_id": None, "url": "http://localhost:1"}


@pytest.fixture(autouse=True)
def temporary_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_the_file_has_the_content_that_burla_login_writes():
    file = Path(PrivateConfig(LOGIN).home) / "burla" / "burla_credentials.json"
    assert json.loads(file.read_text()) == {
        "email": "a@example.com", "auth_token": "t0ken", "project_id": "", "cluster_dashboard_url": "http://localhost:1"
    }  # fmt: skip


def test_only_the_user_can_read_the_file():
    home = PrivateConfig(LOGIN).home
    assert mode(home) == mode(f"{home}/burla") == 0o700
    assert mode(f"{home}/burla/burla_credentials.json") == 0o600


def test_two_jobs_have_different_directories():
    assert PrivateConfig(LOGIN).home != PrivateConfig(LOGIN).home


def test_remove_deletes_the_directory():
    config = PrivateConfig(LOGIN)
    config.remove()
    assert not os.path.exists(config.home)


def test_the_directory_of_a_killed_client_is_deleted_by_the_next(temporary_directory):
    abandoned = temporary_directory / f"{credentials._PREFIX}abandoned"
    abandoned.mkdir()
    old = time.time() - 3_600
    os.utime(abandoned, (old, old))
    PrivateConfig(LOGIN)
    assert not abandoned.exists()


def test_a_directory_in_use_is_kept():
    used = PrivateConfig(LOGIN)
    old = time.time() - 3_600
    os.utime(used.home, (old, old))
    PrivateConfig(LOGIN)
    assert os.path.exists(used.home)
