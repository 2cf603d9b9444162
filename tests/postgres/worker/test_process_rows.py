import datetime
import re
import resource
import uuid
from decimal import Decimal

import pytest
from psycopg import sql

from burla_provider.database.settings import SessionSettings
from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.sql_checks import check_source
from burla_provider.worker.processors import ProcessRows
from burla_provider.worker.source import Source
from tests.postgres.worker.conftest import KEY, ROWS, ranges

(WHOLE,) = ranges(1)


class HomeMade(Exception):
    pass


def raise_(error):
    raise error


def work(worker, function, **fields):
    formats = {name: fields.pop(name) for name in ("row_format", "batch_format", "batch_size") if name in fields}
    return worker(ProcessRows(function, **formats), **fields)(WHOLE)


def test_rows_are_tuples_in_the_order_of_the_columns(worker):
    outcome = work(worker, lambda rows: {"first": list(min(rows))}, source=Source("public", "orders", ("amount", "id")))
    assert outcome.value == {"first": [Decimal("0.01"), 1]}


def test_rows_can_be_dicts(worker):
    outcome = work(worker, lambda rows: {"total": sum(row["amount"] for row in rows)}, row_format="dict")
    assert outcome.value == {"total": Decimal("5005.00")}


def test_no_columns_are_all_columns(worker):
    outcome = work(worker, lambda rows: {"width": len(next(rows))}, source=Source("public", "orders"))
    assert outcome.value == {"width": 3}


def test_rows_are_counted(worker):
    assert work(worker, lambda rows: {"n": sum(1 for _ in rows)}).row_count == ROWS


def test_rows_that_were_not_taken_are_not_counted(worker):
    one = worker(ProcessRows(lambda rows: {"first": next(rows)[0]}))
    assert one(WHOLE).row_count == 1
    assert one(WHOLE).ok  # and the connection is in order


def test_a_connection_is_used_for_many_ranges(worker, orders):
    one = worker(ProcessRows(lambda rows: {"n": len(list(rows))}))
    assert all(one(key_range).ok for key_range in ranges(20))
    (sessions,) = orders.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ).fetchone()
    assert sessions == 1


@pytest.mark.parametrize(
    "error", [ValueError("refused"), HomeMade("refused"), SystemExit("refused"), BaseException("refused")], ids=repr
)
def test_every_exception_of_the_function_becomes_a_failure(worker, error):
    outcome = work(worker, lambda rows: raise_(error))
    assert outcome.failure.message == "refused"
    assert outcome.failure.type.endswith(type(error).__name__)
    assert outcome.attempts == 1


def test_only_a_keyboard_interrupt_stops_the_worker(worker):
    with pytest.raises(KeyboardInterrupt):
        work(worker, lambda rows: raise_(KeyboardInterrupt()))


def test_after_a_failure_the_next_range_is_processed(worker):
    one = worker(ProcessRows(lambda rows: {"n": 1} if next(rows)[0] > 1 else raise_(ValueError())))
    assert [one(key_range).ok for key_range in ranges(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda rows: None, "returned builtins.NoneType for range 0"),
        (lambda rows: [1], "returned builtins.list"),
        (lambda rows: (yield 1), "returned builtins.generator"),
        (lambda rows: {"a": {"b": object()}}, r"\['a'\]\['b'\] is of type builtins.object"),
        (lambda rows: {1: 2}, "the return value has the key 1"),
    ],
)
def test_a_return_value_that_is_not_plain_data_is_reported_with_its_range(worker, function, problem):
    message = work(worker, function).failure.message
    assert re.search(problem, message)
    assert "range 0" in message


def test_memory_does_not_grow_with_the_range(worker, orders):
    orders.execute(
        "CREATE TABLE large AS SELECT g::bigint AS id, repeat('x', 200) AS t FROM generate_series(1, 400000) AS g"
    )
    large = Source("public", "large", ("id", "t"))
    one = worker(ProcessRows(lambda rows: {"n": sum(1 for _ in rows)}), source=large)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert one(WHOLE).row_count == 400_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB; the rows are 100 MB


def test_a_range_is_read_in_its_snapshot(worker, held, orders):
    orders.execute("UPDATE orders SET amount = 0; DELETE FROM orders WHERE id > 500")
    outcome = work(worker, lambda rows: {"total": sum(row[1] for row in rows)}, snapshot=held.snapshot)
    assert (outcome.row_count, outcome.value) == (ROWS, {"total": Decimal("5005.00")})


def test_application_name_has_the_task_and_the_range(worker, orders):
    names = "array(SELECT application_name FROM pg_stat_activity WHERE datname = current_database())"
    orders.execute(f"CREATE FUNCTION at_work() RETURNS text[] LANGUAGE sql AS $$ SELECT {names} $$")
    orders.execute("CREATE VIEW sessions AS SELECT 1::bigint AS id, unnest(at_work()) AS name")
    outcome = work(
        worker,
        lambda rows: {"names": [row[0] for row in rows]},
        source=Source("public", "sessions", ("name",)),
        settings=SessionSettings("sales.totals.monday"),
    )
    assert "sales.totals.monday #0" in outcome.value["names"]


def test_arrow_batches_have_exact_types(worker, orders):
    orders.execute("""
        CREATE TABLE typed AS SELECT
            g::bigint AS id,
            g / 8.0::numeric(20,3) AS undeclared,
            (g / 100.0)::numeric(12,2) AS amount,
            '2024-01-01 00:00:00.5+05:30'::timestamptz + g * interval '1 day' AS at,
            date '2024-02-29' AS day,
            g % 2 = 0 AS even,
            CASE g WHEN 1 THEN NULL WHEN 2 THEN '' ELSE E'a"b\\n,c' END AS text,
            jsonb_build_object('g', g) AS doc,
            0.1::float8 AS rate
        FROM generate_series(1, 3) AS g""")

    def look(batches):
        (batch,) = batches
        return {
            "types": [str(field.type) for field in batch.schema],
            "rows": [list(row.values()) for row in batch.to_pylist()],
        }

    outcome = work(worker, look, source=Source("public", "typed"), batch_format="arrow")
    assert outcome.ok, outcome.failure
    assert outcome.row_count == 3
    assert outcome.value["types"] == [
        *("int64", "decimal128(38, 18)", "decimal128(12, 2)", "timestamp[us, tz=UTC]", "date32[day]", "bool"),
        *("string", "string", "double"),
    ]
    first, second, third = outcome.value["rows"]
    assert (first[2], first[6], second[6], third[6]) == (Decimal("0.01"), None, "", 'a"b\n,c')
    assert first[3].isoformat() == "2024-01-01T18:30:00.500000+00:00"


def test_settings_of_the_role_do_not_change_arrow_values(worker, orders):
    orders.execute(r"""
        CREATE TABLE told AS SELECT 1::bigint AS id, '\x61005cff'::bytea AS bytes, interval '1 day 2 hours' AS lasted,
            date '2024-02-03' AS day, 0.1::float8 + 0.2 AS rate""")
    name = sql.Identifier(orders.info.dbname)
    for setting, value in {
        "bytea_output": "escape",
        "intervalstyle": "iso_8601",
        "datestyle": "German",
        "extra_float_digits": "-10",
    }.items():
        orders.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(setting), value))
    source = Source("public", "told", ("bytes", "lasted", "day", "rate"))
    outcome = work(worker, lambda batches: next(batches).to_pylist()[0], source=source, batch_format="arrow")
    assert outcome.ok, outcome.failure
    assert outcome.value == {
        "bytes": b"a\x00\\\xff",
        "lasted": "1 day 02:00:00",
        "day": datetime.date(2024, 2, 3),
        "rate": 0.1 + 0.2,
    }


def test_arrow_batches_of_one_column_keep_their_nulls(worker, orders):
    orders.execute(
        "CREATE TABLE single AS SELECT g::bigint AS id, nullif(g % 3, 0) AS v FROM generate_series(1, 50000) AS g"
    )
    source = Source("public", "single", ("v",))
    outcome = work(
        worker,
        lambda batches: {"nulls": sum(b.column(0).null_count for b in batches)},
        source=source,
        batch_format="arrow",
    )
    assert (outcome.row_count, outcome.value) == (50_000, {"nulls": 16_666})


def test_rows_without_columns_are_not_lost_in_arrow_batches(worker, orders):
    orders.execute("CREATE TABLE empty_rows (); INSERT INTO empty_rows DEFAULT VALUES")
    count = lambda rows: {"n": len(list(rows))}  # noqa: E731
    assert work(worker, count, source=Source("public", "empty_rows")).row_count == 1
    failure = work(worker, count, source=Source("public", "empty_rows"), batch_format="arrow").failure
    assert failure.message == "A batch without columns has no rows. Leave out batch_format."


def test_a_value_that_arrow_cannot_hold_is_an_error(worker, orders):
    orders.execute("CREATE TABLE endless AS SELECT 1::bigint AS id, 'infinity'::timestamptz AS at")
    outcome = work(
        worker, lambda batches: {"n": len(list(batches))}, source=Source("public", "endless"), batch_format="arrow"
    )
    assert "cannot hold a value of at" in outcome.failure.text


def test_values_of_all_types_are_read_exactly(worker):
    value = {
        "amount": Decimal("1.10"),
        "at": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        "span": datetime.timedelta(1),
        "id": uuid.UUID(int=1),
        "list": [1, 2.5, None, True, b"x", ("a",)],
    }
    assert work(worker, lambda rows: value).value == value


def test_the_key_need_not_be_among_the_columns(worker):
    outcome = worker(
        ProcessRows(lambda rows: {"n": len(list(rows))}), source=Source("public", "orders", ("n",)), key=KEY
    )(ranges(10)[3])
    assert outcome.row_count == 100


def test_an_empty_range_calls_the_function(worker):
    outcome = work(
        worker, lambda rows: {"total": sum(row[1] for row in rows)}, source=Source("public", "orders", where="FALSE")
    )
    assert (outcome.row_count, outcome.value) == (0, {"total": 0})


def test_a_column_may_be_an_expression(worker, orders):
    columns = {"id": "id", 'day "1"': "date '2024-01-01' + id::int -- the id'th", "odd%": "id % 2 = 1"}
    source = Source("public", "orders", columns)
    check_source(orders, source)
    outcome = work(worker, lambda rows: {"first": str(next(rows))}, source=source, row_format="dict")
    assert outcome.value == {"first": """{'id': 1, 'day "1"': datetime.date(2024, 1, 2), 'odd%': True}"""}


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("amout", 'column "amout" does not exist'),
        ("id, amount", "not one expression"),
        ("orders.*", "not one expression"),
        ("sum(amount)", "aggregate functions are not allowed"),
        ("row_number() OVER ()", "window functions are not allowed"),
        ("generate_series(1, 2)", "set-returning functions are not allowed"),
        ("DISTINCT id", "syntax error"),
        ("id) FROM orders -- ", "a bracket or a quote is not closed"),
        ("id AS x", "syntax error"),
        ("", "syntax error"),
    ],
)
def test_an_expression_that_is_not_one_value_per_row_is_refused(orders, expression, problem):
    with pytest.raises(InvalidParameterError, match=problem) as error:
        check_source(orders, Source("public", "orders", {"id": "id", "x": expression}))
    assert error.value.parameter == "columns"
    assert expression in str(error.value)


def test_the_remedy_for_a_value_that_python_cannot_hold_works(worker, orders):
    orders.execute("CREATE TABLE terms AS SELECT 1::bigint AS id, date 'infinity' AS valid_to")
    outcome = work(worker, lambda rows: {"n": len(list(rows))}, source=Source("public", "terms"))
    assert "a value of valid_to: got 'infinity'" in outcome.failure.text
    columns = {"id": "id", "valid_to": "valid_to::text"}
    assert str(columns)[1:-1].split(", ")[1] in outcome.failure.text
    source = Source("public", "terms", columns)
    outcome = work(worker, lambda rows: {"valid_to": next(rows)[1]}, source=source)
    assert outcome.value == {"valid_to": "infinity"}
