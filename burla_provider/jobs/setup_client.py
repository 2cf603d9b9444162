"""Makes an environment for the client process: ``python -m burla_provider.jobs.setup_client PATH``.

For an Airflow that cannot have burla itself, because burla pins packages that Airflow's constraints pin otherwise.
Name the interpreter that it prints as ``python`` in the extra of the Burla connection.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENT = "burla>=1.8.4,<1.9"


def make_environment(path: Path) -> Path:
    """A virtual environment with burla (cloudpickle comes with it), of this interpreter's Python version.

    :returns: its interpreter.
    :raises subprocess.CalledProcessError: burla could not be installed; pip or uv has said why.
    """
    python = path / "bin" / "python"
    uv = shutil.which("uv")
    if uv:
        _run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(path))
        _run(uv, "pip", "install", "--quiet", "--python", str(python), REQUIREMENT)
    else:
        venv.create(path, with_pip=True)
        _run(str(python), "-m", "pip", "install", "--quiet", REQUIREMENT)
    return python


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m burla_provider.jobs.setup_client", description=__doc__)
    parser.add_argument("path", type=Path, help="directory of the environment, made if need be")
    path = parser.parse_args().path.absolute()
    try:
        python = make_environment(path)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:  # ValueError: venv, of a file in its place
        print(f"No environment was made in {path}: {error}", file=sys.stderr)
        return 1
    print(f"The client's interpreter is {python}. Put it into the extra of the Burla connection:")
    print(json.dumps({"python": str(python)}))
    return 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
