"""Where a bracket in SQL closes."""

from __future__ import annotations

import re

_SKIPPED = re.compile(
    r"""  [eE]'(?:[^'\\]|\\.|'')*'                          # a string with escapes
      |   '(?:[^']|'')*'                                    # a string
      |   "(?:[^"]|"")*"                                    # an identifier
      |   \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$    # a dollar-quoted string
      |   --[^\n]*                                          # a comment
      |   /\*.*?\*/                                         # a comment
    """,
    re.VERBOSE | re.DOTALL,
)


def closing_bracket(text: str, start: int = 0) -> int | None:
    """The place of the bracket that closes one opened just before ``start``; None when nothing closes it.

    Brackets in strings, quoted names and comments do not count.
    """
    depth, place = 1, start
    while place < len(text):
        skipped = _SKIPPED.match(text, place)
        if skipped:
            place = skipped.end()
            continue
        if text[place] in "'\"":  # opened and never closed
            return None
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
        place += 1
    return None
