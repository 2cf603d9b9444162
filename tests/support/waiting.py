"""Wait for a condition that has no event."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LIMITS = (1.0, 8.0, 64.0)
"""Time limits in seconds for what takes milliseconds. A test whose limit passed too early, because the machine stalled,
tries the next one."""


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Until ``condition()`` is true; an AssertionError when it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
