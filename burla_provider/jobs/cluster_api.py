"""Questions to a cluster's head, asked by the task itself: quick, and without burla."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from burla_provider.exceptions import (
    ClusterUnauthorizedError,
    ClusterUnreachableError,
    InvalidParameterError,
)
from burla_provider.jobs.client.http_json import ask
from burla_provider.jobs.job import Engine

_LOCAL_NAMES = {"localhost", "main_service", "host.docker.internal"}


def check_head(engine: Engine, timeout: float = 5.0) -> str:
    """How the cluster is, in words: "Burla 1.8.4, 1 node ready".

    :param timeout: seconds to wait for each of two answers.
    :raises InvalidParameterError: the URL cannot be that of a head.
    :raises ClusterUnreachableError: no answer, or not a head's.
    :raises ClusterUnauthorizedError: it wants other credentials.
    """
    if engine.name == "local":
        return f"The local engine: worker processes on this machine, which has {os.cpu_count()} CPUs."
    engine = with_saved_login(engine)
    if engine.url is None and engine.token:
        raise InvalidParameterError(
            "host", "is missing.", "Give the cluster's URL: cluster_dashboard_url of burla_credentials.json."
        )
    if engine.url is None:
        return "The connection has no host and nobody has logged in: Burla itself will look for a head."
    version = _get(engine, "/version", timeout, "version")["version"]
    state = _get(engine, "/v1/cluster/state", timeout, "ready_nodes", "running_count", "booting_count")
    return f"Burla {version}, {_describe_nodes(state)}"


def cancel_job(engine: Engine, job_id: str, timeout: float = 2.0) -> bool:
    """Cancel a job that an earlier task left behind.

    :returns: False when there was nothing to cancel: it had ended, or the cluster does not know it.
    :raises JobError: as ``check_head``.
    """
    answer = _ask(with_saved_login(engine), "POST", f"/v1/management/jobs/{quote(job_id)}/cancel", timeout)
    return bool(answer and answer["changed"])


def with_saved_login(engine: Engine) -> Engine:
    """The engine with what Burla itself would use where the connection is silent."""
    url = engine.url or os.environ.get("BURLA_CLUSTER_DASHBOARD_URL")
    if engine.token:
        return replace(engine, url=url)
    try:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        saved = json.loads((Path(home) / "burla" / "burla_credentials.json").read_text())
    except (OSError, ValueError):
        return replace(engine, url=url)
    return replace(
        engine,
        url=url or saved.get("cluster_dashboard_url"),
        email=saved.get("email"),
        token=saved.get("auth_token"),
    )


def _describe_nodes(state: dict[str, Any]) -> str:
    ready, busy, booting = len(state["ready_nodes"]), state["running_count"], state["booting_count"]
    nodes = f"{ready} {'node' if ready == 1 else 'nodes'} ready"
    others = [f"{count} {what}" for count, what in ((busy, "busy"), (booting, "booting")) if count]
    return ", ".join([nodes, *others])


def _get(engine: Engine, path: str, timeout: float, *wanted: str) -> dict[str, Any]:
    answer = _ask(engine, "GET", path, timeout)
    if answer is None or not answer.keys() >= set(wanted):
        raise ClusterUnreachableError(f"{engine.url} answers, but is no Burla head. Check the host of the connection.")
    return answer


def _ask(engine: Engine, method: str, path: str, timeout: float) -> dict[str, Any] | None:
    # None: there is nothing by this name.
    url = _checked_url(engine)
    headers = {"Authorization": f"Bearer {engine.token}", "X-User-Email": engine.email or ""} if engine.token else {}
    try:
        status, answer = ask(method, url + path, headers, timeout)
    except ValueError:  # its text would show the token
        raise InvalidParameterError(
            "host, login or password",
            "one of them holds a line break, or something else that no HTTP request can carry.",
            "Copy them again, without what is around them.",
        ) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ClusterUnreachableError(
            f"No answer from {url} ({reason}). Check the host of the Burla connection, and the network."
        ) from None
    if status in (401, 403) or (status == 200 and not isinstance(answer, dict)):  # a head's login page is a 200
        raise ClusterUnauthorizedError(f"{url} wants another login. Check login (e-mail) and password (token).")
    if status == 404:
        return None
    if status != 200:
        raise ClusterUnreachableError(f"{url} answered {method} {path} with HTTP {status}. See the head's own log.")
    return dict(answer)


def _checked_url(engine: Engine) -> str:
    url = (engine.url or "").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        problem = f"{parts.hostname or url!r} is not the URL of a head."
        raise InvalidParameterError("host", problem, "Write it with its scheme: https://burla.example.com.")
    if parts.username or parts.password:
        raise InvalidParameterError("host", "holds credentials.", "Put them into login (e-mail) and password (token).")
    if parts.scheme == "http" and not _is_private(parts.hostname):
        problem = f"http://{parts.hostname} would send the token unencrypted over a public network."
        raise InvalidParameterError("host", problem, "Use https://.")
    return url


def _is_private(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_private
    except ValueError:
        return hostname in _LOCAL_NAMES or hostname.startswith("node_")
