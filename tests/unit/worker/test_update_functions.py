import pickle

import cloudpickle
import pytest

import burla_provider
from burla_provider.worker.row_functions import RowFormat
from burla_provider.worker.update_functions import EachRow, UpdateRows


def invert(row):
    return (1 / row[0],)


@pytest.fixture
def copied_call(monkeypatch):
    """Let ``UpdateRows`` have a method that was pickled by value, as in a worker: its module's objects are copies."""
    cloudpickle.register_pickle_by_value(burla_provider)
    monkeypatch.setattr(UpdateRows, "_call", pickle.loads(cloudpickle.dumps(UpdateRows._call)))
    cloudpickle.unregister_pickle_by_value(burla_provider)


def test_a_row_on_which_a_copied_function_fails_has_failed_once(copied_call):
    failed = []
    produced = UpdateRows(EachRow(invert), RowFormat(("v",), ("v",)), 1)(
        [(2,), (0,), (4,)], [("a",), ("b",), ("c",)], failed
    )
    assert [number for number, _ in failed] == [1]
    assert [row[0] for row in produced.rows] == ["a", "c"]
