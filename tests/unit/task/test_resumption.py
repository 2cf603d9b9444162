"""What to do about a try that has failed, in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from burla_provider.task.resumption import NOTHING_STORED, Resumption, advise, checkpoint_resumption


def context(max_tries: int = 1) -> Any:
    ti = SimpleNamespace(try_number=1, max_tries=max_tries)
    return {"ti": ti, "task": SimpleNamespace(retries=max_tries)}


@pytest.mark.parametrize(
    ("keeps", "missing", "total", "text"),
    [
        (True, 3, 10, "The next try processes only the 3 missing ranges: the ledger has the others."),
        (True, 10, 10, "The next try processes all 10 ranges."),
        (True, 1, 1, "The next try processes the range."),
        (True, 0, 10, "The next try processes no range again: the ledger has all of them."),
        (True, 0, 0, "The next try starts from the beginning: the ledger has the others."),
        (False, 3, 10, "The next try processes all 10 ranges again, the ledger has the others."),
    ],
)
def test_the_next_try_is_described(keeps: bool, missing: int, total: int, text: str) -> None:
    resumption = Resumption(keeps=keeps, reason="the ledger has the others")
    assert advise(context(), ValueError("no"), resumption, missing, total, "range")[0] == text


@pytest.mark.parametrize(
    ("is_continued", "text"),
    [
        (False, "The next try starts from the beginning: nothing was processed yet."),
        (True, "The next try continues where the earlier tries ended, as far as that is stored."),
    ],
)
def test_a_try_that_has_not_begun_its_job_does_not_hide_the_earlier_ones(is_continued: bool, text: str) -> None:
    assert advise(context(), ValueError("no"), NOTHING_STORED, 0, 0, "range", is_continued=is_continued) == [text]


def test_a_last_try_has_no_next_one() -> None:
    resumption = Resumption(keeps=True, reason="it is stored", clearing="Clearing starts again.")
    assert advise(context(0), ValueError("no"), resumption, 1, 2, "range") == [
        "No retry is left.",
        "Clearing starts again.",
    ]


def test_a_retry_that_must_prove_that_the_table_is_unchanged_may_not_resume() -> None:
    resumption = checkpoint_resumption(True, "auto", is_comparable=True)
    assert advise(context(), ValueError("no"), resumption, 3, 10, "range")[0] == (
        "The next try processes only the 3 missing ranges: Airflow's task state store has the others. If it cannot"
        " prove that the table is unchanged, it processes all ranges."
    )
