"""The Burla cluster of `make cluster`: its login, and the addresses of this machine and of the workers."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from burla_provider.exceptions import ClusterNotFoundError

WORKER_NETWORKS = ("172.16.0.0/12", "10.213.0.0/16")
"""Networks of the workers of a cluster in containers: Docker's own, and those inside a node."""


@dataclass(frozen=True)
class Login:
    """The content of the file that ``burla login`` writes."""

    url: str
    email: str
    token: str = field(repr=False)


def find_login() -> Login:
    """Return the login of this machine's cluster.

    :raises ClusterNotFoundError: if the cluster was never started.
    """
    try:
        saved = json.loads((find_state_directory() / "config" / "burla" / "burla_credentials.json").read_text())
    except FileNotFoundError:
        raise ClusterNotFoundError(
            "There is no Burla cluster on this machine. Start one with `make cluster`."
        ) from None
    return Login(saved["cluster_dashboard_url"], saved["email"], saved["auth_token"])


def find_state_directory() -> Path:
    """Return the directory with the files of this machine's cluster. It need not exist."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("BURLA_CLUSTER_STATE") or cache / "burla-cluster")


def find_bridge() -> str:
    """Return the address of this machine that both its own processes and the workers of the cluster can reach.

    :raises ClusterNotFoundError: if the cluster's network does not exist.
    """
    network = f"burla-{os.environ.get('BURLA_CLUSTER_NAME') or 'kit'}"
    command = ["docker", "network", "inspect", network, "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise ClusterNotFoundError(
            "The Burla cluster of this machine is not running. Start it with `make cluster`."
        ) from None
    return result.stdout.strip()
