"""Burla's credentials file, private to one client process. ``burla_engine.py`` loads this file by path."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from typing import Any

_PREFIX = "airflow-burla-"
_MIN_AGE_SECONDS = 60.0


class PrivateConfig:
    """A config directory that only this user can read, with the login of one connection.

    ``remove`` deletes it when the client process ends. If the process was killed, the next client deletes it. A locked
    directory is in use; the lock ends with the process that holds it.

    :param engine: a dict with "email", "token", "project_id" and "url".
    """

    def __init__(self, engine: dict[str, Any]) -> None:
        _remove_abandoned()
        self.home = tempfile.mkdtemp(prefix=_PREFIX)
        _lock(self.home)
        login = {
            "email": engine["email"],
            "auth_token": engine["token"],
            "project_id": engine["project_id"] or "",
            "cluster_dashboard_url": engine["url"] or "",
        }
        os.mkdir(f"{self.home}/burla", 0o700)
        file = os.open(f"{self.home}/burla/burla_credentials.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "w") as stream:
            json.dump(login, stream)

    def remove(self) -> None:
        """Delete the directory."""
        shutil.rmtree(self.home, ignore_errors=True)


def _remove_abandoned() -> None:
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and _is_abandoned(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    try:
        state = entry.stat(follow_symlinks=False)
        is_old = time.time() - state.st_mtime > _MIN_AGE_SECONDS  # a new directory might not be locked yet
        return (
            is_old and state.st_uid == os.getuid() and entry.is_dir(follow_symlinks=False) and not _in_use(entry.path)
        )
    except OSError:
        return False  # deleted meanwhile, or not accessible


def _in_use(directory: str) -> bool:
    try:
        os.close(_lock(directory))
    except BlockingIOError:
        return True
    return False


def _lock(directory: str) -> int:
    # The open descriptor holds the lock. Child processes do not inherit it.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
