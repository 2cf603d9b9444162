"""Talking to the head of a cluster: JSON over HTTP with the standard library alone.

Imported by the task and loaded by ``burla_engine.py`` by its path.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any


def ask(method: str, url: str, headers: Mapping[str, str], timeout: float) -> tuple[int, Any]:
    """One request.

    :param timeout: seconds that each wait for the network may take.
    :returns: the HTTP status and the decoded body; None for a body that is not JSON (a head shows a login page so).
    :raises OSError: no answer.
    """
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310 - checked by the caller
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return response.status, _decode(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _decode(error.read())


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
