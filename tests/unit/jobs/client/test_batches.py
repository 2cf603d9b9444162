"""How many items a call processes."""

import pytest

from burla_provider.jobs.client.batches import MAX_ITEMS, batch_size, make_batches


@pytest.mark.parametrize("workers", [1, 2, 8, 100])
def test_up_to_50_items_per_worker_are_processed_in_a_call_each(workers):
    assert batch_size(50 * workers - 1, workers) == 1
    assert batch_size(50 * workers, workers) == 2


@pytest.mark.parametrize(("count", "workers"), [(0, 2), (1, 2), (101, 2), (10_000, 2), (100_000, 8), (100, 1_000)])
def test_the_batches_contain_every_item_once_in_their_order(count, workers):
    batches = make_batches(range(count), workers)
    assert [index for batch in batches for index in batch] == list(range(count))
    assert all(1 <= len(batch) <= MAX_ITEMS for batch in batches)


def test_batches_become_smaller_towards_the_end():
    sizes = [len(batch) for batch in make_batches(range(100_000), 8)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == MAX_ITEMS
    assert sizes[-8 * 20 :] == [1] * 160
