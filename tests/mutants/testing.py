"""Test mutants in the copy of the checkout, and report those that survive. ``__main__.py`` starts it."""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis

from tests.mutants.covering import Coverage, is_measured, load_coverage, store_coverage
from tests.mutants.forking import Result, Session
from tests.mutants.mutations import Mutant, find_mutants
from tests.mutants.relevance import words_of
from tests.mutants.transplant import find_functions, transplant
from tests.support.postgres import running_server

CLIENT = "burla_provider/jobs/client/"
EQUIVALENT = Path("tests/mutants/equivalent.txt")
TESTS = ("tests/unit", "tests/postgres", "tests/airflow")
_KILLED = ("failed", "crashed", "timeout", "error")
_MEASURE_SECONDS = 90.0
_MAX_TIMEOUTS = 2
"""Of a test file. The others are then not measured: they will probably hang too, as Polars does in a forked process."""
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the mutants, and print the report. The status is 1 if mutants survived."""
    options = _read_options()
    # Orphans of killed tests become children of this process, which ends them.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    hypothesis.settings.register_profile(
        "mutants", deadline=None, derandomize=True, phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate)
    )
    paths = [path for name in options.files for path in _modules(Path(name))]
    # pytest captures what the tests print.
    with os.fdopen(os.dup(1), "w", buffering=1) as output, running_server() as server:
        tests = [file for name in options.tests for file in _test_files(Path(name))]
        missing = [file for file in tests if not is_measured(options.home / "coverage", file)]
        if missing:
            _measure(Session(server, missing), missing, options.home / "coverage", output)
        coverage = load_coverage(options.home / "coverage")
        campaign = Campaign(options, coverage, output)
        todo = {path: campaign.waiting(path) for path in paths}
        files = {test.file for path in paths for mutant in todo[path] for test in campaign.tests_of(mutant)}
        if files:
            campaign.run(Session(server, sorted(files)), todo)
        return campaign.report(paths)


class Campaign:
    """The mutants of some files, and what became of them so far, in ``build/mutants/results``."""

    def __init__(self, options: argparse.Namespace, coverage: Coverage, output: Any) -> None:
        self._options = options
        self._coverage = coverage
        self._output = output
        self._folder = options.home / "results"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._killers: collections.Counter[str] = collections.Counter()
        self._equivalent = set()
        if EQUIVALENT.exists():
            lines = [
                line for line in EQUIVALENT.read_text().splitlines() if line and not line.startswith(("#", "    "))
            ]
            self._equivalent = set(lines)

    def mutants(self, path: Path) -> list[Mutant]:
        """Return the mutants of the sample. A larger sample contains the smaller ones."""
        found = find_mutants(str(path), path.read_bytes())
        return [mutant for mutant in found if int(mutant.key[:8], 16) % 1000 < 10 * self._options.sample]

    def waiting(self, path: Path) -> list[Mutant]:
        """Return the mutants of the sample that were not tested yet. With ``--retry``, also those that survived."""
        stored = self.results(path)
        again = {"uncovered", *(("survived", "not applied") if self._options.retry else ())}
        done = {key for key, result in stored.items() if result[0] not in again}
        return [mutant for mutant in self.mutants(path) if mutant.key not in done and not self.is_equivalent(mutant)]

    def is_equivalent(self, mutant: Mutant) -> bool:
        """Whether ``equivalent.txt`` lists the mutant."""
        return f"{mutant.path}: {mutant.diff}" in self._equivalent

    def tests_of(self, mutant: Mutant) -> list[Any]:
        """Return the tests to run, the likeliest first."""
        lines = range(mutant.line, mutant.line + 1 + mutant.replacement.count("\n"))
        words = words_of(f"{mutant.diff} {mutant.scope} {Path(mutant.path).stem}")
        lines = range(0) if mutant.is_eager else lines
        tests = self._coverage.find_tests(mutant.path, lines, self._options.budget, words)
        return sorted(tests, key=lambda test: -self._killers[test.name] / (1 + test.seconds))

    def results(self, path: Path) -> dict[str, list[Any]]:
        """Return outcome, test, number of tests, by key."""
        file = self._file(path)
        lines = file.read_text().splitlines() if file.exists() else []
        return {line[0]: line[1:] for line in map(json.loads, lines)}

    def run(self, session: Session, todo: dict[Path, list[Mutant]]) -> None:
        """Test the mutants, and store each result."""
        functions = find_functions(Path.cwd() / "burla_provider")
        stop = time.monotonic() + 60 * self._options.minutes
        for path, mutants in todo.items():
            original = path.read_bytes()
            name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            module = importlib.import_module(name)
            for mutant in mutants:
                if time.monotonic() > stop:
                    return
                began = time.monotonic()
                tests = [test for test in self.tests_of(mutant) if test.name in session.items]
                result = Result("uncovered")
                if tests:
                    mutated = mutant.apply(original)
                    path.write_bytes(mutated)
                    try:
                        result = session.run(
                            {test.name: 15 + 6 * test.seconds for test in tests},
                            lambda: transplant(module, original, mutated, functions, mutant.is_eager),  # noqa: B023
                        )
                    finally:
                        path.write_bytes(original)
                outcome = result.outcome
                if outcome == "passed":
                    in_files = result.messages["prepared"] == [True] or mutant.path.startswith(CLIENT)
                    outcome = "survived" if in_files else "not applied"
                elif outcome == "failed":
                    self._killers[result.test] += 1
                self._store(path, [mutant.key, outcome, result.test, len(tests)])
                seconds = time.monotonic() - began
                print(
                    f"{outcome:11} {seconds:5.1f} s {mutant.path}:{mutant.line} {mutant.diff} [{result.test}]",
                    file=self._output,
                )

    def report(self, paths: list[Path]) -> int:
        """Print the counts per file and the survivors. Return 1 if there are any."""
        survivors, total = [], collections.Counter[str]()
        for path in paths:
            results, counts = self.results(path), collections.Counter[str]()
            for mutant in self.mutants(path):
                outcome = results.get(mutant.key, ["waiting"])[0]
                outcome = "equivalent" if self.is_equivalent(mutant) else outcome
                counts["killed" if outcome in ("failed", "crashed", "error") else outcome] += 1
                if outcome in ("survived", "uncovered"):
                    survivors.append(
                        f"{outcome}: {path}:{mutant.line} in {mutant.scope or 'the module'}: {mutant.diff}"
                    )
            total += counts
            if counts:
                print(f"{path}: {_describe(counts)}", file=self._output)
        print(
            "\n".join(["", *survivors, "", f"Sample: {self._options.sample} %. All: {_describe(total)}"]),
            file=self._output,
        )
        return int(bool(survivors))

    def _file(self, path: Path) -> Path:
        return self._folder / (str(path).replace("/", "-").removesuffix(".py") + ".jsonl")

    def _store(self, path: Path, line: list[Any]) -> None:
        with self._file(path).open("a") as file:
            file.write(json.dumps(line) + "\n")


def _describe(counts: collections.Counter[str]) -> str:
    killed = counts["killed"] + counts["timeout"]
    tested = killed + counts["survived"] + counts["uncovered"]
    texts = [f"{number} {name}" for name, number in sorted(counts.items())]
    return f"{tested} tested, {100 * killed / max(1, tested):.1f} % killed ({', '.join(texts)})"


def _measure(session: Session, files: list[str], folder: Path, output: Any) -> None:
    for file in files:
        began = time.monotonic()
        names = [name for name in session.items if name.startswith(f"{file}::")]
        measured, failed = {}, set()
        waiting = names
        timeouts = 0
        while waiting and timeouts < _MAX_TIMEOUTS:
            result = session.run(dict.fromkeys(waiting, _MEASURE_SECONDS), around=_measured_lines)
            measured |= dict(result.messages.get("measured", ()))
            failed |= {*result.messages.get("failed", ()), *([] if result.outcome == "passed" else [result.test])}
            timeouts += result.outcome == "timeout"
            left = [name for name in waiting if name not in measured and name not in failed]
            if left == waiting:
                raise SystemExit(f"{file} cannot be measured: {result.messages}")
            waiting = left
        store_coverage(folder, file, {name: value for name, value in measured.items() if name not in failed})
        failed |= {*waiting}
        problem = f", {len(failed)} failed or hung: {' '.join(sorted(failed))}" if failed else ""
        print(f"measured {file}: {len(names)} tests, {time.monotonic() - began:.1f} s{problem}", file=output)


@contextlib.contextmanager
def _measured_lines(_: str) -> Iterator[list[Any]]:
    import coverage

    root = f"{Path.cwd()}/"
    # ``source`` would look for files that were not imported.
    measurement = coverage.Coverage(data_file=None, config_file=False, include=[f"{root}burla_provider/*"])
    collected: list[Any] = []
    began = time.monotonic()
    measurement.start()
    try:
        yield collected
    finally:
        measurement.stop()
        data = measurement.get_data()
        lines = {file.removeprefix(root): sorted(data.lines(file) or ()) for file in data.measured_files()}
        collected += [round(time.monotonic() - began, 3), {file: found for file, found in lines.items() if found}]


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("home", type=Path)
    parser.add_argument("files", nargs="*", default=["burla_provider"], help="modules or folders")
    parser.add_argument("--sample", type=float, default=100, help="percent of the mutants")
    parser.add_argument(
        "--budget",
        type=float,
        default=30,
        help="seconds per mutant for the fastest tests, and for those that mention it",
    )
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after this time; the next run continues")
    parser.add_argument("--retry", action="store_true", help="test those that survived again")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="measure the tests of these files and folders")
    return parser.parse_args()


def _modules(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def _test_files(path: Path) -> list[str]:
    return [str(path)] if path.is_file() else sorted(str(file) for file in path.rglob("test_*.py"))


if __name__ == "__main__":
    sys.exit(main())
