import pytest

from burla_provider.exceptions import RowCountMismatchError
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.verify import verify_row_count
from burla_provider.worker.source import Source

KEY = Key((KeyColumn("id", "integer", nullable=True),))
WHOLE = KeyRange(KEY, 0)


@pytest.fixture
def table(connection):
    connection.execute("CREATE TABLE t AS SELECT nullif(g, 10) AS id FROM generate_series(1, 10) AS g")
    return connection


def test_rows_with_a_null_key_are_counted(table):
    verify_row_count(table, Source("public", "t"), WHOLE, 10)


def test_only_rows_of_the_window_and_the_condition_are_counted(table):
    verify_row_count(table, Source("public", "t", where="id <> 3"), KeyRange(KEY, 0, ("2",), ("6",)), 3)


def test_a_different_count_is_an_error_with_both_numbers(table):
    with pytest.raises(RowCountMismatchError, match=r"processed 9 rows, but public\.t has 10"):
        verify_row_count(table, Source("public", "t"), WHOLE, 9)
