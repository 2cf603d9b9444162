"""Functions of batches get and return values of every type exactly, or are refused."""

from __future__ import annotations

from contextlib import nullcontext

import psycopg
import pytest
from psycopg import sql

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import EXACT_TEXT, SessionSettings
from burla_provider.exceptions import UserFunctionError
from burla_provider.worker.batch_formats import BATCH_FORMATS
from burla_provider.worker.batch_rows import BatchRows
from burla_provider.worker.processors import ProcessRows, Transform
from burla_provider.worker.row_functions import MapBatch, RowFormat
from burla_provider.worker.sinks import Insert, Target, UpdateInPlace, Upsert
from burla_provider.worker.source import Source
from burla_provider.worker.stream import CHUNK_ROWS, get_shape
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import UpdateRows
from tests.postgres.worker.conftest import KEY, ORDERS, ROWS, ranges
from tests.postgres.worker.test_transform_types import VALUES, values  # noqa: F401 (a fixture)

pa = pytest.importorskip("pyarrow")
pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")

FORMATS = list(BATCH_FORMATS)
NOT_IN_ARROW = {"NaN", "Infinity", "-Infinity"}
RESULTS = Target("public", "results", ("id", "cents"))


def transform(connection: psycopg.Connection, function, sink, source: Source = ORDERS, **options):
    """Write one range of all rows, and return the result."""
    writer = TargetWriter(connection_parameters(connection), SessionSettings(), sink)
    try:
        with psycopg.connect(connection.info.dsn, password=connection.info.password) as reader:
            reader.execute("; ".join(f"SET {name} = '{value}'" for name, value in EXACT_TEXT.items()))
            return Transform(function, writer, KEY, **options)(reader, source, ranges(1)[0])
    finally:
        writer.close()


@pytest.fixture
def results(orders: psycopg.Connection) -> psycopg.Connection:
    orders.execute("CREATE TABLE results (id bigint PRIMARY KEY, cents bigint)")
    return orders


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("batch_format", FORMATS)
@pytest.mark.parametrize("mode", ["insert", "upsert", "in place"])
def test_a_value_passes_through_exactly(values, name, batch_format, mode):  # noqa: F811
    texts = [text for text in VALUES[name] if not (name.startswith("numeric") and text in NOT_IN_ARROW)]
    if name == "numeric":  # of Arrow's decimal128(38, 18)
        texts = ["1.00", "-0.000000000000000001", "12345678901234567890.5"]
    connection = values(name, texts)
    json_columns = ("v",) if name in ("json", "jsonb") else ()
    same = lambda batch: batch  # noqa: E731
    if mode == "in place":
        connection.execute("INSERT INTO taken TABLE given; UPDATE given SET v = v")
        sink = UpdateInPlace(Target("public", "given", ("v",), json_columns), ("id",))
        rows = BatchRows(("v",), ("v",), batch_format=batch_format, json_columns=json_columns)
        result = transform(
            connection, UpdateRows(same, rows, 2, None), sink, Source("public", "given", ("v",)), reads_xmin=True
        )
    else:
        target = Target("public", "taken", ("id", "v"), json_columns)
        sink = Insert(target) if mode == "insert" else Upsert(target, ("id",), ("v",))
        rows = BatchRows(target.columns, target.columns, batch_format=batch_format, json_columns=json_columns)
        result = transform(connection, MapBatch(same, rows), sink, Source("public", "given", ("id", "v")))
    assert result.row_count == len(texts) + 1
    for one, other in (("given", "taken"), ("taken", "given")):
        value = "trim_scale(v)::text" if name == "numeric" else "v::text"  # Arrow has 18 decimals
        query = f"SELECT id, {value} FROM {one} EXCEPT ALL SELECT id, {value} FROM {other}"
        assert connection.execute(query).fetchall() == []


JSON = [
    "null",
    '{"a": null, "b": [null]}',
    '"null"',
    '{"a" :  1, "a" : 2}',
    "1e5",
    "12345678901234567890123.10",
    "-0.0",
]


@pytest.mark.parametrize("name", ["json", "jsonb"])
@pytest.mark.parametrize(
    ("batch_format", "returned"),
    [*((name, lambda batch: batch) for name in FORMATS), ("arrow", lambda batch: batch.to_pylist())],
    ids=[*FORMATS, "rows"],
)
def test_json_passes_through_byte_by_byte(values, name, batch_format, returned):  # noqa: F811
    connection = values(name, JSON)
    target = Target("public", "taken", ("id", "v"), ("v",))
    rows = BatchRows(target.columns, target.columns, batch_format=batch_format, json_columns=("v",))
    transform(connection, MapBatch(returned, rows), Upsert(target, ("id",), ("v",)), Source("public", "given"))
    given, taken = (connection.execute(f"SELECT id, v::text FROM {table} ORDER BY id") for table in ("given", "taken"))
    assert taken.fetchall() == given.fetchall()


@pytest.mark.parametrize(
    ("batch_format", "returned"),
    [
        (
            "pandas",
            lambda batch: batch.assign(cents=(batch.amount * 100).astype("int64[pyarrow]"))[["cents", "id"]][::-1],
        ),
        ("pandas", lambda batch: pd.DataFrame({"id": batch.id.to_numpy("int64"), "cents": batch.id.astype("Int64")})),
        ("pandas", lambda batch: pl.DataFrame({"id": batch["id"].to_list(), "cents": batch["id"].to_list()})),
        ("polars", lambda batch: batch.select("id", cents=(pl.col("amount") * 100).cast(pl.Int64))),
        ("polars", lambda batch: list(batch.select("id", pl.col("id").alias("cents")).iter_rows())),
        ("arrow", lambda batch: pa.table({"id": batch["id"], "cents": batch["id"]})),
        ("arrow", lambda batch: [{"cents": i.as_py(), "id": i.as_py()} for i in batch["id"]]),
    ],
)
def test_a_function_may_return_any_batch_or_rows(results, batch_format, returned):
    rows = BatchRows(ORDERS.columns, RESULTS.columns, batch_format=batch_format)
    result = transform(results, MapBatch(returned, rows, 300), Insert(RESULTS))
    assert result.value == {"rows_inserted": ROWS, "rows_filtered": 0}
    assert results.execute("TABLE results ORDER BY id").fetchall() == [(n, n) for n in range(1, ROWS + 1)]


@pytest.mark.parametrize("batch_format", FORMATS)
def test_a_batch_that_is_shorter_filters_rows_of_a_target(results, batch_format):
    rows = BatchRows(ORDERS.columns, RESULTS.columns, batch_format=batch_format)
    columns = Source("public", "orders", {"id": "id", "cents": "id"})
    result = transform(results, MapBatch(lambda batch: batch[:10], rows, 100), Insert(RESULTS), columns)
    assert result.value == {"rows_inserted": 100, "rows_filtered": 900}


@pytest.mark.parametrize("batch_format", FORMATS)
def test_an_update_in_place_needs_a_row_per_row(results, batch_format):
    sink = UpdateInPlace(Target("public", "orders", ("n",)), ("id",))
    source = Source("public", "orders", {"n": "id * 2"})
    rows = BatchRows(("n",), ("n",), batch_format=batch_format)
    with pytest.raises(UserFunctionError, match=r"map_batch returned 99 rows for 100\. Return one"):
        transform(results, UpdateRows(lambda batch: batch[:99], rows, 2, 100), sink, source, reads_xmin=True)
    result = transform(results, UpdateRows(lambda batch: batch, rows, 2, 100), sink, source, reads_xmin=True)
    assert result.value["rows_updated"] == ROWS
    assert results.execute("SELECT count(*) FROM orders WHERE n = id * 2").fetchone() == (ROWS,)


def test_an_update_in_place_refuses_a_data_frame_in_another_order(results):
    sink = UpdateInPlace(Target("public", "orders", ("n",)), ("id",))
    source = Source("public", "orders", {"n": "id"})
    rows = BatchRows(("n",), ("n",), batch_format="pandas")
    for order, is_refused in [
        (lambda batch: batch.sort_values("n", ascending=False), True),
        (lambda batch: batch.sort_values("n", ascending=False).sort_index(), False),
        (lambda batch: batch.set_index("n", drop=False)[::-1][::-1], False),
        (lambda batch: batch.assign(n=batch.n + 1, k=0).set_index(["k", "n"], drop=False)[["n"]], False),
    ]:
        function = UpdateRows(order, rows, 2, 100)
        with (
            pytest.raises(UserFunctionError, match=r"rows in another order\..*sort_index")
            if is_refused
            else nullcontext()
        ):
            transform(results, function, sink, source, reads_xmin=True)
    assert results.execute("SELECT count(*) FROM orders WHERE n = id + 1").fetchone() == (ROWS,)


@pytest.mark.parametrize("batch_format", FORMATS)
def test_rows_that_others_change_are_computed_again_in_batches(results, batch_format):
    dsn, password = results.info.dsn, results.info.password
    seen = []

    def disturbed(batch):
        numbers = BATCH_FORMATS[batch_format].values(batch, "amount")
        if not seen:
            with psycopg.connect(dsn, password=password) as other:
                other.execute("UPDATE orders SET amount = amount + 1000 WHERE id % 10 = 5")
                other.execute("DELETE FROM orders WHERE id = 7")
        seen.append(len(batch))
        return [(int(number * 100),) for number in numbers]

    sink = UpdateInPlace(Target("public", "orders", ("n",)), ("id",))
    rows = BatchRows(("amount",), ("n",), batch_format=batch_format)
    source = Source("public", "orders", ("amount",))
    result = transform(results, UpdateRows(disturbed, rows, 2, 400), sink, source, reads_xmin=True)
    assert results.execute("SELECT count(*) FROM orders WHERE n <> amount * 100").fetchone() == (0,)
    assert result.value == {"rows_updated": ROWS - 1, "rows_unchanged": 1, "rows_filtered": 0}
    assert seen[:3] == [400, 400, 200]
    assert sum(seen[3:]) == 100


@pytest.mark.parametrize("batch_format", FORMATS)
@pytest.mark.parametrize("columns", [["id"], ["id", "cents", "x"], ["id", "Cents"], ["id", "id"]], ids=str)
def test_other_columns_than_those_of_the_target_are_refused(results, batch_format, columns):
    def wrong(batch):
        table = pa.Table.from_arrays([pa.array([1])] * len(columns), names=columns)
        if batch_format == "polars":
            return pl.DataFrame(table.select([0])) if len(set(columns)) < len(columns) else pl.from_arrow(table)
        return table if batch_format == "arrow" else table.to_pandas()

    rows = BatchRows(ORDERS.columns, RESULTS.columns, batch_format=batch_format)
    message = (
        r"map_batch returned a (DataFrame|Table) with the columns id.* Return those of target_columns: id, cents\."
    )
    with pytest.raises(UserFunctionError, match=message):
        transform(results, MapBatch(wrong, rows), Insert(RESULTS))


def test_polars_refuses_decimals_that_it_cannot_hold(worker, orders):
    orders.execute("CREATE TABLE wide AS SELECT 1::bigint AS id, 1.5::numeric(50, 10) AS v")
    source = Source("public", "wide", ("v",))
    count = lambda rows: {"n": len(list(rows))}  # noqa: E731
    assert worker(ProcessRows(count, batch_format="pandas"), source=source)(ranges(1)[0]).ok
    outcome = worker(ProcessRows(count, batch_format="polars"), source=source)(ranges(1)[0])
    assert outcome.failure.message == (
        "Polars' decimals have at most 38 digits, and v may have 50. Read it as text: columns={'v': 'v::text', ...}."
    )


@pytest.mark.parametrize("batch_format", FORMATS)
def test_batches_have_the_requested_size(worker, batch_format):
    def sizes(batches):
        return {"sizes": [len(batch) for batch in batches]}

    outcome = worker(ProcessRows(sizes, batch_format=batch_format, batch_size=300))(ranges(1)[0])
    assert outcome.value == {"sizes": [300, 300, 300, 100]}
    assert outcome.row_count == ROWS
    outcome = worker(
        ProcessRows(sizes, batch_format=batch_format), source=Source("public", "orders", ("id",), where="FALSE")
    )(ranges(1)[0])
    assert outcome.value == {"sizes": []}


@pytest.mark.parametrize("batch_format", [None, *FORMATS])
@pytest.mark.parametrize(("batch_size", "expected"), [(1, [1] * 1_000), (256, [256] * 3 + [232]), (5_000, [1_000])])
def test_map_batch_gets_batches_of_the_requested_size(results, batch_format, batch_size, expected):
    sizes = []

    def look(batch):
        sizes.append(len(batch))
        return []

    rows = BatchRows(ORDERS.columns, RESULTS.columns, batch_format=batch_format) if batch_format else RowFormat((), ())
    result = transform(results, MapBatch(look, rows, batch_size), Insert(RESULTS))
    assert sizes == expected
    assert result.value == {"rows_filtered": ROWS}


@pytest.mark.parametrize("batch_format", [None, *FORMATS])
def test_a_range_without_rows_calls_no_function_of_batches(results, batch_format):
    rows = BatchRows(ORDERS.columns, RESULTS.columns, batch_format=batch_format) if batch_format else RowFormat((), ())
    function = MapBatch(lambda batch: pytest.fail("called"), rows)
    result = transform(results, function, Insert(RESULTS), Source("public", "orders", ("id",), where="FALSE"))
    assert (result.row_count, result.value) == (0, {"rows_filtered": 0})


def test_keys_that_are_read_as_text_do_not_make_blocks_small(results):
    query = sql.SQL("SELECT id, amount, id::text FROM orders")
    assert get_shape(results, query, 1).chunk_rows == CHUNK_ROWS
    assert get_shape(results, query).chunk_rows < CHUNK_ROWS


def test_the_error_for_a_function_of_one_batch_says_that_it_gets_an_iterator(worker):
    function = lambda batch: {"n": len(batch["id"])}  # noqa: E731
    failure = worker(ProcessRows(function, batch_format="pandas"))(ranges(1)[0]).failure
    assert "with an iterator over its batches: write for batch in batches." in failure.text


def test_a_batch_that_cannot_be_converted_fails_although_the_function_catches_it(worker, orders):
    def catch(batches):
        try:
            return {"n": len(list(batches))}
        except ValueError:
            return {"n": 0}

    orders.execute("CREATE TABLE wide AS SELECT 1::bigint AS id, 1.5::numeric(50, 10) AS v")
    one = worker(ProcessRows(catch, batch_format="polars"), source=Source("public", "wide", ("v",)))
    assert one(ranges(1)[0]).failure.message.startswith("Polars' decimals have at most 38 digits")
