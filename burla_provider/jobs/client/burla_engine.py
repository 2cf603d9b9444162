"""The Burla engine: run a job on a Burla cluster. The only file that imports burla.

``client.py`` loads this file by path, with an interpreter that has burla. ``JobRun._patch_burla`` uses parts of Burla
that are not documented; the check of Burla's version and the tests on a real cluster cover them.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable
from importlib import metadata
from typing import Any
from urllib.parse import quote

_MIN_VERSION, _BELOW_VERSION = (1, 8, 4), (1, 9)
_HERE = os.path.dirname(os.path.abspath(__file__))
_REQUEST_SECONDS = 2.0
_COMPLETION_SECONDS = 60.0


class Setup:
    """What a job needs in this process, and can be prepared before the task has planned it.

    :param setup: the frame that ``runner.py`` sends first.
    :param client: the ``Client`` of this process.
    :ivar url: the cluster's URL, if the connection has one.
    """

    def __init__(self, setup: dict[str, Any], client: Any) -> None:
        self._engine = setup["engine"]
        self._client = client
        self._private_config: Any = None
        self._config_lock = threading.Lock()
        self.url: str = self._engine["url"] or ""
        self.request_json = client.load_file(f"{_HERE}/http_json.py").request_json
        self.errors = client.load_file(f"{_HERE}/burla_errors.py")

    @property
    def config(self) -> str | None:
        """The directory of the credentials; None if the connection has no token."""
        return None if self._private_config is None else str(self._private_config.home)

    def prepare(self) -> None:
        """Set the environment and import burla.

        :raises client.JobFailedError: if the interpreter cannot be used.
        """
        self._check_version()
        self._set_environment()
        import burla._remote_parallel_map as burla_map

        burla_map.scan_environment()  # Burla caches the result

    def end(self) -> None:
        """Delete the credentials."""
        # Never released: the main thread must not create the directory any more.
        self._config_lock.acquire(timeout=_REQUEST_SECONDS)
        if self._private_config is not None:
            self._private_config.remove()

    def _check_version(self) -> None:
        try:
            version = metadata.version("burla")
        except metadata.PackageNotFoundError:
            raise self._make_not_installed_error(f"{sys.executable} has no burla.") from None
        if not _MIN_VERSION <= tuple(map(int, re.findall(r"\d+", version)[:3])) < _BELOW_VERSION:
            raise self._make_not_installed_error(f"{sys.executable} has burla {version}, not 1.8.4 or later below 1.9.")

    def _make_not_installed_error(self, problem: str) -> Exception:
        advice = "pip install 'airflow-provider-burla[burla]', or set an interpreter that has burla in the connection"
        message = f'{problem} {advice} (extra: {{"python": ...}}).'
        error: Exception = self._client.JobFailedError("not installed", message)
        return error

    def _set_environment(self) -> None:
        engine = self._engine
        os.environ.pop("DISABLE_BURLA_TELEMETRY", None)
        if not engine["telemetry"]:
            os.environ["DISABLE_BURLA_TELEMETRY"] = "True"
        if engine["url"]:
            os.environ["BURLA_CLUSTER_DASHBOARD_URL"] = engine["url"]
        if engine["token"]:
            credentials = self._client.load_file(f"{_HERE}/credentials.py")
            with self._config_lock:
                self._private_config = credentials.PrivateConfig(engine)
            os.environ["XDG_CONFIG_HOME"] = self._private_config.home
            os.environ.pop("BURLA_PRIVATE", None)  # it would make Burla ignore the credentials file
        elif engine["url"] and self._is_open(engine["url"]):
            os.environ["BURLA_PRIVATE"] = "True"  # keeps Burla from sending the saved login of another cluster

    def _is_open(self, url: str) -> bool:
        try:
            status, _ = self.request_json("GET", f"{url}/v1/cluster/open_token", {}, 10)
        except OSError:
            return False
        return status == 200 and url.startswith("http:")

    def make_error(self, kind: str, error: Exception, message: str = "", indexes: tuple[int, ...] = ()) -> Exception:
        """Return the error for an exception of Burla."""
        message = message or self.errors.describe(error)
        parameter = None
        if "LocalHeadError" in message and not os.environ.get("BURLA_CLUSTER_DASHBOARD_URL"):
            kind = "refused"  # no cluster is configured, and Burla has found none
        if kind == "refused":
            parameter = self.errors.refused_parameter(message)
        if type(error).__name__ == "UnauthorizedError":  # its text is about Burla's command line
            message = f"{self.url} refused the login."
        elif kind == "unauthorized" and not self._engine["token"]:
            message = f"The connection has no login, and Burla found none. {message}"
        if kind == "unreachable":
            message = f"No response from {self.url or 'the cluster'} ({type(error).__name__})."
        failed: Exception = self._client.JobFailedError(kind, message, indexes=indexes, parameter=parameter)
        return failed


class JobRun:
    """The run of one job.

    :param job: the frame that ``runner.py`` sends.
    :param client: the ``Client`` of this process.
    :param setup: the setup, after ``prepare``.
    """

    def __init__(self, job: dict[str, Any], client: Any, setup: Setup) -> None:
        self._job = job
        self._setup = setup
        self._client = client
        self._request_json = setup.request_json
        self._errors = setup.errors
        self._make_batches = client.load_file(f"{_HERE}/batches.py").make_batches
        self._missing: dict[int, bytes] = dict(job["items"])
        self._batches: list[list[int]] = []
        self._queue_deadline = time.monotonic() + job["queue_timeout"]
        self._has_reached_cluster = job["is_retry"]  # wait for a cluster that has responded before
        self._job_id: str | None = None
        self._url = setup.url
        self._headers: dict[str, str] = {}
        self._is_starting = False
        self._has_started = False

    def run(self) -> None:
        """Run every item.

        :raises client.JobFailedError: if the job fails.
        """
        self._patch_burla()
        workers = self._job["batched_for"]
        while self._missing:
            indexes = list(self._missing)
            self._batches = self._make_batches(indexes, workers) if workers else [[index] for index in indexes]
            while (reason := self._map_items()) is not None:
                self._wait_for_node(reason)
            if self._missing:
                self._prepare_next_job()
                workers = None

    def end(self, cancel: bool) -> None:
        """If ``cancel``, cancel the job on the cluster, within about 2 seconds."""
        if cancel and self._job_id is not None:
            self._cancel()

    def _patch_burla(self) -> None:
        import burla._remote_parallel_map as burla_map
        from burla._auth import get_auth_headers
        from burla._cluster_client import ClusterClient

        scan = burla_map.scan_environment()
        if self._job["requirements"] is not None:
            scan = dataclasses.replace(scan, requirements=self._job["requirements"])
        # Burla must not send local modules of this process: the pickled callable contains all the code.
        scan = dataclasses.replace(scan, local_dists={}, local_top_levels=frozenset(), dist_dir_prefixes=(os.sep,))
        burla_map.scan_environment = lambda: scan
        start_job = ClusterClient.start_job

        async def start_and_report_job(cluster: Any, job_id: str, config: dict[str, Any]) -> Any:
            self._job_id, self._url, self._headers = job_id, cluster._url, get_auth_headers()
            self._setup.url = self._url
            self._is_starting = True
            try:
                response = await start_job(cluster, job_id, config)
            finally:
                self._is_starting = False
            self._has_started = True
            burla_map.send_alive_pings = self._make_heartbeat()
            self._client.send("started", job_id, f"{self._url}/jobs/{quote(job_id)}")
            return response

        ClusterClient.start_job = start_and_report_job

    # -- calls

    def _map_items(self) -> str | None:
        # None: done. Otherwise the reason why the job has not started, if waiting may help.
        from burla import remote_parallel_map

        call = self._client.load_file(f"{_HERE}/call.py").make_list_call(self._job["pickled_callable"])
        call.__name__ = self._job["name"]
        inputs = [[(index, self._missing[index]) for index in batch] for batch in self._batches]
        fixed = {"generator": True, "raise_errors": False, "spinner": False, "detach": False}
        finish = threading.Timer(_COMPLETION_SECONDS, self._client.finish)
        try:
            outputs = remote_parallel_map(call, inputs, **self._job["options"], **fixed)
            for number, output in enumerate(outputs, start=1):
                self._report(output)
                if number == len(inputs):  # Burla now reports the end to the cluster, which might not respond
                    finish.start()
        except Exception as error:
            kind = self._errors.kind_of(error, self._has_started)
            if not self._can_wait(kind):
                raise self._make_error(kind, error) from error
            return str(self._errors.describe(error))
        finally:
            finish.cancel()  # calls may have left items, which run in a second job
        return None

    def _report(self, output: Any) -> None:
        if isinstance(output, list):
            for index, outcome, result in output:
                self._report_result(index, outcome, result)
        else:  # an exception from outside the call, which never ran
            error = "".join(traceback.format_exception(output, limit=-8)).strip()
            for index in self._batches[output.burla_input_index]:
                self._report_result(index, "crashed", error)

    def _report_result(self, index: int, outcome: str, result: Any) -> None:
        if self._missing.pop(index, None) is not None:
            self._client.send(outcome, index, result, *([] if outcome == "succeeded" else [1]))

    def _prepare_next_job(self) -> None:
        # The calls of the last job did not start these items within their time, so that they may take long.
        text = f"Calls left {len(self._missing):,} items of their batches; running each in a call of its own."
        self._client.send("line", text, None)
        self._has_started = False
        self._has_reached_cluster = True
        self._queue_deadline = time.monotonic() + self._job["queue_timeout"]

    # -- waiting for a node

    def _can_wait(self, kind: str) -> bool:
        self._has_reached_cluster = self._has_reached_cluster or kind == "busy"
        is_temporary = self._has_reached_cluster and kind in ("busy", "unreachable")
        return is_temporary and not self._has_started and time.monotonic() < self._queue_deadline

    def _wait_for_node(self, reason: str) -> None:
        # Burla would poll the cluster 100 times per second. Many clients may wait at the same time: poll every second.
        remaining = self._queue_deadline - time.monotonic()
        self._client.send("waiting", reason, remaining)
        deadline = time.monotonic() + min(remaining, 30)
        while time.monotonic() < deadline:
            time.sleep(min(1, max(0, deadline - time.monotonic())))
            if self._has_ready_node():
                return

    def _has_ready_node(self) -> bool:
        try:
            status, state = self._request_json("GET", f"{self._url}/v1/cluster/state", self._headers, _REQUEST_SECONDS)
        except (OSError, ValueError):  # ValueError: the URL is not known yet
            return False
        return status == 200 and isinstance(state, dict) and bool(state.get("ready_nodes"))

    # -- errors and cancellation

    def _make_error(self, kind: str, error: Exception) -> Exception:
        message = self._errors.describe(error)
        indexes: tuple[int, ...] = ()
        if kind == "refused" and (value := self._job["options"].get(self._errors.refused_parameter(message))):
            message = f"{message} Got {value!r}."
        if kind == "lost" and self._has_started:
            position = self._errors.crashed_input(str(error))
            indexes = () if position is None else tuple(self._batches[position])
            if install_error := self._find_install_error(str(error)):
                kind, message = "refused", install_error
            else:
                message = " ".join([message, *self._recorded_errors()])
        return self._setup.make_error(kind, error, message, indexes)

    def _find_install_error(self, message: str) -> str | None:
        for node in self._errors.stalled_nodes(message):
            log = self._get(f"/v1/management/nodes/{node}/logs?limit=5000")
            if log and (error := self._errors.find_install_error(log, self._job_id)):
                return str(error)
        return None

    def _recorded_errors(self) -> list[str]:
        errors = self._get(f"/v1/management/jobs/{quote(self._job_id or '')}/errors")
        return list(self._errors.describe_recorded_errors(errors)) if errors else []

    def _get(self, path: str) -> Any:
        try:
            status, body = self._request_json("GET", f"{self._url}{path}", self._headers, _REQUEST_SECONDS)
        except OSError:
            return None
        return body if status == 200 else None

    def _cancel(self) -> None:
        deadline = time.monotonic() + _REQUEST_SECONDS
        while time.monotonic() < deadline:
            status, _ = self._request_json("POST", self._cancel_url, self._headers, _REQUEST_SECONDS)
            if status != 404 or not self._is_starting:
                return
            time.sleep(0.1)  # the cluster is still creating the job

    @property
    def _cancel_url(self) -> str:
        return f"{self._url}/v1/management/jobs/{quote(self._job_id or '')}/cancel"

    def _make_heartbeat(self) -> Callable[[list[str], str | None], None]:
        # Burla runs this function in its heartbeat process. Burla's function would continue after the client was killed
        # and keep the cluster busy forever. This function also watches the client, and cancels the job when it died.
        client = os.getpid()
        cancel = urllib.request.Request(self._cancel_url, method="POST")  # noqa: S310
        for name, value in self._headers.items():
            cancel.add_unredirected_header(name, value)  # no other host gets the login
        config = self._setup.config

        def watch_client() -> None:
            while os.getppid() == client:
                time.sleep(0.5)
            try:
                if config is not None:
                    shutil.rmtree(config, ignore_errors=True)
                urllib.request.urlopen(cancel, timeout=_REQUEST_SECONDS)  # noqa: S310
            finally:
                os._exit(0)

        def ping(node_hosts: list[str], cluster_ca: str | None) -> None:
            threading.Thread(target=watch_client, daemon=True).start()
            from burla._heartbeat import send_alive_pings

            send_alive_pings(node_hosts, cluster_ca)

        return ping
