import re
from pathlib import Path

import psycopg
import pytest

from burla_provider.exceptions import UserFunctionError
from burla_provider.worker.connection import connect_worker

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def oldest_psycopg() -> str:
    """Return the version that pyproject.toml requires."""
    [version] = re.findall(r'"psycopg\[binary\]>=([\d.]+)"', PROJECT.read_text())
    return version


@pytest.mark.parametrize("version", ["3.1.18", "3.2.10", "3.2.10.dev1"])
def test_an_old_psycopg_is_reported_before_connecting(monkeypatch, version):
    # A real old version would need another interpreter.
    monkeypatch.setattr(psycopg, "__version__", version)
    message = f"The workers have psycopg {version}, which is too old: install psycopg[binary]>={oldest_psycopg()} in"
    with pytest.raises(UserFunctionError, match=re.escape(message)):
        connect_worker({}, "burla", read_only=True, slots=None)


@pytest.mark.parametrize("version", [oldest_psycopg(), "3.3.0b1", "3.10", "4.0.0"])
def test_later_versions_of_psycopg_connect(monkeypatch, version):
    monkeypatch.setattr(psycopg, "__version__", version)
    with pytest.raises(psycopg.OperationalError):
        connect_worker({"host": "127.0.0.1", "port": "1"}, "burla", read_only=True, slots=None)
