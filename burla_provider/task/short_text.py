"""Names and values of limited length. Errors are cut by ``worker/errors.py``, which says how much is missing."""

from __future__ import annotations

import json
from bisect import bisect_right
from itertools import accumulate

SEE_LOG = ", see the log"
"""Added to the end of an error that is cut, if the log has all of it."""


def shorten(text: str, limit: int) -> str:
    """Return the text, or its beginning and "...", with at most ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shorten_json(text: str, limit: int) -> str:
    """Return the text, or its beginning and "...", with at most ``limit`` characters as JSON.

    The size of a report as JSON is limited.

    :param limit: characters between the quotes. JSON writes a character that is not ASCII as 6 or 12 characters.
    """
    if len(text) <= limit and _size(text) <= limit:
        return text
    sizes = list(accumulate(_size(character) for character in text[:limit]))
    return f"{text[: bisect_right(sizes, limit - 3)]}..."


def _size(text: str) -> int:
    return len(json.dumps(text)) - 2
