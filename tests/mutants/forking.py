"""One collected pytest session, and processes forked from it that run some of its tests."""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg
import pytest
from _pytest.config import _prepareconfig

from tests.support.postgres import PostgresServer

_MARKS = "not cluster and not ui and not wheel"
_START_SECONDS = 60.0
_WITHOUT = ("cacheprovider", "terminal", "xdist", "cov", "faulthandler")


class _Reporter:
    """Sends what happens in a forked process through a pipe, and ends it at the first failure."""

    def __init__(self) -> None:
        self.pipe = -1
        self.stops = True

    def send(self, kind: str, value: Any) -> None:
        os.write(self.pipe, f"{json.dumps([kind, value])}\n".encode())

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.pipe >= 0 and report.failed:
            self.send("failed", report.nodeid)
            if self.stops:
                os._exit(1)


@dataclass
class Result:
    """How a forked process ended.

    :ivar outcome: "passed", "failed", "timeout", "crashed" if the process died, or "error" if ``prepare`` failed.
    :ivar test: the test that failed or took too long.
    """

    outcome: str
    test: str = ""
    messages: dict[str, list[Any]] = field(default_factory=dict)


class Session:
    """The tests, collected once."""

    def __init__(self, server: PostgresServer, arguments: Sequence[str]) -> None:
        self.server = server
        self._reporter = _Reporter()
        options = [item for name in _WITHOUT for item in ("-p", f"no:{name}")]
        config = _prepareconfig(
            [*options, "-o", "addopts=", "--import-mode=importlib", "-m", _MARKS, *arguments], [self._reporter]
        )
        config._do_configure()
        self._session = pytest.Session.from_config(config)
        config.hook.pytest_sessionstart(session=self._session)
        config.hook.pytest_collection(session=self._session)
        # Polars has threads after its first use, and waits for them forever in a forked process.
        items = [item for item in self._session.items if "polars" not in item.nodeid]
        self.items: dict[str, pytest.Item] = {item.nodeid: item for item in items}
        for plugin in config.pluginmanager.get_plugins():
            if hasattr(plugin, "running_server"):  # conftest.py: its fixture yields this server
                plugin.running_server = lambda: contextlib.nullcontext(server)

    def run(
        self,
        tests: Mapping[str, float],
        prepare: Callable[[], Any] = lambda: None,
        around: Callable[[str], contextlib.AbstractContextManager[Any]] | None = None,
    ) -> Result:
        """Run tests in a forked process, in this order.

        :param tests: maximum seconds by name.
        :param prepare: runs first, in the process.
        :param around: a context for each test. What it yields is sent after the test. No failure ends the process then.
        """
        self._reporter.stops = around is None
        before = {child.pid for child in psutil.Process().children()}
        receiver, sender = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(receiver)
            self._run_here(sender, list(tests), prepare, around)
        os.close(sender)
        try:
            return self._watch(receiver, pid, tests)
        finally:
            os.close(receiver)
            _end_children(before)
            self._drop_databases()

    def _run_here(self, pipe: int, names: list[str], prepare: Any, around: Any) -> None:
        status = 70
        try:
            os.setsid()
            self._reporter.pipe = pipe
            self._reporter.send("prepared", prepare())
            items = [self.items[name] for name in names]
            for item, following in zip(items, [*items[1:], None], strict=True):
                self._reporter.send("test", item.nodeid)
                context = around(item.nodeid) if around else contextlib.nullcontext({})
                with context as collected:
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if around:
                    self._reporter.send("measured", [item.nodeid, collected])
            self._reporter.send("passed", "")
            status = 0
        except BaseException as error:  # what a mutant raises while it is put in
            with contextlib.suppress(OSError):
                self._reporter.send("error", repr(error))
        finally:
            os._exit(status)

    def _watch(self, receiver: int, pid: int, limits: Mapping[str, float]) -> Result:
        test, deadline = "", time.monotonic() + _START_SECONDS
        messages: dict[str, list[Any]] = {}
        unread = b""
        while time.monotonic() < deadline:
            # A test that failed may leave forked processes, which hold the pipe open: its end is not waited for.
            if not select.select([receiver], [], [], 0.5)[0]:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return Result("crashed", test, messages)
                continue
            *lines, unread = (unread + os.read(receiver, 1 << 20)).split(b"\n")
            if not lines and not unread:
                return Result("crashed", test, messages)
            for line in lines:
                kind, value = json.loads(line)
                messages.setdefault(kind, []).append(value)
                if kind == "test":
                    test, deadline = value, time.monotonic() + limits[value]
                elif kind in ("passed", "error") or (kind == "failed" and self._reporter.stops):
                    return Result(kind, test, messages)
        return Result("timeout", test, messages)

    def _drop_databases(self) -> None:
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            for (name,) in connection.execute(
                r"SELECT datname FROM pg_database WHERE datname LIKE 'test\_%'"
            ).fetchall():
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _end_children(kept: set[int]) -> None:
    """Kill the child processes that are not in ``kept``, with all their descendants, orphans included."""
    while found := [child for child in psutil.Process().children() if child.pid not in kept]:
        for child in found:
            with contextlib.suppress(psutil.Error):
                for process in [child, *child.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)
