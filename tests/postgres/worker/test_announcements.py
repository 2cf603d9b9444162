"""The message that the failing rows of a range are searched for."""

from __future__ import annotations

import pickle

from burla_provider.jobs.client.call import Call
from burla_provider.jobs.client_process import LineReader
from burla_provider.jobs.job import ItemBegan, OutputLine
from burla_provider.worker.processors import ProcessRows
from tests.postgres.worker.conftest import ranges
from tests.postgres.worker.test_failing_rows import strict


def print_of(worker, capfdbinary):
    call = Call(worker.pickled)
    for key_range in ranges(2):
        list(call([(key_range.index, pickle.dumps(key_range.to_item()))]))
    call.close()
    return list(LineReader().feed(capfdbinary.readouterr().out))


def test_a_range_whose_failing_rows_are_searched_for_is_announced_again(worker, capfdbinary):
    def print_and_fail(rows):
        print("10 %\r20 %", end="")
        return strict(rows)

    events = print_of(worker(ProcessRows(print_and_fail), isolate_failures=True), capfdbinary)
    messages = [event for event in events if isinstance(event, ItemBegan)]
    assert [message.index for message in messages if message.stage == "isolating"] == [0]
    assert len({message.worker for message in messages}) == 1
    assert OutputLine("[0] 20 %") in events


def test_a_range_whose_failing_rows_are_not_searched_for_is_not_announced_again(worker, capfdbinary):
    events = print_of(worker(ProcessRows(strict)), capfdbinary)
    assert {event.stage for event in events if isinstance(event, ItemBegan)} == {"working"}
