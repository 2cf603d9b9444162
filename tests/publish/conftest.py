"""The distributions to publish, and empty environments to install them in: ``make test-wheel``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.wheel)


class Environment:
    """A virtual environment without the checkout.

    :param home: directory of the environment and of its files.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = home / "env" / "bin" / "python"
        run("uv", "venv", "--quiet", "--python", sys.executable, home / "env")

    def install(self, *arguments: str | Path) -> None:
        run("uv", "pip", "install", "--quiet", "--python", self.python, *arguments)

    def run(self, *arguments: str | Path) -> str:
        """Return the output of its Python, run outside the checkout and without the variables of this environment."""
        hidden = ("AIRFLOW", "PYTHON", "VIRTUAL_ENV", "COVERAGE")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        environment["AIRFLOW_HOME"] = str(self.home / "airflow")
        return run(self.python, *arguments, cwd=self.home, env=environment)


def run(*command: str | Path, **options: object) -> str:
    """Run a command, and return its output.

    :raises AssertionError: if it fails; the message contains the output.
    """
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    result = subprocess.run(command, capture_output=True, text=True, **{"env": environment, **options})
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the sdist and the wheel that is built from it."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", directory, ROOT)
    return directory


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    [wheel] = distributions.glob("*.whl")
    return wheel


@pytest.fixture
def environment() -> Iterator[Environment]:
    """Return an empty environment."""
    # pytest's tmp_path is private to this user, but for root PostgreSQL runs as another user.
    with tempfile.TemporaryDirectory(prefix="burla test wheel ") as home:  # a home may have a space in its name
        os.chmod(home, 0o755)
        yield Environment(Path(home))
