"""A user's function called on one input: the work of BurlaMapOperator."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from burla_provider.exceptions import UserFunctionError
from burla_provider.worker.errors import describe
from burla_provider.worker.json_values import find_non_json
from burla_provider.worker.outcome import PLAIN_DATA, Outcome, encode, find_unserializable


@dataclass(frozen=True)
class MapTask:
    """``function(input, **arguments)``, its result as an encoded outcome. Never raises: a failure is an outcome too.

    :param collect: results become JSON.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    collect: bool = True

    def __call__(self, index: int, packed: bytes) -> bytes:
        started = time.time()
        clock = time.perf_counter()
        value = failure = None
        try:
            argument = pickle.loads(packed)  # noqa: S301 (the task packed it)
            value = self._checked(self.function(argument, **self.arguments))
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

    def _checked(self, value: Any) -> Any:
        problem = find_unserializable(value) or (find_non_json(value, "the return value") if self.collect else None)
        if problem:
            raise UserFunctionError(f"{problem}: return {PLAIN_DATA}.")
        return value
