"""Call a user's function with one input, for BurlaMapOperator."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from burla_provider.exceptions import UserFunctionError
from burla_provider.worker.errors import to_failure
from burla_provider.worker.json_values import find_non_json
from burla_provider.worker.outcome import PLAIN_DATA, Failure, Outcome, encode, find_unserializable, worker_name
from burla_provider.worker.user_function import UserFunction


@dataclass(frozen=True)
class MapTask:
    """``task(index, pickled_input) -> bytes``: an encoded outcome. Never raises: an error becomes a failed outcome.

    :param function: called as ``function(input)``.
    :param collect: whether results must fit into JSON.
    """

    function: Callable[..., Any]
    collect: bool = True

    def __call__(self, index: int, pickled: bytes) -> bytes:
        """Return the outcome of input ``index``."""
        started = time.time()
        clock = time.perf_counter()
        value = failure = None
        try:
            if not (failure := self.load()):
                value = self._check(self.function(pickle.loads(pickled)))  # noqa: S301 (pickled by the task)
        except BaseException as error:  # SystemExit too: an input must not end its worker
            failure = to_failure(error, {})
        return encode(
            Outcome(
                index,
                value=value,
                started=started,
                seconds=time.perf_counter() - clock,
                worker=worker_name(),
                failure=failure,
            )
        )

    def load(self) -> Failure | None:
        """Make what the function needs once per worker process. Return the failure if that is impossible."""
        return self.function.load({}) if isinstance(self.function, UserFunction) else None

    def close(self) -> None:
        """Close what the function has loaded."""
        if isinstance(self.function, UserFunction):
            self.function.close()

    def _check(self, value: Any) -> Any:
        problem = find_unserializable(value) or (find_non_json(value, "the return value") if self.collect else None)
        if problem:
            raise UserFunctionError(f"{problem}: return {PLAIN_DATA}.")
        return value
