"""Which tests mention what a mutant changes."""

from __future__ import annotations

import ast
import collections
import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path


class Relevance:
    """The words of test functions. Rare words count more.

    :param tests: ids of tests, as pytest prints them.
    """

    def __init__(self, tests: Iterable[str]) -> None:
        self._words = {name: _words_of_test(*name.split("::")[:2]) for name in map(_function, tests)}
        self._counts = collections.Counter(word for words in self._words.values() for word in words)

    def score(self, test: str, words: frozenset[str]) -> float:
        """Return how much the words say about a test; 0: it has none of them."""
        shared = words & self._words[_function(test)]
        return sum(math.log(len(self._words) / self._counts[word]) for word in shared)


def words_of(text: str) -> frozenset[str]:
    """Return the identifiers of a text in lower case, and their parts: ``{"row_count", "row", "count"}``."""
    names = re.findall("[a-z][a-z_]+", text.lower())
    return frozenset(names) | {part for name in names for part in name.split("_") if len(part) > 2}


def _function(test: str) -> str:
    return test.partition("[")[0]


def _words_of_test(file: str, function: str) -> frozenset[str]:
    return _functions(file).get(function, frozenset())


@cache
def _functions(file: str) -> dict[str, frozenset[str]]:
    source = Path(file).read_text()
    tree = ast.parse(source)
    stem = words_of(Path(file).stem)
    return {
        node.name: stem | words_of(ast.get_source_segment(source, node) or "")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
