"""Store the outcomes of a running job in Airflow's task state store, for a retry of the task.

The store takes JSON values of up to 64 KB. A job is stored as a header that identifies it, its plan, and its outcomes,
the latter two as compressed text in chunks. Outcomes are appended to the last chunk until it is full, so that a flush
writes one key. The header is written last and removed first: without it there is nothing to resume.

Each job has a random id, which begins its chunks: an earlier try that is still alive may write chunks of its own job
after a retry has begun another one.
"""

from __future__ import annotations

import base64
import itertools
import logging
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from burla_provider.worker.outcome import Outcome, decode, encode

_log = logging.getLogger(__name__)

_PREFIX = "burla_checkpoint"
_JOB_ID = "job_id"
"""Key of the header."""
CHUNK_CHARS = 30_000
"""A chunk with a longer text is full."""
MEASURE_BYTES = 8_000
"""The chunk's text is measured each time this number of bytes was added. Even with another incompressible outcome of
``_MAX_OUTCOME_BYTES``, a chunk is below 64 KB."""
_MAX_OUTCOME_BYTES = 16_000
"""A larger outcome is not stored: a retry processes its item again."""
FLUSH_SECONDS = 3.0
"""If the task's machine fails, the outcomes of at most this number of seconds are lost."""


class StateStore(Protocol):
    """The part of Airflow's task state store (3.3) that a checkpoint uses."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key."""

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value."""

    def delete(self, key: str) -> None:
        """Remove a key."""


@dataclass(frozen=True)
class SavedJob:
    """The job of an earlier try.

    :param header: given to ``begin``, or to ``update``.
    :param plan: given to ``begin``.
    :param outcomes: those that succeeded.
    """

    header: dict[str, Any]
    plan: bytes
    outcomes: list[Outcome]


class Checkpoint:
    """Stores the outcomes of one job. An outcome listener; call ``flush`` at the end.

    :param store: Airflow's task state store; None, before Airflow 3.3: nothing is stored.
    """

    def __init__(self, store: StateStore | None) -> None:
        self._store = store
        self._job_id = ""
        self._chunk = 0
        self._tail = _Chunk()
        self._unmeasured = 0
        self._unsaved = False
        self._unwritten: dict[int, str] = {}
        self._saved_at = time.monotonic()

    @property
    def is_stored(self) -> bool:
        """Whether a retry can find the job."""
        return self._store is not None

    def load(self) -> SavedJob | None:
        """Return the job of an earlier try of this task, or None. Further outcomes are added to it.

        A part of it may be missing: each key of the store expires on its own, and a store may have limits of its own.
        """
        header = self._store.get(_PREFIX) if self._store else None
        if not isinstance(header, dict):
            return None
        self._job_id = header.get(_JOB_ID, "")  # a job of version 0.1.0 has none
        header = {name: value for name, value in header.items() if name != _JOB_ID}
        self._chunk = sum(1 for _ in self._chunks("outcomes"))
        chunks = self._own_chunks("outcomes")
        try:
            plan = _unpack("".join(self._own_chunks("plan")))
            outcomes = [decode(encoded) for chunk in chunks for encoded in _split(_unpack(chunk))]
        except (ValueError, zlib.error) as error:
            _log.warning(
                "The job that an earlier try has stored in Airflow's task state store is not complete (%s): this try"
                " starts from the beginning.",
                error,
            )
            return None
        # An earlier try that is still alive may have stored an outcome that a retry has stored too.
        return SavedJob(header, plan, list({outcome.index: outcome for outcome in outcomes}.values()))

    def begin(self, header: dict[str, Any], plan: bytes = b"") -> None:
        """Store a new job in place of an earlier one.

        :param header: small JSON, from which a retry decides whether it can resume the job.
        :param plan: what a retry needs to resume the job.
        """
        self.clear()
        if self._store is None:
            return
        self._job_id = secrets.token_hex(8)
        text = _pack(plan)
        for number, start in enumerate(range(0, len(text), CHUNK_CHARS)):
            self._store.set(_name("plan", number), self._job_id + text[start : start + CHUNK_CHARS])
        self._store.set(_PREFIX, header | {_JOB_ID: self._job_id})

    def update(self, header: dict[str, Any]) -> None:
        """Replace the header, and keep the plan and the outcomes. Do nothing if another try has begun another job."""
        if self._store is None:
            return
        stored = self._store.get(_PREFIX)
        if isinstance(stored, dict) and stored.get(_JOB_ID, "") == self._job_id:
            self._store.set(_PREFIX, header | {_JOB_ID: self._job_id})

    def add(self, outcome: Outcome) -> None:
        """Store an outcome. A failed outcome is not stored: a retry runs its item again.

        An error of the store, here or in ``flush``, loses nothing: the next call writes the outcomes again.
        """
        if self._store is None or not outcome.ok or len(encoded := encode(outcome)) > _MAX_OUTCOME_BYTES:
            return
        self._tail.append(encoded)
        self._unsaved = True
        self._unmeasured += len(encoded)
        is_due = time.monotonic() - self._saved_at >= FLUSH_SECONDS
        if is_due or self._unmeasured > MEASURE_BYTES:
            self._measure(save=is_due)

    def flush(self) -> None:
        """Write the outcomes that are not written yet."""
        if self._unsaved:
            self._measure(save=True)

    def clear(self) -> None:
        """Remove the job, which has succeeded or is replaced."""
        if self._store is None:
            return
        self._store.delete(_PREFIX)
        for part in ("plan", "outcomes"):
            # From the last one to the first, so that the rest of an interrupted clear is found by counting from 0.
            for number in reversed(range(sum(1 for _ in self._chunks(part)))):
                self._store.delete(_name(part, number))
        self._chunk, self._tail, self._unsaved, self._unwritten = 0, _Chunk(), False, {}

    def _measure(self, *, save: bool) -> None:
        text = self._tail.text()
        is_full = len(text) > CHUNK_CHARS
        self._unmeasured = 0
        if not save and not is_full:
            return
        self._unwritten[self._chunk] = text
        if is_full:
            self._chunk += 1
            self._tail = _Chunk()
        self._write()

    def _write(self) -> None:
        if self._store is None:
            return
        try:
            # In ascending order, because ``load`` counts until one is missing.
            for number in sorted(self._unwritten):
                self._store.set(_name("outcomes", number), self._job_id + self._unwritten[number])
                del self._unwritten[number]
            self._unsaved = False
        finally:
            self._saved_at = time.monotonic()

    def _own_chunks(self, part: str) -> Iterator[str]:
        """Yield the text of the chunks of this job."""
        for text in self._chunks(part):
            if text.startswith(self._job_id):
                yield text.removeprefix(self._job_id)

    def _chunks(self, part: str) -> Iterator[str]:
        if self._store is None:
            return
        for number in itertools.count():
            text = self._store.get(_name(part, number))
            if not isinstance(text, str):
                return
            yield text


class _Chunk:
    """The last chunk. It is compressed while it grows, so that measuring it does not compress everything again."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj()
        self._compressed = b""

    def append(self, encoded: bytes) -> None:
        self._compressed += self._compressor.compress(struct.pack(">I", len(encoded)) + encoded)

    def text(self) -> str:
        return base64.b64encode(self._compressed + self._compressor.copy().flush()).decode()


def _name(part: str, number: int) -> str:
    return f"{_PREFIX}_{part}_{number:05}"


def _pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def _split(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        (size,) = struct.unpack_from(">I", content, start)
        start += 4 + size
        yield content[start - size : start]
