"""What ``python -m burla_provider.doctor`` runs on a worker."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import closing

import psycopg

from burla_provider.database.errors import advice_for
from burla_provider.worker.connection import connect_worker


def read_python_version(_index: int, _item: bytes) -> bytes:
    """Return the version of the worker's Python. Needs no packages."""
    return platform.python_version().encode()


def read_server_version(_input: None, parameters: Mapping[str, str], settings: Mapping[str, str]) -> str | None:
    """Connect as a range does, and return the version of the server.

    :param parameters: libpq parameters; empty: do not connect, and return None.
    """
    if not parameters:
        return None
    name = "burla_provider.doctor"
    try:
        with closing(connect_worker(parameters, name, read_only=True, slots=None, settings=settings)) as connection:
            return connection.info.parameter_status("server_version")
    except psycopg.Error as error:
        if advice := advice_for(error, parameters.get("host", "")):
            error.add_note(advice)
        raise
