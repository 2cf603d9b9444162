"""From what processes print to lines that are fit for a task's log."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Iterator

_BURST = 500
_LINES_PER_SECOND = 20.0
_LONGEST = 2_000
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")


class LineReader:
    """Cuts bytes into lines, tidies them and stems floods: 500 lines at once, 20 a second in the long run."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._allowance = float(_BURST)
        self._refilled = time.monotonic()
        self._left_out = 0

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that are complete with ``data``."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        if len(self._rest) > _LONGEST:
            lines.append(self._rest)
            self._rest = ""
        for line in map(_tidy, lines):
            if line and self._may_pass():
                yield line

    def tick(self) -> Iterator[str]:
        """How many lines were left out since the last time."""
        if self._left_out:
            yield f"... {self._left_out:,} more lines were printed, too many to show."
            self._left_out = 0

    def end(self) -> Iterator[str]:
        """What is left."""
        yield from self.feed(b"\n")
        yield from self.tick()

    def _may_pass(self) -> bool:
        now = time.monotonic()
        self._allowance = min(_BURST, self._allowance + (now - self._refilled) * _LINES_PER_SECOND)
        self._refilled = now
        if self._allowance < 1:
            self._left_out += 1
            return False
        self._allowance -= 1
        return True


def _tidy(line: str) -> str:
    # A carriage return starts a line anew: what a terminal would show is what came last.
    shown = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROL.sub("", shown).rstrip()[:_LONGEST]
