"""The mutation tests change what they say, in a module that is already imported."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.mutants.mutations import find_mutants
from tests.mutants.relevance import Relevance, words_of
from tests.mutants.transplant import find_functions, transplant

ROOT = Path(__file__).parents[2]

SOURCE = '''
"""A module. 1 == 1 and 2."""
from dataclasses import dataclass

LIMIT = 3

@dataclass
class Item:
    size: int = 5

def add(a: int, b: int = 7) -> int:
    """Return a + b."""
    if a > LIMIT and b:
        raise ValueError(f"a: {a + 1}")
    return sum(
        [a, b]
    )

def make():
    def inner(a):
        return a - 1
    return inner
'''


def test_messages_docstrings_and_annotations_are_left_alone():
    mutants = find_mutants("module.py", SOURCE.encode())
    assert {mutant.diff for mutant in mutants} == {
        "LIMIT = 3  =>  LIMIT = 4",
        "size: int = 5  =>  size: int = 6",
        "def add(a: int, b: int = 7) -> int:  =>  def add(a: int, b: int = 8) -> int:",
        "if a > LIMIT and b:  =>  if a >= LIMIT and b:",
        "if a > LIMIT and b:  =>  if a > LIMIT or b:",
        'raise ValueError(f"a: {a + 1}")  =>  pass',
        "return sum( [a, b] )  =>  return (None )",
        "return a - 1  =>  return a + 1",
        "return a - 1  =>  return a - 2",
        "return a - 1  =>  return a - 0",
        "return a - 1  =>  return None",
        "return inner  =>  return None",
    }
    assert len({mutant.key for mutant in mutants}) == len(mutants)


@pytest.mark.parametrize("path", ["worker/stream.py", "jobs/client/call.py", "database/settings.py"])
def test_every_mutant_is_a_program_with_the_same_number_of_lines(path):
    file = ROOT / "burla_provider" / path
    source = file.read_bytes()
    for mutant in find_mutants(path, source):
        mutated = mutant.apply(source)
        compile(mutated, path, "exec")
        assert mutated.count(b"\n") == source.count(b"\n")
        assert mutated != source


@pytest.mark.parametrize(
    ("before", "after", "result"),
    [
        ("LIMIT = 3", "LIMIT = 0", "ValueError"),
        ("size: int = 5", "size: int = 6", (8, 6, 1)),
        ("b: int = 7", "b: int = 8", (9, 5, 1)),
        ("[a, b]", "[a, a]", (2, 5, 1)),
        ("a - 1", "a - 2", (8, 5, 0)),
    ],
)
def test_a_change_reaches_objects_that_others_hold(tmp_path, before, after, result):
    file = tmp_path / "changed.py"
    file.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("changed", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["changed"] = module
    try:
        spec.loader.exec_module(module)
        add, item, inner = module.add, module.Item, module.make()
        mutated = SOURCE.replace(before, after)
        is_eager = "=" in before
        assert transplant(module, SOURCE.encode(), mutated.encode(), find_functions(tmp_path), is_eager)
        try:
            assert (add(1), item().size, inner(2)) == result
        except ValueError:
            assert result == "ValueError"
    finally:
        del sys.modules["changed"]


def test_tests_that_mention_rare_words_of_a_line_come_first(monkeypatch):
    monkeypatch.chdir(ROOT)
    file = "tests/unit/test_mutants.py"
    names = [f"{file}::{name}[1]" for name in globals() if name.startswith("test_")]
    relevance = Relevance(names)
    words = words_of('if mutant.diff == "size: int = 6":')
    assert words >= {"size", "int", "mutant", "diff"}
    best = max(names, key=lambda name: relevance.score(name, words))
    assert best == f"{file}::test_messages_docstrings_and_annotations_are_left_alone[1]"
    assert relevance.score(names[0], frozenset({"q" * 9})) == 0
    assert words_of("self.row_count += Outcome.ok") == {"self", "row_count", "row", "count", "outcome", "ok"}
