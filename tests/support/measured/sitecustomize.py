"""Measure the coverage of the client process. ``make coverage`` puts this file on PYTHONPATH, which a client inherits.

The client ends its process group with SIGKILL, so coverage must be saved before.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def measure() -> None:
    import coverage

    collector = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"), data_file=str(ROOT / ".coverage"))
    collector.start()
    kill, leave = os.killpg, os._exit

    def save() -> None:
        collector.stop()
        collector.save()

    def killpg(group: int, number: int) -> None:
        if number and group in (0, os.getpid()):
            save()
        kill(group, number)

    def _exit(status: int) -> None:
        save()
        leave(status)

    os.killpg, os._exit = killpg, _exit  # type: ignore[assignment]


if any(argument.endswith("/jobs/client/client.py") for argument in sys.orig_argv[1:2]):
    measure()
