import time

from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.sql_totals import check_totals, parse_totals
from burla_provider.worker.processors import ProcessRange, ProcessRows, SqlTotals
from burla_provider.worker.source import Source
from tests.postgres.worker.conftest import ORDERS, ranges
from tests.support.waiting import LIMITS

(WHOLE,) = ranges(1)


def strict(rows):
    return {"n": sum(1 / (row[0] not in (17, 400)) for row in rows)}


def test_the_rows_that_fail_are_named(worker, held):
    failure = worker(ProcessRows(strict), isolate_failures=True, snapshot=held.snapshot)(WHOLE).failure
    assert failure.type == "ZeroDivisionError"
    assert failure.rows == "id = 17; id = 400"


def test_rows_are_searched_only_if_requested(worker):
    assert worker(ProcessRows(strict))(WHOLE).failure.rows == ""


def test_rows_that_fail_in_sql_are_named(worker, orders):
    orders.execute("UPDATE orders SET n = 7 - id")
    totals = check_totals(orders, ORDERS, parse_totals({"x": "sum(1 / n)"}))
    failure = worker(SqlTotals(totals), isolate_failures=True)(WHOLE).failure
    assert failure.rows == "id = 7"


def test_a_part_on_which_the_function_hangs_ends_the_search(worker):
    def hang_behind_the_failure(rows):
        import time

        if any(row[0] == 17 for row in rows):
            raise ValueError("no")
        time.sleep(600)

    for limit in LIMITS:
        started = time.monotonic()
        one = worker(ProcessRows(hang_behind_the_failure), isolate_failures=True, range_timeout=limit)
        failure = one(WHOLE).failure
        if failure.message == "no":
            break
    assert time.monotonic() - started < 30 * limit
    assert failure.message == "no"
    assert failure.rows == f"not found, because The range took longer than range_timeout={limit:g} seconds."


def test_writes_of_the_search_are_rolled_back(worker, orders):
    def write(connection, key_range):
        connection.execute(
            "UPDATE orders SET n = n + 1 WHERE id BETWEEN %s AND %s", [key_range.start_id, key_range.end_id]
        )
        if key_range.start_id <= 17 <= key_range.end_id:
            raise ValueError("no")
        return {}

    failure = worker(ProcessRange(write), isolate_failures=True)(WHOLE).failure
    assert (failure.message, failure.rows) == ("no", "id = 17")
    assert orders.execute("SELECT sum(n) FROM orders").fetchone() == (0,)


def test_the_search_is_part_of_the_time_of_the_range(worker, orders):
    def process(rows):
        time.sleep(0.05)
        return {"n": sum(1 / (id - 17) for (id, *_) in rows)}

    outcome = worker(ProcessRows(process), isolate_failures=True)(WHOLE)
    assert outcome.failure.rows == "id = 17"
    assert outcome.seconds > 0.2  # The search calls the function at least four times.


def test_rows_of_one_key_are_named_together(worker, orders):
    orders.execute("CREATE TABLE visits AS SELECT g % 5 AS day, g % 50 = 3 AS bad FROM generate_series(1, 500) AS g")
    failure = worker(
        ProcessRows(lambda rows: {"n": sum(1 / (not bad) for (bad,) in rows)}),
        source=Source("public", "visits", ("bad",)),
        key=Key((KeyColumn("day", "integer"),)),
        isolate_failures=True,
    )(WHOLE.from_item(Key((KeyColumn("day", "integer"),)), 0, [None, None, False, None, None])).failure
    assert failure.rows == "day = 3"


def test_rows_that_cannot_be_told_apart_are_named_by_their_range(worker, orders):
    orders.execute("CREATE TABLE visits AS SELECT nullif(g, 7) AS id FROM generate_series(1, 20) AS g")
    source, key = Source("public", "visits", ("id",)), Key((KeyColumn("id", "integer"),))

    def name_rows(function, **bounds):
        processor = ProcessRows(function)
        return worker(processor, source=source, key=key, isolate_failures=True)(KeyRange(key, 0, **bounds)).failure.rows

    def fail_on_nulls(rows):
        return {"n": sum(1 / (id is not None) for (id,) in rows)}

    def fail_on_first_and_last(rows):
        ids = {id for (id,) in rows}
        return {"n": 1 / (not {1, 20} <= ids)}

    assert name_rows(fail_on_nulls, nulls=True) == str(KeyRange(key, 0, nulls=True))
    assert name_rows(fail_on_first_and_last, lower=("0",)) == str(KeyRange(key, 0, ("0",)))


def test_composite_keys_are_searched_too(worker, orders):
    orders.execute("CREATE TABLE pairs AS SELECT (g / 10)::text AS a, g % 10 AS b FROM generate_series(0, 99) AS g")
    key = Key((KeyColumn("a", "text"), KeyColumn("b", "integer")))
    failure = worker(
        ProcessRows(lambda rows: {"n": sum(1 / (row != ("4", 2)) for row in rows)}),
        source=Source("public", "pairs", ("a", "b")),
        key=key,
        isolate_failures=True,
    )(KeyRange(key, 0)).failure
    assert failure.rows == "a = 4 and b = 2"


def test_a_wrong_return_value_starts_no_search(worker):
    failure = worker(ProcessRows(lambda rows: None), isolate_failures=True)(WHOLE).failure
    assert failure.rows == ""
