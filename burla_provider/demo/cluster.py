"""The Burla cluster of `make cluster`: how to log in, and where its workers find this machine."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from burla_provider.exceptions import ClusterNotFoundError

WORKER_NETWORKS = ("172.16.0.0/12", "10.213.0.0/16")
"""Where the workers of a cluster in containers come from: Docker's own networks, and those inside a node."""


@dataclass(frozen=True)
class Login:
    """What the file that ``burla login`` writes holds."""

    url: str
    email: str
    token: str


def find_login() -> Login:
    """The login of this machine's cluster.

    :raises ClusterNotFoundError: it was never started.
    """
    try:
        saved = json.loads((find_state() / "config" / "burla" / "burla_credentials.json").read_text())
    except FileNotFoundError:
        raise ClusterNotFoundError(
            "There is no Burla cluster on this machine yet: start one with `make cluster`."
        ) from None
    return Login(saved["cluster_dashboard_url"], saved["email"], saved["auth_token"])


def find_state() -> Path:
    """The directory that holds what this machine's cluster keeps, if there is one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("BURLA_CLUSTER_STATE") or cache / "burla-cluster")


def find_bridge() -> str:
    """The address of this machine on the cluster's network: its own processes and the workers both reach it.

    :raises ClusterNotFoundError: there is no such network, so there is no such cluster either.
    """
    network = f"burla-{os.environ.get('BURLA_CLUSTER_NAME') or 'kit'}"
    command = ["docker", "network", "inspect", network, "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise ClusterNotFoundError(
            "The Burla cluster of this machine is not up: start it with `make cluster`."
        ) from None
    return found.stdout.strip()
