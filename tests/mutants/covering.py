"""Which tests run which lines: measured once per test file, in ``build/mutants/coverage``."""

from __future__ import annotations

import collections
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.mutants.relevance import Relevance

_CLIENT = "burla_provider/jobs/client_process.py"


@dataclass
class Test:
    """A test that passed without a mutant.

    :ivar seconds: its duration, with its fixtures.
    :ivar lines: the lines that it runs in pytest's own process, by file.
    """

    name: str
    seconds: float
    lines: dict[str, frozenset[int]]

    @property
    def file(self) -> str:
        """The test file."""
        return self.name.partition("::")[0]

    @property
    def has_client(self) -> bool:
        """Whether it starts client processes, where lines are not measured."""
        return _CLIENT in self.lines and len(self.lines[_CLIENT]) > 40


@dataclass
class Coverage:
    """The tests that were measured, and the digests of the files when they were."""

    tests: list[Test] = field(default_factory=list)
    digests: dict[str, dict[str, str]] = field(default_factory=dict)

    @cached_property
    def _relevance(self) -> Relevance:
        return Relevance(test.name for test in self.tests)

    def find_tests(self, path: str, lines: range, budget: float, words: frozenset[str]) -> list[Test]:
        """Return the tests for a mutant of these lines.

        These are those of the mirrored file, then those that mention the words, and the fastest of each function.

        :param budget: seconds for the tests that mention the words, and for the others. Those of the mirrored file
            always run.
        :param words: those of the changed lines.
        """
        covering = [test for test in self.tests if self._covers(test, path, lines)]
        if not covering or path.startswith("burla_provider/jobs/client/"):
            folder = "tests/unit/jobs/" if path.startswith("burla_provider/jobs/") else "tests/airflow/"
            covering += [test for test in self.tests if test.has_client and test.name.startswith(folder)]
        covering = sorted({test.name: test for test in covering}.values(), key=lambda test: test.seconds)
        seen: collections.Counter[str] = collections.Counter()
        ranks = {}
        for test in covering:  # a test with many parameters must not displace the others
            function = test.name.partition("[")[0]
            ranks[test.name] = seen[function]
            seen[function] += 1
        covering.sort(key=lambda test: (not is_mirrored(test.file, path), ranks[test.name], test.seconds))
        chosen = {}
        by_score = sorted(covering, key=lambda test: -self._relevance.score(test.name, words))
        for candidates in (covering, by_score):
            total = 0.0
            for test in candidates:
                total += test.seconds
                if total <= budget or not chosen or (is_mirrored(test.file, path) and total <= 4 * budget):
                    chosen[test.name] = test
        return list(chosen.values())

    def _covers(self, test: Test, path: str, lines: range) -> bool:
        covered = test.lines.get(path)
        if not covered:
            return False
        is_same = self.digests[test.file].get(path) == digest(Path(path))
        return not covered.isdisjoint(lines) if is_same and lines else True


def is_mirrored(test_file: str, path: str) -> bool:
    """Whether the test file has the place and name of the module. ``tests/airflow`` has no folders."""
    module = Path(path).relative_to("burla_provider")
    folder, name = Path(*Path(test_file).parts[2:-1]), Path(test_file).name.removeprefix("test_")
    return name == module.name and (folder == module.parent or test_file.startswith("tests/airflow/"))


def digest(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def load_coverage(folder: Path) -> Coverage:
    """Return what was measured so far."""
    coverage = Coverage()
    for file in sorted(folder.glob("*.json")):
        stored = json.loads(file.read_text())
        if not Path(stored["file"]).exists():
            continue
        coverage.digests[stored["file"]] = stored["digests"]
        for name, (seconds, lines) in stored["tests"].items():
            covered = {path: frozenset(numbers) for path, numbers in lines.items()}
            coverage.tests.append(Test(name, seconds, covered))
    return coverage


def store_coverage(folder: Path, file: str, tests: dict[str, Any]) -> None:
    """Store what the tests of a file cover.

    :param tests: seconds and lines by test, ``{name: (seconds, {path: [line]})}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = sorted({path for _, lines in tests.values() for path in lines})
    digests = {path: digest(Path(path)) for path in [file, *paths]}
    _stored_file(folder, file).write_text(json.dumps({"file": file, "digests": digests, "tests": tests}))


def is_measured(folder: Path, file: str) -> bool:
    """Whether the test file was measured since it was changed."""
    stored = _stored_file(folder, file)
    return stored.exists() and json.loads(stored.read_text())["digests"][file] == digest(Path(file))


def _stored_file(folder: Path, file: str) -> Path:
    return folder / (file.replace("/", "-").removesuffix(".py") + ".json")
