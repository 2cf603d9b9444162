"""SQL text taken apart as PostgreSQL's lexer does, as far as strings, names, comments and brackets go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

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
    """A piece of SQL.

    :param kind: "blank" (spaces and comments), "string", "name" (quoted), "word", "number", "other" (one character),
        or "open", a quote or a comment that is never closed.
    """

    kind: str
    start: int
    end: int


def tokens(text: str, start: int = 0, *, escapes: bool = False) -> Iterator[Token]:
    """Yield the pieces of ``text`` from ``start`` on.

    :param escapes: a backslash escapes also in a plain string: ``standard_conforming_strings`` is off.
    """
    place = start
    while found := _TOKENS[escapes].match(text, place):
        kind, end = str(found.lastgroup), found.end()
        if kind == "comment":
            kind, end = _comment(text, end)
        yield Token(kind, place, end)
        place = end


def skip_blank(text: str, start: int = 0) -> int:
    """Return the place of the first character that is neither a space nor in a comment."""
    return next((token.start for token in tokens(text, start) if token.kind != "blank"), len(text))


def closing_bracket(text: str, start: int = 0, *, escapes: bool = False) -> int | None:
    """The place of the bracket that closes one opened just before ``start``; None when nothing closes it.

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
    """The kind and the end of a comment whose beginning ends at ``start``. Comments nest."""
    depth = 1
    for edge in _COMMENT.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return "blank", edge.end()
    return "open", len(text)
