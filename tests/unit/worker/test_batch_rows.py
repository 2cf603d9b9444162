"""Batches that a function returns become rows with the same values, or are refused."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from burla_provider.exceptions import ReturnedRowError, UserFunctionError
from burla_provider.worker.batch_rows import BatchRows
from burla_provider.worker.blocks import ArrowKeys
from burla_provider.worker.isolation import IsolateFailures
from burla_provider.worker.row_functions import MapBatch, RowFormat
from burla_provider.worker.sinks.copy_rows import JsonText

np, pa = pytest.importorskip("numpy"), pytest.importorskip("pyarrow")
pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")


def returned(value, batch_format="arrow", json_columns=()):
    """The values of a column that a function has returned."""
    rows = BatchRows((), ("v",), batch_format=batch_format, json_columns=json_columns)
    return [rows.checked(row)[0] for row in rows.results(value)]


def without_nan(value):
    """A value with a text for NaN, which is not equal to itself."""
    return [without_nan(item) for item in value] if isinstance(value, list) else str(value) if value != value else value


NAN = float("nan")
MOMENT = dt.datetime(2026, 11, 30, 10, 0, 0, 123456)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pd.Series([1.5, NAN]), [1.5, "nan"]),
        (pd.Series([0.1, NAN, float("inf")], dtype="float32"), [0.1, "nan", float("inf")]),
        (pd.Series([0.5], dtype="float16"), [0.5]),
        (pd.Series([1.5, None], dtype="Float64"), [1.5, None]),
        (pd.Series([0.1, None], dtype="Float32"), [0.1, None]),
        (pd.Series([1.5, NAN, None], dtype=pd.ArrowDtype(pa.float64())), [1.5, None, None]),
        (pd.Series([2**63 - 1, -(2**63)]), [2**63 - 1, -(2**63)]),
        (pd.Series([2**64 - 1], dtype="uint64"), [2**64 - 1]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series([True, False]), [True, False]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series(["a", None, NAN], dtype=object), ["a", None, None]),
        (pd.Series(["a", None]), ["a", None]),
        (pd.Series(["a", pd.NA], dtype="string"), ["a", None]),
        (pd.Series(["b", "a", None], dtype="category"), ["b", "a", None]),
        (pd.Series([2.5, NAN], dtype="category"), [2.5, None]),
        (pd.Series(pd.Categorical([MOMENT])), [MOMENT]),
        (pd.Series([MOMENT, pd.NaT]), [MOMENT, None]),
        (pd.Series([MOMENT, None]).astype("datetime64[ns]"), [MOMENT, None]),
        (pd.Series([dt.datetime(9999, 12, 31)]).astype("datetime64[s]"), [dt.datetime(9999, 12, 31)]),
        (
            pd.Series([MOMENT, None]).dt.tz_localize("Asia/Kolkata"),
            [MOMENT.replace(tzinfo=ZoneInfo("Asia/Kolkata")), None],
        ),
        (pd.Series([dt.timedelta(1, 2, 3), None]), [dt.timedelta(1, 2, 3), None]),
        (pd.Series([Decimal("1.10"), Decimal("NaN"), None], dtype=object), [Decimal("1.10"), "NaN", None]),
        (pd.Series([np.int64(7), np.float32(0.1), pd.NaT, pd.NA], dtype=object), [7, 0.1, None, None]),
        (
            pd.Series([pd.Timestamp(MOMENT), np.datetime64("2026-11-30")], dtype=object),
            [MOMENT, dt.datetime(2026, 11, 30)],
        ),
        (pd.Series([np.array([1.5, 2]), np.array([MOMENT], "datetime64[us]")]), [[1.5, 2.0], [MOMENT]]),
        (pd.Series([np.array([0.1, 3e38], "float32"), np.array([[0.1]], "float16")]), [[0.1, 3e38], [[0.1]]]),
        (pd.Series([b"\0", {"a": 1}, [1]], dtype=object), [b"\0", {"a": 1}, [1]]),
        (pd.Series([[np.int64(1), pd.Timestamp(MOMENT), None]], dtype=object), [[1, MOMENT, None]]),
        (pd.Series([np.array([np.float32(0.1), pd.Timestamp(MOMENT)], dtype=object)]), [[0.1, MOMENT]]),
        (pd.Series([0, 1], dtype="Sparse[int]"), [0, 1]),
        (pd.Series([uuid.UUID(int=1)]), [uuid.UUID(int=1)]),
        (pd.Series([], dtype="float64"), []),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_values_of_pandas_are_exact(series, expected):
    found = returned(pd.DataFrame({"v": series}))
    assert [str(value) if value != value else value for value in found] == expected
    assert all(type(value).__module__ in ("builtins", "datetime", "decimal", "uuid") for value in found)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pl.Series([1.5, None, NAN]), [1.5, None, "nan"]),
        (pl.Series([0.1], dtype=pl.Float32), [0.1]),
        (pl.Series([2**64 - 1], dtype=pl.UInt64), [2**64 - 1]),
        (pl.Series([2**100], dtype=pl.Int128), [2**100]),
        (pl.Series([Decimal("1.10"), None]), [Decimal("1.10"), None]),
        (pl.Series(["a", None], dtype=pl.Categorical), ["a", None]),
        (pl.Series(["a"], dtype=pl.Enum(["a"])), ["a"]),
        (pl.Series([MOMENT], dtype=pl.Datetime("ns")), [MOMENT]),
        (
            pl.Series([MOMENT]).dt.replace_time_zone("Asia/Kolkata"),
            [MOMENT.replace(tzinfo=ZoneInfo("Asia/Kolkata"))],
        ),
        (pl.Series([dt.time(1, 2, 3, 4)]), [dt.time(1, 2, 3, 4)]),
        (pl.Series([dt.timedelta(1)], dtype=pl.Duration("ns")), [dt.timedelta(1)]),
        (pl.Series([[1, None], None]), [[1, None], None]),
        (pl.Series([[0.1]], dtype=pl.List(pl.Float32)), [[0.1]]),
        (pl.Series([[1.5, 2]], dtype=pl.Array(pl.Float64, 2)), [[1.5, 2.0]]),
        (pl.Series([[MOMENT]], dtype=pl.List(pl.Datetime("ns"))), [[MOMENT]]),
        (pl.Series([{"a": 1}]), [{"a": 1}]),
        (pl.Series([{"a"}], dtype=pl.Object), [{"a"}]),
        (pl.Series([None]), [None]),
        (pl.Series([b"\0"]), [b"\0"]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_values_of_polars_are_exact(series, expected):
    found = returned(pl.DataFrame({"v": series}), "polars")
    assert [str(value) if value != value else value for value in found] == expected
    assert all(type(value).__module__ in ("builtins", "datetime", "decimal") for value in found)


IDENTIFIER = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([0.1, None, NAN], pa.float32()), [0.1, None, "nan"]),
        (pa.array([Decimal("1.5")], pa.decimal256(70, 10)), [Decimal("1.5000000000")]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array([MOMENT], pa.timestamp("ns", "Europe/Berlin")), [MOMENT.replace(tzinfo=dt.UTC)]),
        (pa.array([dt.date(2026, 1, 1)], pa.date64()), [dt.date(2026, 1, 1)]),
        (pa.array([dt.time(1)], pa.time32("s")), [dt.time(1)]),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), [[1, 2]]),
        (pa.array([[1], None, [2, 3]], pa.list_view(pa.int8())), [[1], None, [2, 3]]),
        (pa.array([[1], None, [2, 3]], pa.large_list_view(pa.int8())), [[1], None, [2, 3]]),
        (pa.array([[[1]], [[2]]], pa.list_(pa.list_view(pa.int8()))), [[[1]], [[2]]]),
        (pa.array([{"a": [1]}, {"a": [2]}], pa.struct([("a", pa.list_view(pa.int8()))])), [{"a": [1]}, {"a": [2]}]),
        (pa.array([0.1, None], pa.float32()).dictionary_encode(), [0.1, None]),
        (pa.array([[0.1, None, NAN]], pa.list_(pa.float32())), [[0.1, None, "nan"]]),
        (pa.array([[{"a": 0.1}]], pa.list_(pa.struct([("a", pa.float32())]))), [[{"a": 0.1}]]),
        (pa.array([[("a", 0.1)]], pa.map_(pa.string(), pa.float32())), [[("a", 0.1)]]),
        (pa.RunEndEncodedArray.from_arrays(pa.array([2]), pa.array([0.1], pa.float32())), [0.1, 0.1]),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), [[("a", 1)]]),
        (pa.RunEndEncodedArray.from_arrays(pa.array([2, 3]), pa.array(["a", None])), ["a", "a", None]),
        (pa.array([{"at": MOMENT}], pa.struct([("at", pa.timestamp("ns"))])), [{"at": MOMENT}]),
        *([(pa.array([IDENTIFIER.bytes, None], pa.uuid()), [IDENTIFIER, None])] if hasattr(pa, "uuid") else []),
        (pa.nulls(1), [None]),
        (pa.chunked_array([[1], [2]]), [1, 2]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_values_of_arrow_are_exact(array, expected):
    found = returned(pa.table({"v": array}))
    assert list(map(without_nan, found)) == expected


NANOSECOND = "2026-11-30T10:00:00.000000001"


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({"v": pd.to_datetime([NANOSECOND])}),
        pd.DataFrame({"v": pd.Series([pd.Timestamp(NANOSECOND)], dtype=object)}),
        pd.DataFrame({"v": pd.to_timedelta([1], unit="ns")}),
        pd.DataFrame({"v": pd.Series([pd.Timedelta(1)], dtype=object)}),
        pd.DataFrame({"v": np.array(["30000-01-01"], "datetime64[s]")}),
        pd.DataFrame({"v": np.array([1.5], np.longdouble)}),
        pd.DataFrame({"v": pd.Series([[[pd.Timestamp(NANOSECOND)]]], dtype=object)}),
        pl.DataFrame({"v": pl.Series([NANOSECOND]).str.to_datetime(time_unit="ns")}),
        pl.DataFrame({"v": pl.Series([1], dtype=pl.Time)}),
        pa.table({"v": pa.array([1], pa.timestamp("ns"))}),
        pa.table({"v": pa.array([[1]], pa.list_(pa.timestamp("ns")))}),
        pa.table({"v": pa.array([[1]], pa.list_view(pa.timestamp("ns")))}),
        pa.table({"v": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.timestamp("ns")))}),
        pa.table({"v": pa.RunEndEncodedArray.from_arrays(pa.array([1]), pa.array([1], pa.timestamp("ns")))}),
        pa.table({"v": pa.array([2**62], pa.timestamp("us"))}),
        pa.table({"v": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
        *([pa.table({"v": pa.array(['{"a": 1}'], pa.json_())})] if hasattr(pa, "json_") else []),
    ],
    ids=str,
)
def test_a_value_that_would_lose_digits_is_refused(value):
    with pytest.raises(ReturnedRowError, match=r"a column v of type .* cannot be written exactly"):
        returned(value)


JSON = ['{"price" : 0.10, "price" : 1e5}', "null", '"a"', "1" * 5_000, r'"\ud800"']


@pytest.mark.parametrize(
    "batch",
    [
        pd.DataFrame({"v": [*JSON, None]}),
        pl.DataFrame({"v": [*JSON, None]}),
        pa.table({"v": [*JSON, None]}),
        [(text,) for text in (*JSON, None)],
        [{"v": text} for text in (*JSON, None)],
    ],
    ids=type,
)
def test_text_for_a_json_column_is_json_and_is_kept_as_it_is(batch):
    found = returned(batch, json_columns=("v",))
    assert found == [*JSON, None]
    assert {type(value) for value in found[:-1]} == {JsonText}


@pytest.mark.parametrize("text", ["a", "", "NaN", "[1"])
def test_text_for_a_json_column_that_is_not_json_is_refused(text):
    for batch in (pd.DataFrame({"v": [text]}), [(text,)]):
        with pytest.raises(ReturnedRowError, match="a text for the column v that is not JSON"):
            returned(batch, json_columns=("v",))


def test_structs_for_a_json_column_are_written_as_json():
    assert returned(pl.DataFrame({"v": [{"a": [1]}]}), json_columns=("v",)) == [{"a": [1]}]


@pytest.mark.parametrize(
    "frame", [pd.DataFrame({"id": [1]}), pl.DataFrame({"id": [1]}), pa.table({"id": [1]})], ids=type
)
def test_a_batch_from_a_function_of_rows_is_refused_with_a_remedy(frame):
    function = MapBatch(lambda rows: frame, RowFormat(("id",), ("id",)))
    with pytest.raises(UserFunctionError, match=r"which is not a list of rows\. Give batch_format"):
        function([(1,)])


@pytest.mark.parametrize("value", [5, "text", pl.LazyFrame({"v": [1]}), None], ids=str)
def test_what_is_not_a_batch_is_refused(value):
    with pytest.raises(UserFunctionError, match="map_batch returned "):
        returned(value)


def test_a_frame_of_another_package_is_refused_with_a_remedy():
    with pytest.raises(UserFunctionError, match=r"^map_batch returned LazyFrame, which is not a batch\. "):
        returned(pl.LazyFrame({"v": [1]}), "polars")


def test_names_that_are_not_text_are_other_columns():
    with pytest.raises(UserFunctionError, match="with the columns 1"):
        list(BatchRows((), ("1",)).results(pd.DataFrame({1: [1]})))


@pytest.mark.parametrize("batch_format", ["pandas", "polars", "arrow"])
def test_a_row_with_a_value_that_is_not_exact_is_rejected_alone(batch_format):
    def nanoseconds(batch):
        ids = [id_ for (id_,) in BatchRows((), ("id",)).results(batch)]
        return pa.table({"v": pa.array([1 if id_ == 5 else 1_000 for id_ in ids], pa.timestamp("ns"))})

    function = MapBatch(nanoseconds, BatchRows(("id",), ("v",), batch_format=batch_format))
    batch = pa.record_batch({"id": list(range(8)), "key": [str(number) for number in range(8)]})
    produced = IsolateFailures(function, is_recorded=True)(batch.select(["id"]), ArrowKeys(batch.select(["key"])))
    assert [(one.row, one.key) for one in produced.rejected] == [((5,), ("5",))]
    assert len(produced.rows) == 7
