import psycopg
import pytest

from burla_provider.exceptions import UserFunctionError
from burla_provider.worker.connection import connect_worker


def test_an_old_psycopg_is_reported_before_connecting(monkeypatch):
    # A real old version would need another interpreter.
    monkeypatch.setattr(psycopg, "__version__", "3.1.18")
    monkeypatch.delattr(psycopg, "capabilities")
    with pytest.raises(UserFunctionError, match=r"The workers have psycopg 3\.1\.18, .* in their image"):
        connect_worker({}, "burla", read_only=True, slots=None)
