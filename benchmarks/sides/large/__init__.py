"""The sides of ``benchmarks/large.py``: the provider, with the largest jobs that it is made for."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.sides import Side

LARGE = {
    "ours_local": Side("local engine", "provider", "", ()),
    "ours_burla": Side("Burla", "provider", "", (), cluster=True),
}


class Job(NamedTuple):
    """A large job.

    :param title: what it does.
    :param count: number of inputs or ranges; None: the provider decides.
    :param is_large: whether it reads the largest table.
    """

    title: str
    count: int | None = None
    is_large: bool = False


JOBS = {
    "inputs": Job("a map of inputs, results of one character", 1_000_000),
    "totals": Job("SQL totals of ranges of 10 rows", 100_000),
    "results": Job("a map, results of 1 MB", 200),
    "refused": Job("the same, default `max_result_bytes`", 200),
    "range_results": Job("`process_rows`, results of 100 kB for `combine`", 2_000),
    "rows": Job("`process_rows` of 1,000,000 orders"),
    "pages": Job("SQL totals of the largest table, by pages", is_large=True),
    "keyed": Job("SQL totals of the largest table, by key", is_large=True),
    "part": Job("`process_rows` on a part of the largest table, by key", is_large=True),
}
