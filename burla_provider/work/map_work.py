"""A user's function called on one input: the work of BurlaMapOperator."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from burla_provider.work.failure import WorkError, describe
from burla_provider.work.outcome import PLAIN_DATA, Outcome, encode, find_unplain


@dataclass(frozen=True)
class MapWork:
    """``function(input, **arguments)``, its result as an encoded outcome. Never raises: a failure is an outcome too."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, index: int, packed: bytes) -> bytes:
        started = time.time()
        clock = time.perf_counter()
        value = failure = None
        try:
            value = _checked(self.function(pickle.loads(packed), **self.arguments))  # noqa: S301 (the task packed it)
        except BaseException as error:  # SystemExit too: one input must not end its worker
            failure = describe(error, {})
        return encode(
            Outcome(
                index,
                value=value,
                started=started,
                seconds=time.perf_counter() - clock,
                worker=f"{socket.gethostname()}:{os.getpid()}",
                failure=failure,
            )
        )


def _checked(value: Any) -> Any:
    problem = find_unplain(value)
    if problem:
        raise WorkError(f"{problem}: return {PLAIN_DATA}.")
    return value
