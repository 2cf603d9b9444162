"""Run the tests that need no cluster with several versions of everything: ``make test-matrix``.

A lane is an environment, a PostgreSQL server and the tests to run. An environment is a file in this folder with the
versions of all packages. It is installed as ``.venv-NAME`` if it does not exist or its file has changed. The results
are in ``build/matrix``: a lane that passed on this commit is not run again. ``--update`` writes the files of versions
again, with the newest versions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.matrix.servers import install_server

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "matrix"
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


@dataclass(frozen=True)
class Lane:
    """Tests that run in one environment on one PostgreSQL server.

    :param postgres: major version of PostgreSQL.
    :param tests: folders of tests.
    """

    name: str
    environment: Environment
    postgres: int
    tests: tuple[str, ...] = TESTS

    @property
    def stored_result(self) -> Path:
        return RESULTS / f"{self.name}.json"


# Airflow 3.1's constraints require SQLAlchemy 1.4, so its Postgres hook uses psycopg2. Airflow 3.1.0 cannot be imported
# with a newer structlog, and the API of 3.2 does not work with newer versions of fastapi and svcs.
LOWEST = Environment("lowest", "3.11", ("sqlalchemy<2", "structlog<25.5"), "lowest-direct")
AIRFLOW_3_1 = Environment("airflow-3.1", "3.11", ("apache-airflow==3.1.*", "sqlalchemy<2"))
AIRFLOW_3_2 = Environment("airflow-3.2", "3.12", ("apache-airflow==3.2.*", "fastapi<0.137", "svcs<26"))
AIRFLOW_3_3 = Environment("airflow-3.3", "3.13", ("apache-airflow==3.3.*",))

# Each PostgreSQL is tested with the lowest and the newest psycopg.
LANES = (
    Lane("lowest", LOWEST, 14),
    Lane("airflow-3.1", AIRFLOW_3_1, 15),
    Lane("airflow-3.2", AIRFLOW_3_2, 17),
    Lane("airflow-3.3", AIRFLOW_3_3, 18),
    Lane("postgres-14", AIRFLOW_3_3, 14, ("tests/postgres",)),
    Lane("postgres-15", LOWEST, 15, ("tests/postgres",)),
    Lane("postgres-16", LOWEST, 16, ("tests/postgres",)),
    Lane("postgres-17", LOWEST, 17, ("tests/postgres",)),
    Lane("postgres-18", LOWEST, 18, ("tests/postgres",)),
)


@dataclass(frozen=True)
class Result:
    """The results of a lane.

    :param commit: the commit that was tested; None if files were not committed.
    :param repeated: tests that failed beside others and passed alone. ``passed`` includes them.
    """

    commit: str | None
    passed: int
    failed: int
    skipped: int
    repeated: int = 0

    @property
    def is_success(self) -> bool:
        return self.passed > 0 and self.failed == 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [lane.name for lane in LANES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(names)}; default: all")
    parser.add_argument("--update", action="store_true", help="write the files of versions again, without tests")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"unknown lane: {', '.join(sorted(unknown))}")
    chosen = [lane for lane in LANES if lane.name in (options.names or names)]
    if options.update:
        for environment in dict.fromkeys(lane.environment for lane in chosen):
            update(environment)
        return 0
    results = [(lane, find_result(lane) or run_lane(lane)) for lane in chosen]
    print("", *table(results), sep="\n")
    return 0 if all(result.is_success for _, result in results) else 1


def table(results: list[tuple[Lane, Result]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    heads = ["lane", "Python", "PostgreSQL", *REPORTED_PACKAGES, "passed", "failed", "skipped", "passed alone"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for lane, result in results:
        pins = dict(line.split("==") for line in lane.environment.pins.read_text().splitlines() if "==" in line)
        versions = (lane.environment.python, lane.postgres, *(pins.get(name, "-") for name in REPORTED_PACKAGES))
        counts = (result.passed, result.failed, result.skipped, result.repeated)
        yield f"| {' | '.join(map(str, (lane.name, *versions, *counts)))} |"


def update(environment: Environment) -> None:
    """Write the versions that uv chooses now within the environment's limits."""
    run(
        *("uv", "pip", "compile", "--quiet", "--upgrade", "--no-annotate", "--no-header", "--extra", "dev"),
        *("--python-version", environment.python, "--resolution", environment.resolution),
        *("--constraint", "-", "--output-file", environment.pins, "pyproject.toml"),
        stdin="\n".join(environment.limits),
    )


def find_result(lane: Lane) -> Result | None:
    """Return the stored result if the lane passed on this commit and no file has changed since."""
    if not lane.stored_result.exists():
        return None
    result = Result(**json.loads(lane.stored_result.read_text()))
    return result if result.is_success and result.commit and result.commit == read_commit() else None


def run_lane(lane: Lane) -> Result:
    """Install what the lane needs, run its tests, and store the result."""
    print(f"\n{lane.name}: Python {lane.environment.python}, PostgreSQL {lane.postgres}", flush=True)
    install(lane.environment)
    install_server(lane.postgres)
    commit = read_commit()
    passed, failed, skipped = run_tests(lane, "--numprocesses", "2", "--dist", "worksteal")
    repeated = 0
    if failed:
        # A busy machine makes some tests fail, so the failures count only if they are repeated alone.
        repeated, *_ = run_tests(lane, "--last-failed", "--last-failed-no-failures", "none")
    result = Result(commit, passed + repeated, failed - repeated, skipped, repeated)
    lane.stored_result.write_text(json.dumps(asdict(result)))
    return result


def run_tests(lane: Lane, *options: str) -> tuple[int, int, int]:
    """Run the lane's tests.

    :returns: how many passed, failed and were skipped.
    """
    report = RESULTS / f"{lane.name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    # The benchmarks are not part of the product and run in one environment only.
    chosen = ("-m", "not cluster and not ui", "--ignore", "tests/unit/benchmarks")
    stored = ("-o", f"cache_dir={RESULTS / lane.name}", f"--junit-xml={report}")
    done = subprocess.run(
        [lane.environment.interpreter, "-m", "pytest", "-q", *chosen, *stored, *options, *lane.tests],
        cwd=ROOT,
        check=False,
        env={**os.environ, "BURLA_TEST_POSTGRES": str(lane.postgres)},
    )
    if done.returncode not in (0, 1):  # not all tests ran
        return 0, 1, 0
    [suite] = ElementTree.parse(report).getroot()
    tests, *others = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    return tests - sum(others), others[0] + others[1], others[2]


def read_commit() -> str | None:
    """Return the commit of the checkout; None if files differ from it, or this is not a checkout of git."""
    status, commit = (
        subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
        for command in (("status", "--porcelain"), ("rev-parse", "--short", "HEAD"))
    )
    return None if status.returncode or status.stdout else commit.stdout.strip()


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
