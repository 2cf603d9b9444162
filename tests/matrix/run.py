"""Runs the tests that need no cluster in one environment after another: ``make test-matrix``.

An environment is a file beside this one, with the versions of everything in it; it is installed as ``.venv-NAME`` when
it is not there or its file has changed. ``--update`` makes the files anew, with the newest versions of today.
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
SHOWN = ("apache-airflow", "apache-airflow-providers-postgres", "sqlalchemy", "psycopg", "psycopg2-binary")


@dataclass(frozen=True)
class Environment:
    """What is tested together.

    :param python: its version.
    :param limits: constraints beside those of pyproject.toml.
    :param resolution: uv's way to choose versions: "highest", or "lowest-direct" for the least that pyproject.toml
        allows.
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


# Airflow 3.1 runs on SQLAlchemy 1.4 by its own constraints, with psycopg2 below the Postgres hook; 3.1.0 cannot be
# imported with a structlog that is newer than itself, and 3.2's API does not work with such a fastapi and svcs.
ENVIRONMENTS = (
    Environment("lowest", "3.11", ("sqlalchemy<2", "structlog<25.5"), "lowest-direct"),
    Environment("airflow-3.1", "3.11", ("apache-airflow==3.1.*", "sqlalchemy<2")),
    Environment("airflow-3.2", "3.12", ("apache-airflow==3.2.*", "fastapi<0.137", "svcs<26")),
    Environment("airflow-3.3", "3.13", ("apache-airflow==3.3.*",)),
)


@dataclass(frozen=True)
class Verdict:
    """How an environment's tests ended."""

    environment: Environment
    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        pins = dict(line.split("==") for line in self.environment.pins.read_text().splitlines() if "==" in line)
        versions = " | ".join(pins.get(name, "-") for name in SHOWN)
        counts = f"{self.passed} | {self.failed} | {self.skipped}"
        return f"| {self.environment.name} | {self.environment.python} | {versions} | {counts} |"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [environment.name for environment in ENVIRONMENTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all of them unless given")
    parser.add_argument("--update", action="store_true", help="make the files of versions anew, and test nothing")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    chosen = [one for one in ENVIRONMENTS if one.name in (options.names or names)]
    if options.update:
        for environment in chosen:
            update(environment)
        return 0
    verdicts = [verdict_of(environment) for environment in chosen]
    heads = ["environment", "Python", *SHOWN, "passed", "failed", "skipped"]
    print(f"\n| {' | '.join(heads)} |", "|---" * len(heads) + "|", *verdicts, sep="\n")
    return 0 if all(verdict.passed and not verdict.failed for verdict in verdicts) else 1


def update(environment: Environment) -> None:
    """Write down the versions that pip would choose today within the environment's limits."""
    run(
        *("uv", "pip", "compile", "--quiet", "--upgrade", "--no-annotate", "--no-header", "--extra", "dev"),
        *("--python-version", environment.python, "--resolution", environment.resolution),
        *("--constraint", "-", "--output-file", environment.pins, "pyproject.toml"),
        given="\n".join(environment.limits),
    )


def verdict_of(environment: Environment) -> Verdict:
    """Install what is missing, and run the tests."""
    print(f"\n{environment.name}, Python {environment.python}", flush=True)
    install(environment)
    report = environment.directory / "tests.xml"
    report.unlink(missing_ok=True)
    # The benchmarks are not part of the product, and run in one environment only.
    chosen = ("-m", "not cluster and not ui", "--ignore", "tests/unit/benchmarks")
    options = (*chosen, "-q", "-p", "no:cacheprovider", f"--junit-xml={report}")
    subprocess.run([environment.interpreter, "-m", "pytest", *options, *TESTS], cwd=ROOT, check=False)
    if not report.exists():
        return Verdict(environment, 0, 1, 0)
    [suite] = ElementTree.parse(report).getroot()
    tests, *others = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    return Verdict(environment, tests - sum(others), others[0] + others[1], others[2])


def install(environment: Environment) -> None:
    """Make the environment what its file says, unless it is."""
    installed = environment.directory / "installed.txt"
    wanted = environment.pins.read_text() + (ROOT / "pyproject.toml").read_text()
    if installed.exists() and installed.read_text() == wanted:
        return
    run("uv", "venv", "--quiet", "--clear", "--python", environment.python, environment.directory)
    target = ("--python", environment.interpreter, "--constraint", environment.pins)
    run("uv", "pip", "install", "--quiet", *target, "--editable", ".[dev]")
    installed.write_text(wanted)


def run(*command: str | Path, given: str | None = None) -> None:
    """Run a command, of this interpreter's environment where it has it, from the root of the checkout."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **every_python(), "PATH": path}
    subprocess.run(command, cwd=ROOT, check=True, text=True, input=given, env=environment)


def every_python() -> dict[str, str]:
    """What makes pyenv, where it is, show all of its Pythons to uv and not only the chosen one."""
    if shutil.which("pyenv") is None:
        return {}
    found = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=True).stdout.split()
    return {"PYENV_VERSION": ":".join(reversed(found))}


if __name__ == "__main__":
    sys.exit(main())
