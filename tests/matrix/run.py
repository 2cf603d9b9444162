"""Run the tests that need no cluster in several environments: ``make test-matrix``.

An environment is a file in this folder with the versions of all packages. It is installed as ``.venv-NAME`` if it does
not exist or its file has changed. ``--update`` writes the files again, with the newest versions.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ("tests/unit", "tests/airflow", "tests/postgres")
REPORTED_PACKAGES = ("apache-airflow", "apache-airflow-providers-postgres", "sqlalchemy", "psycopg", "psycopg2-binary")


@dataclass(frozen=True)
class Environment:
    """Versions that are tested together.

    :param python: version of Python.
    :param limits: constraints in addition to those of pyproject.toml.
    :param resolution: how uv chooses versions: "highest", or "lowest-direct" for the minimum versions of
        pyproject.toml.
    """

    name: str
    python: str
    limits: tuple[str, ...]
    resolution: str = "highest"

    @property
    def pins(self) -> Path:
        return Path(__file__).with_name(f"{self.name}.txt")

    @property
    def directory(self) -> Path:
        return ROOT / f".venv-{self.name}"

    @property
    def interpreter(self) -> Path:
        return self.directory / "bin" / "python"


# Airflow 3.1's constraints require SQLAlchemy 1.4, so its Postgres hook uses psycopg2. Airflow 3.1.0 cannot be imported
# with a newer structlog, and the API of 3.2 does not work with newer versions of fastapi and svcs.
ENVIRONMENTS = (
    Environment("lowest", "3.11", ("sqlalchemy<2", "structlog<25.5"), "lowest-direct"),
    Environment("airflow-3.1", "3.11", ("apache-airflow==3.1.*", "sqlalchemy<2")),
    Environment("airflow-3.2", "3.12", ("apache-airflow==3.2.*", "fastapi<0.137", "svcs<26")),
    Environment("airflow-3.3", "3.13", ("apache-airflow==3.3.*",)),
)


@dataclass(frozen=True)
class MatrixResult:
    """The results of the tests in one environment."""

    environment: Environment
    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        pins = dict(line.split("==") for line in self.environment.pins.read_text().splitlines() if "==" in line)
        versions = " | ".join(pins.get(name, "-") for name in REPORTED_PACKAGES)
        counts = f"{self.passed} | {self.failed} | {self.skipped}"
        return f"| {self.environment.name} | {self.environment.python} | {versions} | {counts} |"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [environment.name for environment in ENVIRONMENTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(names)}; default: all")
    parser.add_argument("--update", action="store_true", help="write the files of versions again, without tests")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"unknown environment: {', '.join(sorted(unknown))}")
    chosen = [environment for environment in ENVIRONMENTS if environment.name in (options.names or names)]
    if options.update:
        for environment in chosen:
            update(environment)
        return 0
    results = [run_tests(environment) for environment in chosen]
    heads = ["environment", "Python", *REPORTED_PACKAGES, "passed", "failed", "skipped"]
    print(f"\n| {' | '.join(heads)} |", "|---" * len(heads) + "|", *results, sep="\n")
    return 0 if all(result.passed and not result.failed for result in results) else 1


def update(environment: Environment) -> None:
    """Write the versions that uv chooses now within the environment's limits."""
    run(
        *("uv", "pip", "compile", "--quiet", "--upgrade", "--no-annotate", "--no-header", "--extra", "dev"),
        *("--python-version", environment.python, "--resolution", environment.resolution),
        *("--constraint", "-", "--output-file", environment.pins, "pyproject.toml"),
        stdin="\n".join(environment.limits),
    )


def run_tests(environment: Environment) -> MatrixResult:
    """Install the environment and run the tests."""
    print(f"\n{environment.name}, Python {environment.python}", flush=True)
    install(environment)
    report = environment.directory / "tests.xml"
    report.unlink(missing_ok=True)
    # The benchmarks are not part of the product and run in one environment only.
    chosen = ("-m", "not cluster and not ui", "--ignore", "tests/unit/benchmarks")
    options = (*chosen, "-q", "-p", "no:cacheprovider", f"--junit-xml={report}")
    subprocess.run([environment.interpreter, "-m", "pytest", *options, *TESTS], cwd=ROOT, check=False)
    if not report.exists():
        return MatrixResult(environment, 0, 1, 0)
    [suite] = ElementTree.parse(report).getroot()
    tests, *others = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    return MatrixResult(environment, tests - sum(others), others[0] + others[1], others[2])


def install(environment: Environment) -> None:
    """Install the versions of the environment's file, unless they are installed."""
    installed = environment.directory / "installed.txt"
    required = environment.pins.read_text() + (ROOT / "pyproject.toml").read_text()
    if installed.exists() and installed.read_text() == required:
        return
    run("uv", "venv", "--quiet", "--clear", "--python", environment.python, environment.directory)
    target = ("--python", environment.interpreter, "--constraint", environment.pins)
    run("uv", "pip", "install", "--quiet", *target, "--editable", ".[dev]")
    installed.write_text(required)


def run(*command: str | Path, stdin: str | None = None) -> None:
    """Run a command from the root of the checkout. Programs of this interpreter's environment come first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **all_pythons(), "PATH": path}
    subprocess.run(command, cwd=ROOT, check=True, text=True, input=stdin, env=environment)


def all_pythons() -> dict[str, str]:
    """Return the variable that makes pyenv show all its Pythons to uv."""
    if shutil.which("pyenv") is None:
        return {}
    versions = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=True
    ).stdout.split()
    return {"PYENV_VERSION": ":".join(reversed(versions))}


if __name__ == "__main__":
    sys.exit(main())
