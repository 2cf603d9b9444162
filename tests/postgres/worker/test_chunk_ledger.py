"""The ledger of a range that is written in chunks says how far the range is."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burla_provider.exceptions import UserFunctionError
from burla_provider.task.ledger_table import prepare_ledger, read_outcomes
from burla_provider.worker.chunk_ledger import (
    Progress,
    claim_chunk,
    read_counts,
    read_progress,
    store_progress,
)
from burla_provider.worker.ledger import Ledger
from tests.postgres.worker.conftest import ranges

LEDGER = Ledger("public", "ledger", "dag/task/run-1")
FIRST, SECOND, _ = ranges(3)

bounds = st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers(0, 9).map(str))
counts = st.dictionaries(st.sampled_from(["rows_inserted", "rows_rejected"]), st.integers(0, 5))
chunks = st.tuples(st.none() | bounds, st.integers(0, 9), counts, st.lists(bounds, max_size=2).map(tuple))


@pytest.fixture
def ledger(connection):
    prepare_ledger(connection, LEDGER)
    return connection


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(written=st.lists(chunks, min_size=1, max_size=5), ends=st.booleans())
def test_each_try_finds_the_sum_of_the_chunks_before(ledger, written, ends):
    ledger.execute("DELETE FROM ledger")
    progress, total, last = Progress(), Counter(), len(written)
    for number, (position, row_count, counted, pending) in enumerate(written, 1):
        assert claim_chunk(ledger, LEDGER, FIRST, progress, "a:1") == progress
        # Another worker, which has read nothing yet, sees the same.
        assert claim_chunk(ledger, LEDGER, FIRST, Progress(), "b:2") == progress
        is_last = ends and number == last
        progress = progress.plus(position, row_count, counted, pending, is_last=is_last)
        total.update(counted)
        store_progress(ledger, LEDGER, FIRST, progress, "a:1")
        positions = [one[0] for one in written[:number] if one[0]]
        assert progress.chunks == number
        assert progress.position == (positions[-1] if positions else None)
        assert progress.row_count == sum(one[1] for one in written[:number])
        assert Counter(progress.counts) == total
        assert progress.pending == pending
        assert progress.is_finished == (is_last and not pending)
        assert list(read_counts(ledger, LEDGER)) == [(0, progress.row_count, progress.counts)]
        found = read_progress(ledger, LEDGER, FIRST)
        if progress.is_finished:  # nothing is left to continue
            assert (found.row_count, found.counts, found.is_finished) == (progress.row_count, progress.counts, True)
            [outcome] = read_outcomes(ledger, LEDGER)
            assert (outcome.index, outcome.value, outcome.row_count) == (0, progress.counts, progress.row_count)
        else:
            assert found == progress
            assert list(read_outcomes(ledger, LEDGER)) == []
    assert read_progress(ledger, LEDGER, SECOND) == Progress()


def test_a_claimed_range_without_a_chunk_has_no_progress(ledger):
    assert claim_chunk(ledger, LEDGER, FIRST, Progress(), "a:1") == Progress()
    assert read_progress(ledger, LEDGER, FIRST) == Progress()
    assert list(read_counts(ledger, LEDGER)) == []


def test_ranges_and_runs_have_progress_of_their_own(ledger):
    other = Ledger("public", "ledger", "dag/task/run-2")
    for number, (one, key_range) in enumerate([(LEDGER, FIRST), (LEDGER, SECOND), (other, FIRST)], 1):
        claim_chunk(ledger, one, key_range, Progress(), "a:1")
        store_progress(ledger, one, key_range, Progress(number, ("7",), 10 * number), "a:1")
    assert [read_progress(ledger, LEDGER, one).chunks for one in (FIRST, SECOND)] == [1, 2]
    assert read_progress(ledger, other, FIRST).chunks == 3
    assert sorted(read_counts(ledger, LEDGER)) == [(0, 10, {}), (1, 20, {})]


def test_progress_of_other_bounds_is_refused(ledger):
    claim_chunk(ledger, LEDGER, FIRST, Progress(), "a:1")
    changed = ranges(2)[0]
    for look in (
        lambda: read_progress(ledger, LEDGER, changed),
        lambda: claim_chunk(ledger, LEDGER, changed, Progress(), "a:1"),
    ):
        with pytest.raises(UserFunctionError, match="other bounds for range 0"):
            look()


def test_a_retry_after_an_upgrade_continues_what_an_earlier_version_stored(ledger):
    claim_chunk(ledger, LEDGER, FIRST, Progress(), "a:1")
    stored = """{"rows_inserted": 7, "chunks": 2, "position": ["7"], "pending": [["3"], ["5"]]}"""
    ledger.execute("UPDATE ledger SET row_count = 9, result = %s", [stored])
    expected = Progress(2, ("7",), 9, {"rows_inserted": 7}, (("3",), ("5",)))
    assert read_progress(ledger, LEDGER, FIRST) == expected
