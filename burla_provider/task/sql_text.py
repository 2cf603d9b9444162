"""Split SQL text into tokens, as PostgreSQL's lexer does: strings, names, words, comments and brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg

_START, _LATER = r"[A-Za-z_\u0080-\U0010ffff]", r"[A-Za-z0-9_\u0080-\U0010ffff]"
_ESCAPED, _PLAIN = r"'(?:[^'\\]|\\.|'')*'", r"'(?:[^']|'')*'"
_TOKEN = rf"""
    (?P<blank>[ \t\n\r\f\v]+ | --[^\n\r]*)
  | (?P<comment>/\*)
  | (?P<string>[eE]{_ESCAPED} | [uU]&{_PLAIN} | {{string}} | \$(?P<tag>(?:{_START}{_LATER}*)?)\$.*?\$(?P=tag)\$)
  | (?P<name>(?:[uU]&)?"(?:[^"]|"")*")
  | (?P<word>{_START}(?:{_LATER}|\$)*)
  | (?P<number>[0-9][A-Za-z0-9_.]*)
  | (?P<open>['"]|\$(?:{_START}{_LATER}*)?\$)    # a quote that is never closed
  | (?P<other>.)
"""
_TOKENS = {
    escapes: re.compile(_TOKEN.format(string=string), re.VERBOSE | re.DOTALL)
    for escapes, string in ((False, _PLAIN), (True, _ESCAPED))
}
_COMMENT = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    """A token of SQL.

    :param kind: "blank" (spaces and comments), "string", "name" (quoted), "word", "number", "other" (one character),
        or "open", a quote or a comment that is never closed.
    :param start: position of its first character.
    :param end: position after its last character.
    """

    kind: str
    start: int
    end: int


def tokens(text: str, start: int = 0, *, escapes: bool = False) -> Iterator[Token]:
    """Yield the tokens of ``text`` from ``start`` on.

    :param escapes: a backslash escapes also in a plain string: ``standard_conforming_strings`` is off.
    """
    while match := _TOKENS[escapes].match(text, start):
        kind, end = str(match.lastgroup), match.end()
        if kind == "comment":
            kind, end = _comment(text, end)
        yield Token(kind, start, end)
        start = end


def words(text: str) -> set[str]:
    """Return the keywords and unquoted names of ``text``, in lower case."""
    return {text[token.start : token.end].lower() for token in tokens(text) if token.kind == "word"}


def has_escapes(connection: psycopg.Connection[Any]) -> bool:
    """Return whether a backslash escapes also in a plain string in this session."""
    return connection.info.parameter_status("standard_conforming_strings") == "off"


def skip_blank(text: str, start: int = 0) -> int:
    """Return the position of the first character that is neither a space nor in a comment."""
    return next((token.start for token in tokens(text, start) if token.kind != "blank"), len(text))


def closing_bracket(text: str, start: int = 0, *, escapes: bool = False) -> int | None:
    """Return the position of the bracket that closes the one just before ``start``; None if it is not closed.

    Brackets in strings, quoted names and comments do not count.
    """
    depth = 1
    for token in tokens(text, start, escapes=escapes):
        if token.kind == "open":
            return None
        if token.kind == "other":
            depth += {"(": 1, ")": -1}.get(text[token.start], 0)
        if depth == 0:
            return token.start
    return None


def _comment(text: str, start: int) -> tuple[str, int]:
    """Return kind and end of the comment whose opening ends at ``start``. Comments nest."""
    depth = 1
    for edge in _COMMENT.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return "blank", edge.end()
    return "open", len(text)
