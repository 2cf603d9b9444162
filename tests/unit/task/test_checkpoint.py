"""The checkpoint, over a store that does what Airflow's does with values: JSON, and nothing above 64 KB."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from decimal import Decimal
from typing import Any

import pytest

from burla_provider.task import checkpoint
from burla_provider.task.checkpoint import Checkpoint, SavedJob
from burla_provider.worker.outcome import Failure, Outcome


class Store(dict[str, Any]):
    """In memory, because Airflow's own needs a running task; tests/airflow has the real one."""

    sets = 0

    def set(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        assert len(text) < 64_000, f"{key} takes {len(text)} bytes"
        self[key] = json.loads(text)
        self.sets += 1

    def delete(self, key: str) -> None:
        self.pop(key, None)


@pytest.fixture
def store() -> Store:
    return Store()


def outcome(index: int, **value: Any) -> Outcome:
    return Outcome(index, value=value, row_count=index, worker="host:1", started=1.0 + index)


def test_a_try_loads_what_the_try_before_has_stored(store: Store) -> None:
    first = Checkpoint(store)
    first.begin({"fingerprint": "x"}, plan=b"the plan")
    kept = [outcome(index, total=Decimal(index) / 100) for index in range(10)]
    for item in kept:
        first.add(item)
    first.flush()
    saved = Checkpoint(store).load()
    assert saved is not None
    assert saved.header == {"fingerprint": "x"}
    assert saved.plan == b"the plan"
    assert saved.outcomes == kept


@pytest.mark.parametrize("part", ["plan", "outcomes"])
@pytest.mark.parametrize("chars", [None, 16, 20, 40])
def test_a_job_of_which_a_part_was_lost_is_not_continued(
    store: Store, caplog: pytest.LogCaptureFixture, part: str, chars: int | None
) -> None:
    first = Checkpoint(store)
    first.begin({"fingerprint": "x"}, plan=b"the plan" * 20)
    first.add(outcome(1))
    first.flush()
    key = f"burla_checkpoint_{part}_00000"
    store[key] = store[key][:chars] if chars else None
    second = Checkpoint(store)
    if part == "outcomes" and chars is None:  # nothing says that it was there
        assert second.load() == SavedJob({"fingerprint": "x"}, b"the plan" * 20, [])
        return
    assert second.load() is None
    assert "is not complete (" in caplog.text
    second.begin({"fingerprint": "y"}, plan=b"another plan")
    second.add(outcome(2))
    second.flush()
    assert Checkpoint(store).load() == SavedJob({"fingerprint": "y"}, b"another plan", [outcome(2)])


def test_an_item_that_two_tries_have_stored_has_one_outcome(store: Store) -> None:
    first = Checkpoint(store)
    first.begin({})
    first.add(outcome(1))
    first.flush()
    second = Checkpoint(store)
    second.load()
    for checkpoint_of_try in (second, first):  # the first one is still alive
        checkpoint_of_try.add(outcome(2))
        checkpoint_of_try.flush()
    saved = Checkpoint(store).load()
    assert saved is not None
    assert saved.outcomes == [outcome(1), outcome(2)]


def test_a_third_try_finds_the_outcomes_of_both_before(store: Store) -> None:
    first = Checkpoint(store)
    first.begin({})
    first.add(outcome(1))
    first.flush()
    second = Checkpoint(store)
    second.load()
    second.add(outcome(2))
    second.flush()
    saved = Checkpoint(store).load()
    assert saved is not None
    assert [item.index for item in saved.outcomes] == [1, 2]


def test_an_earlier_try_that_is_still_alive_adds_nothing_to_a_new_job(store: Store) -> None:
    first, second = Checkpoint(store), Checkpoint(store)
    first.begin({"which": "first"}, plan=b"first")
    first.add(outcome(0))
    first.flush()
    second.begin({"which": "second"}, plan=b"second")
    first.add(outcome(1))
    first.flush()
    first.update({"which": "first again"})
    assert Checkpoint(store).load() == SavedJob({"which": "second"}, b"second", [])
    for number in (2, 3):
        second.add(outcome(number))
    second.flush()
    assert Checkpoint(store).load() == SavedJob({"which": "second"}, b"second", [outcome(2), outcome(3)])
    Checkpoint(store).clear()
    assert store == {}


def test_a_failed_item_is_not_kept_so_that_a_retry_runs_it(store: Store) -> None:
    first = Checkpoint(store)
    first.begin({})
    first.add(Outcome(3, failure=Failure("ValueError", "bad row")))
    first.flush()
    saved = Checkpoint(store).load()
    assert saved is not None
    assert saved.outcomes == []


def test_clear_leaves_no_key_behind(store: Store) -> None:
    first = Checkpoint(store)
    first.begin({}, plan=b"p" * 10)
    first.add(outcome(1))
    first.flush()
    first.clear()
    first.flush()
    assert store == {}
    assert Checkpoint(store).load() is None


def test_a_new_job_replaces_the_old_one(store: Store) -> None:
    first = Checkpoint(store)
    first.begin({"fingerprint": "old"}, plan=b"old")
    first.add(outcome(1))
    first.flush()
    second = Checkpoint(store)
    second.begin({"fingerprint": "new"})
    saved = Checkpoint(store).load()
    assert saved is not None
    assert (saved.header, saved.plan, saved.outcomes) == ({"fingerprint": "new"}, b"", [])


class Interrupted(BaseException):
    """The task dies."""


class DyingStore(Store):
    """Its user dies with one of the calls, before or after it took effect."""

    def __init__(self, calls: int, *, after: bool) -> None:
        self.calls_left = calls
        self.after = after

    def set(self, key: str, value: Any) -> None:
        self._call(super().set, key, value)

    def delete(self, key: str) -> None:
        self._call(super().delete, key)

    def _call(self, call: Any, *arguments: Any) -> None:
        self.calls_left -= 1
        if self.calls_left or self.after:
            call(*arguments)
        if not self.calls_left:
            raise Interrupted


def keep(kept: Checkpoint, which: str, chunks: int) -> None:
    kept.begin({"which": which}, plan=random.Random(which).randbytes(300 * chunks))
    for index in range(chunks):
        kept.add(outcome(index, which=which, noise=random.Random(index).randbytes(300)))
    kept.flush()


@pytest.mark.parametrize("after", [False, True])
def test_interrupted_tries_never_mix_the_outcomes_of_two_jobs(after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK_CHARS", 300)
    monkeypatch.setattr(checkpoint, "MEASURE_BYTES", 100)
    keep(Checkpoint(full := Store()), "old", 5)
    for clearing, keeping in itertools.product(range(1, len(full) + 2), range(1, len(full) + 10)):
        store = DyingStore(clearing, after=after)
        store.update(full)
        with contextlib.suppress(Interrupted):
            Checkpoint(store).clear()
        store.calls_left = keeping
        with contextlib.suppress(Interrupted):
            keep(Checkpoint(store), "newer", 3)
        store.calls_left = 0
        if saved := Checkpoint(store).load():
            assert {item.value["which"] for item in saved.outcomes} <= {saved.header["which"]}
        keep(Checkpoint(store), "newest", 1)
        saved = Checkpoint(store).load()
        assert saved is not None
        assert [item.value["which"] for item in saved.outcomes] == ["newest"]
        Checkpoint(store).clear()
        assert store == {}


class AwayStore(Store):
    """Refuses every call while it is away."""

    away = False

    def set(self, key: str, value: Any) -> None:
        if self.away:
            raise ConnectionError
        super().set(key, value)


def test_outcomes_that_the_store_refused_are_written_later() -> None:
    store = AwayStore()
    random_source = random.Random(7)
    kept = Checkpoint(store)
    kept.begin({})
    for index in range(300):
        store.away = 50 <= index < 250
        with contextlib.suppress(ConnectionError):
            kept.add(outcome(index, noise=random_source.randbytes(2_000)))
        if index % 20 == 0:
            with contextlib.suppress(ConnectionError):
                kept.flush()
    kept.flush()
    saved = Checkpoint(store).load()
    assert saved is not None
    assert [item.index for item in saved.outcomes] == list(range(300))


def test_outcomes_are_written_by_time_and_not_one_by_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    kept = Checkpoint(store)
    kept.begin({})
    before = store.sets
    for index in range(20):
        kept.add(outcome(index))
    assert store.sets == before
    now += checkpoint.FLUSH_SECONDS
    kept.add(outcome(20))
    assert store.sets == before + 1
    for _ in range(2):  # nothing is new
        kept.flush()
    assert store.sets == before + 1


def test_each_chunk_is_written_once_while_no_time_passes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: 100.0)
    random_source = random.Random(7)
    kept = Checkpoint(store)
    kept.begin({})
    for index in range(300):
        kept.add(outcome(index, noise=random_source.randbytes(1_000)))
    kept.flush()
    assert len(store) > 10
    assert store.sets == len(store)


def test_values_stay_below_the_stores_limit_whatever_the_outcomes_hold(store: Store) -> None:
    # The store above fails on a value that is too large.
    random_source = random.Random(7)
    kept = Checkpoint(store)
    kept.begin({}, plan=random_source.randbytes(300_000))
    sizes = [random_source.choice([10, 500, 7_900, 15_000]) for _ in range(300)]
    for index, size in enumerate(sizes):
        kept.add(outcome(index, noise=random_source.randbytes(size)))
    kept.flush()
    saved = Checkpoint(store).load()
    assert saved is not None
    assert [item.index for item in saved.outcomes] == list(range(300))


def test_a_hundred_thousand_ranges_take_few_keys(store: Store) -> None:
    kept = Checkpoint(store)
    kept.begin({})
    for index in range(100_000):
        kept.add(outcome(index, total_amount=Decimal(index * 7919) / 100))
    kept.flush()
    assert len(store) < 300
    saved = Checkpoint(store).load()
    assert saved is not None
    assert len(saved.outcomes) == 100_000


def test_an_outcome_too_large_for_the_store_is_left_for_the_retry(store: Store) -> None:
    kept = Checkpoint(store)
    kept.begin({})
    kept.add(outcome(1, text="x" * 20_000))
    kept.add(outcome(2))
    kept.flush()
    saved = Checkpoint(store).load()
    assert saved is not None
    assert [item.index for item in saved.outcomes] == [2]


def test_without_a_store_nothing_is_stored_and_nothing_fails() -> None:
    kept = Checkpoint(None)
    assert kept.load() is None
    kept.begin({"fingerprint": "x"}, plan=b"p")
    kept.add(outcome(1))
    kept.flush()
    kept.clear()
