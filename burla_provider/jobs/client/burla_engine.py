"""The Burla engine: the only file that imports burla, and only in the client process.

Loaded by ``client.py`` by its path, with an interpreter that has burla. All that it uses beyond Burla's documented
interface is in ``Run._take_over``, guarded by a range of versions and by tests on a real cluster.
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

_OLDEST, _TOO_NEW = (1, 8, 4), (1, 9)
_HERE = os.path.dirname(os.path.abspath(__file__))
_REQUEST_SECONDS = 2.0
_LAST_WORD_SECONDS = 60.0


class Run:
    """One job. ``run`` returns when every item is answered, and raises ``client.failure`` when that cannot be."""

    def __init__(self, job: dict[str, Any], client: Any) -> None:
        self._job = job
        self._client = client
        self._ask = client.load_file(f"{_HERE}/http_json.py").ask
        self._failures = client.load_file(f"{_HERE}/burla_errors.py")
        self._order = list(job["items"])
        self._config: Any = None
        self._queued_until = time.monotonic() + job["queue_timeout"]
        self._patient = job["again"]  # a head that has answered before is worth waiting for
        self._job_id: str | None = None
        self._url = job["engine"]["url"] or ""
        self._headers: dict[str, str] = {}
        self._starting = False
        self._started = False

    def run(self) -> None:
        self._check_version()
        self._set_environment()
        self._take_over()
        while (reason := self._map()) is not None:
            self._wait_for_nodes(reason)

    def end(self, cancel: bool) -> None:
        """Remove the credentials and, when asked to, cancel the job on the cluster. Takes 2 seconds at most or so."""
        try:
            if self._config is not None:
                self._config.remove()
        finally:
            if cancel and self._job_id is not None:
                self._cancel()

    # -- before

    def _check_version(self) -> None:
        try:
            version = metadata.version("burla")
        except metadata.PackageNotFoundError:
            raise self._not_installed(f"{sys.executable} has no burla.") from None
        if not _OLDEST <= tuple(map(int, re.findall(r"\d+", version)[:3])) < _TOO_NEW:
            raise self._not_installed(f"{sys.executable} has burla {version}, not 1.8.4 or later below 1.9.")

    def _not_installed(self, problem: str) -> Exception:
        advice = "pip install 'airflow-provider-burla[burla]', or name an interpreter that has burla in the connection"
        failure: Exception = self._client.failure("not installed", f'{problem} {advice} (extra: {{"python": ...}}).')
        return failure

    def _set_environment(self) -> None:
        engine = self._job["engine"]
        os.environ.pop("DISABLE_BURLA_TELEMETRY", None)
        if not engine["telemetry"]:
            os.environ["DISABLE_BURLA_TELEMETRY"] = "True"
        if engine["url"]:
            os.environ["BURLA_CLUSTER_DASHBOARD_URL"] = engine["url"]
        if engine["token"]:
            credentials = self._client.load_file(f"{_HERE}/credentials.py")
            self._config = credentials.PrivateConfig(engine)
            os.environ["XDG_CONFIG_HOME"] = self._config.home
            os.environ.pop("BURLA_PRIVATE", None)  # with it set, Burla ignores the file
        elif engine["url"] and self._is_open(engine["url"]):
            os.environ["BURLA_PRIVATE"] = "True"  # or Burla would send a saved login of some other cluster

    def _is_open(self, url: str) -> bool:
        try:
            status, _ = self._ask("GET", f"{url}/v1/cluster/open_token", {}, 10)
        except OSError:
            return False
        return status == 200 and url.startswith("http:")

    def _take_over(self) -> None:
        import burla._remote_parallel_map as burla_map
        from burla._auth import get_auth_headers
        from burla._cluster_client import ClusterClient

        scan = burla_map.scan_environment()
        if self._job["requirements"] is not None:
            scan = dataclasses.replace(scan, requirements=self._job["requirements"])
        # Nothing in this process is local code to be shipped or complained of: the work is opaque bytes.
        scan = dataclasses.replace(scan, local_dists={}, local_top_levels=frozenset(), dist_dir_prefixes=(os.sep,))
        burla_map.scan_environment = lambda: scan
        start_job = ClusterClient.start_job

        async def start_known_job(cluster: Any, job_id: str, config: dict[str, Any]) -> Any:
            self._job_id, self._url, self._headers = job_id, cluster._url, get_auth_headers()
            self._starting = True
            try:
                response = await start_job(cluster, job_id, config)
            finally:
                self._starting = False
            self._started = True
            burla_map.send_alive_pings = self._heartbeat()
            self._client.send("started", job_id, f"{self._url}/jobs/{quote(job_id)}")
            return response

        ClusterClient.start_job = start_known_job

    # -- the call

    def _map(self) -> str | None:
        # None: done. Otherwise why the job did not start, where waiting may help.
        from burla import remote_parallel_map

        call = self._client.load_file(f"{_HERE}/call.py").make_call(self._job["work"])
        call.__name__ = self._job["name"]
        # Tuples on purpose: Burla unpacks them into the call's arguments.
        inputs = list(self._job["items"].items())
        fixed = {"generator": True, "raise_errors": False, "spinner": False, "detach": False}
        try:
            outputs = remote_parallel_map(call, inputs, **self._job["options"], **fixed)
            for number, output in enumerate(outputs, start=1):
                self._report(output)
                if number == len(inputs):  # Burla now tells the head; if that is away, not for ever
                    threading.Timer(_LAST_WORD_SECONDS, self._client.finish).start()
        except Exception as error:
            kind = self._failures.kind_of(error, self._started)
            if not self._worth_waiting(kind):
                raise self._failure(kind, error) from error
            return str(self._failures.describe(error))
        return None

    def _report(self, output: Any) -> None:
        if isinstance(output, tuple):
            index, ok, answer = output
            self._client.send("answered" if ok else "broken", index, answer)
        else:  # an exception that the call could not catch, because it never ran
            error = "".join(traceback.format_exception(output, limit=-8)).strip()
            self._client.send("broken", self._order[output.burla_input_index], error)

    # -- waiting for a place

    def _worth_waiting(self, kind: str) -> bool:
        self._patient = self._patient or kind == "busy"
        mendable = self._patient and kind in ("busy", "unreachable")
        return mendable and not self._started and time.monotonic() < self._queued_until

    def _wait_for_nodes(self, reason: str) -> None:
        # Burla itself would ask a hundred times a second; a head with many waiting clients deserves better.
        left = self._queued_until - time.monotonic()
        self._client.send("line", f"{reason} Waiting for a node, {left:.0f} s more at most.")
        until = time.monotonic() + min(left, 30)
        while time.monotonic() < until:
            time.sleep(min(1, max(0, until - time.monotonic())))
            if self._has_ready_node():
                return

    def _has_ready_node(self) -> bool:
        try:
            status, state = self._ask("GET", f"{self._url}/v1/cluster/state", self._headers, _REQUEST_SECONDS)
        except (OSError, ValueError):  # the latter where no address is known yet
            return False
        return status == 200 and bool(state["ready_nodes"])

    # -- how it ended

    def _failure(self, kind: str, error: Exception) -> Exception:
        message = self._failures.describe(error)
        about: int | str | None = None
        if kind == "lost" and self._started:
            position = self._failures.culprit(message)
            about = None if position is None else self._order[position]
            if problem := self._install_problem(str(error)):
                kind, message = "refused", problem
            else:
                message = " ".join([message, *self._errors_on_record()])
        if "LocalHeadError" in message and not os.environ.get("BURLA_CLUSTER_DASHBOARD_URL"):
            kind = "refused"  # Burla was not told of a cluster, and does not find one
        if kind == "refused":
            about = self._failures.refused_parameter(message)
        if kind == "unreachable":
            message = f"No answer from {self._url or 'the cluster'} ({type(error).__name__})."
        failure: Exception = self._client.failure(kind, message, about)
        return failure

    def _install_problem(self, message: str) -> str | None:
        for node in self._failures.stalled_nodes(message):
            log = self._get(f"/v1/management/nodes/{node}/logs?limit=5000")
            if log and (problem := self._failures.install_problem(log, self._job_id)):
                return str(problem)
        return None

    def _errors_on_record(self) -> list[str]:
        errors = self._get(f"/v1/management/jobs/{quote(self._job_id or '')}/errors")
        return list(self._failures.recorded(errors)) if errors else []

    def _get(self, path: str) -> Any:
        try:
            status, answer = self._ask("GET", f"{self._url}{path}", self._headers, _REQUEST_SECONDS)
        except OSError:
            return None
        return answer if status == 200 else None

    def _cancel(self) -> None:
        deadline = time.monotonic() + _REQUEST_SECONDS
        while time.monotonic() < deadline:
            status, _ = self._ask("POST", self._cancel_url, self._headers, _REQUEST_SECONDS)
            if status != 404 or not self._starting:
                return
            time.sleep(0.1)  # the job is about to exist

    @property
    def _cancel_url(self) -> str:
        return f"{self._url}/v1/management/jobs/{quote(self._job_id or '')}/cancel"

    def _heartbeat(self) -> Callable[[list[str], str | None], None]:
        # What Burla's heartbeat child runs. Burla's own outlives a client that is killed and keeps the cluster busy
        # for ever; and a node that had no ping yet when it is killed too never misses them. So this one looks out,
        # and then does what the client could not.
        client = os.getpid()
        cancel = urllib.request.Request(self._cancel_url, headers=self._headers, method="POST")  # noqa: S310
        config = None if self._config is None else self._config.home

        def watch() -> None:
            while os.getppid() == client:
                time.sleep(0.5)
            try:
                if config is not None:
                    shutil.rmtree(config, ignore_errors=True)
                urllib.request.urlopen(cancel, timeout=_REQUEST_SECONDS)  # noqa: S310
            finally:
                os._exit(0)

        def ping(node_hosts: list[str], cluster_ca: str | None) -> None:
            threading.Thread(target=watch, daemon=True).start()
            from burla._heartbeat import send_alive_pings

            send_alive_pings(node_hosts, cluster_ca)

        return ping
