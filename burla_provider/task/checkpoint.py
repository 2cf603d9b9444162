"""Keeping the outcomes of a running job where a retry of the task finds them: in Airflow's task state store.

The store takes JSON values of up to 64 KB under a key. A job is kept as a header (what it is), its plan, and its
outcomes, each cut into chunks of text; outcomes are appended to the last chunk until it is full, so that a flush writes
one key. The header is written last and removed first: without it there is nothing to resume.
"""

from __future__ import annotations

import base64
import itertools
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from burla_provider.worker.outcome import Outcome, decode, encode

PREFIX = "burla_checkpoint"
CHUNK_TEXT = 30_000
"""A chunk whose text is longer takes no more outcomes."""
LOOK_BYTES = 8_000
"""How often a chunk's text is measured. With one largest answer on top, incompressible, a chunk is below 64 KB."""
LARGEST_ANSWER = 16_000
"""Bytes of an outcome; a larger one is not kept, its item is worked again on a retry."""
FLUSH_SECONDS = 3.0
"""With the machine of the task, at most the outcomes of so many seconds are lost."""


class StateStore(Protocol):
    """What is needed of Airflow's task state store (3.3)."""

    def get(self, key: str, default: Any = None) -> Any: ...
    def set(self, key: str, value: Any) -> None: ...
    def delete(self, key: str) -> None: ...


@dataclass(frozen=True)
class SavedJob:
    """What an earlier try left.

    :param facts: the header's own facts, JSON.
    :param plan: the bytes given to ``begin``.
    :param outcomes: those that succeeded.
    """

    facts: dict[str, Any]
    plan: bytes
    outcomes: list[Outcome]


class Checkpoint:
    """The outcomes of one job in a state store. A collector: hand it every outcome, and call ``flush`` at the end.

    :param store: Airflow's, or None where there is none (before 3.3): then nothing is kept.
    """

    def __init__(self, store: StateStore | None) -> None:
        self._store = store
        self._chunk = 0
        self._tail = _Chunk()
        self._unmeasured = 0
        self._unsaved = False
        self._unwritten: dict[int, str] = {}
        self._saved_at = time.monotonic()

    def load(self) -> SavedJob | None:
        """What an earlier try of this task left, or None. Outcomes that come now are added to it."""
        header = self._store.get(PREFIX) if self._store else None
        if not isinstance(header, dict):
            return None
        plan = _unpack("".join(self._chunks("plan")))
        chunks = list(self._chunks("outcomes"))
        self._chunk = len(chunks)
        return SavedJob(header, plan, [decode(answer) for chunk in chunks for answer in _split(_unpack(chunk))])

    def begin(self, facts: dict[str, Any], plan: bytes = b"") -> None:
        """Keep a new job, in place of whatever an earlier try left.

        :param facts: what a retry has to know to decide whether it may go on; small, JSON.
        :param plan: what a retry needs to go on.
        """
        self.clear()
        if self._store is None:
            return
        text = _pack(plan)
        for number, start in enumerate(range(0, len(text), CHUNK_TEXT)):
            self._store.set(_name("plan", number), text[start : start + CHUNK_TEXT])
        self._store.set(PREFIX, facts)

    def update(self, facts: dict[str, Any]) -> None:
        """Replace the facts, keep the rest."""
        if self._store is not None:
            self._store.set(PREFIX, facts)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome. Failed ones are not kept: a retry runs them again.

        Whatever the store raises, here or in ``flush``, nothing is lost: it is written the next time.
        """
        if self._store is None or not outcome.ok or len(answer := encode(outcome)) > LARGEST_ANSWER:
            return
        self._tail.append(answer)
        self._unsaved = True
        self._unmeasured += len(answer)
        is_due = time.monotonic() - self._saved_at >= FLUSH_SECONDS
        if is_due or self._unmeasured > LOOK_BYTES:
            self._measure(save=is_due)

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._unsaved:
            self._measure(save=True)

    def clear(self) -> None:
        """Forget the job: it succeeded, or another takes its place."""
        if self._store is None:
            return
        self._store.delete(PREFIX)
        for part in ("plan", "outcomes"):
            # The last one first: what an interrupted clear leaves is still found by counting from 0.
            for number in reversed(range(sum(1 for _ in self._chunks(part)))):
                self._store.delete(_name(part, number))
        self._chunk, self._tail, self._unsaved, self._unwritten = 0, _Chunk(), False, {}

    def _measure(self, *, save: bool) -> None:
        text = self._tail.text()
        is_full = len(text) > CHUNK_TEXT
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
            # In their order: whoever loads them counts until one is missing.
            for number in sorted(self._unwritten):
                self._store.set(_name("outcomes", number), self._unwritten[number])
                del self._unwritten[number]
            self._unsaved = False
        finally:
            self._saved_at = time.monotonic()

    def _chunks(self, part: str) -> Iterator[str]:
        if self._store is None:
            return
        for number in itertools.count():
            text = self._store.get(_name(part, number))
            if not isinstance(text, str):
                return
            yield text


class _Chunk:
    """The last chunk, compressed as it grows: looking at its text does not compress it all again."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj()
        self._compressed = b""

    def append(self, answer: bytes) -> None:
        self._compressed += self._compressor.compress(struct.pack(">I", len(answer)) + answer)

    def text(self) -> str:
        return base64.b64encode(self._compressed + self._compressor.copy().flush()).decode()


def _name(part: str, number: int) -> str:
    return f"{PREFIX}_{part}_{number:05}"


def _pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text)) if text else b""


def _split(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        (size,) = struct.unpack_from(">I", content, start)
        start += 4 + size
        yield content[start - size : start]
