"""Create an environment for the client process: ``python -m burla_provider.jobs.setup_client PATH``.

Use it if burla cannot be installed next to Airflow because their requirements conflict. Set the interpreter that it
prints as ``python`` in the extra of the Burla connection.
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
    """Create a virtual environment with burla (and cloudpickle, its dependency) and this interpreter's Python version.

    :returns: the environment's interpreter.
    :raises subprocess.CalledProcessError: if pip or uv, which prints the reason, cannot install burla.
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
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m burla_provider.jobs.setup_client", description=__doc__)
    parser.add_argument("path", type=Path, help="directory of the environment; created if missing")
    path = parser.parse_args().path.absolute()
    try:
        python = make_environment(path)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:  # ValueError: the path is a file
        print(f"Could not create an environment in {path}: {error}", file=sys.stderr)
        return 1
    print(f"Created the client's interpreter {python}. Set it in the extra of the Burla connection:")
    print(json.dumps({"python": str(python)}))
    return 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
