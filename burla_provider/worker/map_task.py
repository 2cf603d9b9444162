"""Call a user's function with one input, for BurlaMapOperator."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from burla_provider.exceptions import UserFunctionError
from burla_provider.worker.errors import to_failure
from burla_provider.worker.json_values import find_non_json
from burla_provider.worker.outcome import PLAIN_DATA, Outcome, encode, find_unserializable


@dataclass(frozen=True)
class MapTask:
    """``task(index, pickled_input) -> bytes``: an encoded outcome. Never raises: an error becomes a failed outcome.

    :param function: called as ``function(input, **arguments)``.
    :param arguments: keyword arguments of the function.
    :param collect: whether results must fit into JSON.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    collect: bool = True

    def __call__(self, index: int, pickled: bytes) -> bytes:
        """Return the outcome of input ``index``."""
        started = time.time()
        clock = time.perf_counter()
        value = failure = None
        try:
            argument = pickle.loads(pickled)  # noqa: S301 (pickled by the task)
            value = self._check(self.function(argument, **self.arguments))
        except BaseException as error:  # SystemExit too: an input must not end its worker
            failure = to_failure(error, {})
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

    def _check(self, value: Any) -> Any:
        problem = find_unserializable(value) or (find_non_json(value, "the return value") if self.collect else None)
        if problem:
            raise UserFunctionError(f"{problem}: return {PLAIN_DATA}.")
        return value
