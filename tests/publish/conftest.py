"""What would be published, and bare environments to try it in: ``make test-wheel``."""

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
    """A virtual environment that has nothing of the checkout.

    :param home: of the environment, and of files for its use.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = home / "env" / "bin" / "python"
        run("uv", "venv", "--quiet", "--python", sys.executable, home / "env")

    def install(self, *arguments: str | Path) -> None:
        run("uv", "pip", "install", "--quiet", "--python", self.python, *arguments)

    def run(self, *arguments: str | Path) -> str:
        """What its Python prints, outside the checkout and with nothing of this environment."""
        hidden = ("AIRFLOW", "PYTHON", "VIRTUAL_ENV", "COVERAGE")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        environment["AIRFLOW_HOME"] = str(self.home / "airflow")
        return run(self.python, *arguments, cwd=self.home, env=environment)


def run(*command: str | Path, **options: object) -> str:
    """Run a command, and answer with its output.

    :raises AssertionError: it failed; with all that it said.
    """
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(command, capture_output=True, text=True, **{"env": environment, **options})
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", directory, ROOT)
    return directory


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    [wheel] = distributions.glob("*.whl")
    return wheel


@pytest.fixture
def environment() -> Iterator[Environment]:
    """An empty one."""
    # Not pytest's tmp_path, which is private to this user: as root, PostgreSQL runs as somebody else.
    with tempfile.TemporaryDirectory(prefix="burla-test-wheel-") as home:
        os.chmod(home, 0o755)
        yield Environment(Path(home))
