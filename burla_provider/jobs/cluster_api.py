"""Call a cluster's API from the task, without burla."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import time
from dataclasses import dataclass, replace
from typing import Any

import platformdirs

from burla_provider.exceptions import ClusterUnauthorizedError, ClusterUnreachableError, InvalidParameterError
from burla_provider.jobs.client.http_json import request_json
from burla_provider.jobs.job import Engine, split_url

_CHECKS, _CHECK_SECONDS, _CHECK_INTERVAL = 3, 2.0, 1.0
_LOCAL_NAMES = {"localhost", "main_service", "host.docker.internal"}


@dataclass(frozen=True)
class Nodes:
    """Numbers of nodes, by their state."""

    ready: int
    busy: int
    booting: int

    def __str__(self) -> str:
        others = [f"{count} {state}" for count, state in ((self.busy, "busy"), (self.booting, "booting")) if count]
        return ", ".join([f"{self.ready} {'node' if self.ready == 1 else 'nodes'} ready", *others])


def check_cluster(engine: Engine, timeout: float = 5.0) -> str:
    """Return the state of the cluster as a text, such as "Burla 1.8.4, 1 node ready".

    :param timeout: seconds to wait for each of two responses.
    :raises InvalidParameterError: if there is no URL, or it cannot be the URL of a cluster.
    :raises ClusterUnreachableError: if no cluster responds.
    :raises ClusterUnauthorizedError: if the cluster refuses the credentials.
    """
    if engine.is_local:
        # Airflow's Test button asks on the machine of the API server.
        return f"The local engine runs worker processes on the machine of the task. This one has {os.cpu_count()} CPUs."
    engine = with_saved_login(engine)
    if engine.url is None and engine.token:
        raise InvalidParameterError(
            "host", "is missing.", "Set it to the cluster's URL: cluster_dashboard_url in burla_credentials.json."
        )
    if engine.url is None:
        raise InvalidParameterError(
            "host",
            "is missing, and no Burla login is saved on this machine.",
            "Set it to the cluster's URL, login to the e-mail and password to the auth token. They are in"
            ' burla_credentials.json, which "burla login" writes. Without a cluster, choose the engine "local".',
        )
    return f"Burla {read_version(engine, timeout)}, {read_nodes(engine, timeout)}"


def check_login(engine: Engine) -> Nodes | None:
    """Check that the cluster responds, and accepts the login. Return its nodes within 8 seconds.

    Nothing is checked on the local engine, or if the connection has no host or no login: Burla finds them itself.

    :returns: None if nothing was checked.
    :raises InvalidParameterError: as ``check_cluster``.
    :raises JobError: as ``check_cluster``.
    """
    if engine.is_local or engine.url is None or engine.token is None:
        return None
    for _ in range(1, _CHECKS):
        with contextlib.suppress(ClusterUnreachableError):
            return read_nodes(engine, _CHECK_SECONDS)
        time.sleep(_CHECK_INTERVAL)
    return read_nodes(engine, _CHECK_SECONDS)


def read_version(engine: Engine, timeout: float = 5.0) -> str:
    """Return the version of Burla on the cluster, which needs no login.

    :raises JobError: as ``check_cluster``.
    """
    return str(_get(engine, "/version", timeout, "version")["version"])


def read_nodes(engine: Engine, timeout: float = 5.0) -> Nodes:
    """Return the numbers of nodes, which needs a login.

    :raises JobError: as ``check_cluster``.
    """
    state = _get(engine, "/v1/cluster/state", timeout, "ready_nodes", "running_count", "booting_count")
    return Nodes(len(state["ready_nodes"]), state["running_count"], state["booting_count"])


def with_saved_login(engine: Engine) -> Engine:
    """Return the engine with the URL and login that Burla would use where the connection has none."""
    url = engine.url or os.environ.get("BURLA_CLUSTER_DASHBOARD_URL")
    if engine.token:
        return replace(engine, url=url)
    directory = platformdirs.user_config_path("burla", "burla")  # as Burla does
    try:
        saved = json.loads((directory / "burla_credentials.json").read_text())
    except (OSError, ValueError):
        return replace(engine, url=url)
    return replace(
        engine,
        url=url or saved.get("cluster_dashboard_url"),
        email=saved.get("email"),
        token=saved.get("auth_token"),
    )


def _get(engine: Engine, path: str, timeout: float, *fields: str) -> dict[str, Any]:
    url = _checked_url(engine)
    headers = {"Authorization": f"Bearer {engine.token}", "X-User-Email": engine.email or ""} if engine.token else {}
    try:
        status, body = request_json("GET", url + path, headers, timeout)
    except ValueError:  # its text would show the token
        raise InvalidParameterError(
            "host, login or password",
            "one of them contains a line break or another character that an HTTP request cannot contain.",
            "Copy them again, without surrounding text.",
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ClusterUnreachableError(
            f"No response from {url} ({reason}). Check the host of the Burla connection and the network."
        ) from None
    if status in (401, 403) or (status == 200 and not isinstance(body, dict)):  # the login page has status 200
        raise ClusterUnauthorizedError(
            f"{url} refused the login. Check login (e-mail) and password (token) of the Burla connection."
        )
    if status not in (200, 404):
        raise ClusterUnreachableError(f"{url} returned HTTP {status} for {path}. See the cluster's log.")
    if status == 404 or not body.keys() >= set(fields):
        raise ClusterUnreachableError(
            f"{url} responds, but is not a Burla cluster. Check the host of the Burla connection."
        )
    return dict(body)


def _checked_url(engine: Engine) -> str:
    url = (engine.url or "").rstrip("/")
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        problem = f"{parts.hostname or url!r} is not an http:// or https:// URL."
        raise InvalidParameterError("host", problem, "Use a URL such as https://burla.example.com.")
    if parts.scheme == "http" and not _is_private(parts.hostname):
        problem = f"http://{parts.hostname} would send the token unencrypted over a public network."
        raise InvalidParameterError("host", problem, "Use https://.")
    return url


def _is_private(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_private
    except ValueError:
        return hostname in _LOCAL_NAMES or hostname.startswith("node_")
