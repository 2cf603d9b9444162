"""Run commands of Airflow's CLI in a separate process, with a real metadata database."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_commands(
    home: Path,
    dag: Path,
    commands: Sequence[Sequence[str]],
    connections: Sequence[Mapping[str, Any]],
    settings: Mapping[str, str],
) -> str:
    """Run the commands one after the other, and return what they print. A command may fail.

    :param home: an empty directory for Airflow.
    :param dag: the file of the DAG.
    :param connections: fields of Airflow's connections.
    :param settings: environment variables.
    """
    (home / "dags").mkdir()
    shutil.copy(dag, home / "dags")
    order = {"commands": list(commands), "connections": list(connections)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.airflow_commands"],
        input=json.dumps(order),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", **settings},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def main() -> None:
    """In the child: read the order from stdin, and run the commands."""
    order = json.load(sys.stdin)
    from airflow.cli.cli_parser import get_parser
    from airflow.utils.db import upgradedb

    from burla_provider.demo.airflow_session import save_connections

    upgradedb()
    save_connections(order["connections"])
    parser = get_parser()
    for command in order["commands"]:
        print(f"\n== airflow {' '.join(command)}", flush=True)
        options = parser.parse_args(command)
        try:
            options.func(options)
        except (Exception, SystemExit) as error:
            print(f"== {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
