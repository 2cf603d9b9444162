"""Texts of limited length for the report, whose size as JSON is limited."""

from __future__ import annotations

import json
from bisect import bisect_right
from itertools import accumulate


def cut(text: str, limit: int) -> str:
    """Return the text, or its beginning and "...", with at most ``limit`` characters as JSON.

    :param limit: characters between the quotes. JSON writes a character that is not ASCII as 6 or 12 characters.
    """
    if len(text) <= limit and _size(text) <= limit:
        return text
    sizes = list(accumulate(_size(character) for character in text[:limit]))
    return f"{text[: bisect_right(sizes, limit - 3)]}..."


def _size(text: str) -> int:
    return len(json.dumps(text)) - 2
