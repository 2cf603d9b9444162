from decimal import Decimal
from fractions import Fraction

import pytest

from burla_provider.combine.combiners import Totals
from burla_provider.combine.sql_combiner import SqlCombiner
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.sql_checks import check_source
from burla_provider.task.sql_totals import check_totals, parse_totals
from burla_provider.worker.processors import SqlTotals
from burla_provider.worker.source import Source
from tests.postgres.worker.conftest import KEY, ORDERS, ranges

SETUP = """
CREATE SCHEMA odd;
CREATE DOMAIN odd."Code" AS char(3);
CREATE TABLE things (
    id bigint PRIMARY KEY, small smallint, whole integer, big bigint, exact numeric, rate double precision, single real,
    name text, german text COLLATE "{collation}", code varchar(10), at timestamptz, day date, span interval, ip inet,
    price money, fixed char(3), fixeds char(3)[], flags bit(4)[], "Odd" odd."Code", letter "char", label name,
    short varchar(9) COLLATE "{collation}", object oid
);
INSERT INTO things
SELECT g, g % 100, g * 1000, 9000000000000000000 + g, g / 7.0, g / 3.0, g / 3.0::real,
       md5(g::text), (ARRAY['z', 'ä', 'A', 'Z', 'b'])[g % 5 + 1], 'c' || g % 50,
       '2024-01-01 00:00+00'::timestamptz + g * interval '1 minute', date '2024-01-01' + g::int,
       g * interval '1 month 1 second',
       '10.0.0.1'::inet + g, (g / 100.0)::numeric::money,
       md5(g::text)::char(3), ARRAY[md5(g::text)::char(3)], ARRAY[(g % 16)::int::bit(4)], md5(g::text)::char(3),
       chr((g % 50 + 64)::int)::"char", md5(g::text)::name, (ARRAY['z', 'ä', 'A', 'Z', 'b'])[g % 5 + 1], g::oid
FROM generate_series(1, 1000) AS g;
INSERT INTO things (id) SELECT g FROM generate_series(1001, 1200) AS g;
UPDATE things SET exact = 'NaN' WHERE id = 1001;
UPDATE things SET at = 'infinity', day = '-infinity', rate = 'Infinity' WHERE id = 1002;
"""

SINGLE = [
    *(f"{function}({column})" for function in ("sum", "avg") for column in ("small", "whole", "big", "rate", "span")),
    "sum(exact) FILTER (WHERE id <= 1000)",
    "avg(exact) FILTER (WHERE id <= 1000)",
    "sum(exact)",
    "avg(exact)",
    "sum(price)",
    *(
        f"{function}({column})"
        for function in ("min", "max")
        for column in (
            *("small", "whole", "big", "exact", "rate", "single"),
            *("name", "german", "code", "at", "day", "span", "ip", "price"),
            *("fixed", "fixeds", "flags", '"Odd"', "letter", "label", "short", "object"),
        )
    ),
    "count(*)",
    "count(name)",
    "count(*) FILTER (WHERE name < '8')",
    "max(german || 'x')",
    'min(name COLLATE "C")',
]


@pytest.fixture
def things(orders):
    # Not every build of PostgreSQL has ICU.
    query = "SELECT collname FROM pg_collation WHERE collname IN ('de-x-icu', 'C') ORDER BY collname DESC LIMIT 1"
    (collation,) = orders.execute(query).fetchone()
    orders.execute(SETUP.replace("{collation}", collation))
    return orders


def totals_by_ranges(worker, connection, source, texts, parts=7):
    aggregates = check_totals(connection, source, parse_totals(texts))
    one = worker(SqlTotals(aggregates), source=source)
    totals = Totals(SqlCombiner(aggregates, source), range(parts))
    for key_range in ranges(parts, rows=1_200):
        outcome = one(key_range)
        assert outcome.ok, outcome.failure
        totals.add(outcome)
    return totals.result(connection)


def test_totals_equal_one_query(worker, things):
    totals = totals_by_ranges(worker, things, Source("public", "things"), {text: text for text in SINGLE})
    columns = ", ".join(f"({text})::text" for text in SINGLE)
    expected = dict(zip(SINGLE, things.execute(f"SELECT {columns} FROM things").fetchone(), strict=True))
    assert {text: as_text(total) for text, total in totals.items()} == expected | {"row_count": "1200"}


@pytest.mark.parametrize("column", ["single", "ranked"])
def test_an_average_of_real_is_summed_up_in_double_precision(worker, orders, column):
    # 2**24 + 1 is no real: the ones would all be lost.
    orders.execute("CREATE DOMAIN rank AS real CHECK (value > 0)")
    value = "CASE WHEN id = 1 THEN 16777216 ELSE 1 END"
    orders.execute(
        f"CREATE TABLE things AS SELECT id, ({value})::real AS single, ({value})::rank AS ranked FROM orders"
    )
    text = f"avg({column}) FILTER (WHERE id % 2 = 1)"
    totals = totals_by_ranges(worker, orders, Source("public", "things"), {"mean": text}, parts=1)
    (expected,) = orders.execute(f"SELECT {text} FROM things").fetchone()
    assert float(totals["mean"]) == expected == (16777216 + 499) / 500


def test_totals_of_floats_do_not_depend_on_the_ranges(worker, orders):
    orders.execute("""
        CREATE TABLE things AS SELECT id, (random() * 1000)::real AS single, random() * 10 ^ (id % 40 - 20) AS double,
            CASE id WHEN 3 THEN 1e300 WHEN 997 THEN -1e300 ELSE 1e-300 END::float8 AS far,
            CASE id WHEN 500 THEN 'Infinity'::float8 ELSE 1 END AS endless,
            CASE id WHEN 1 THEN 'Infinity'::real WHEN 999 THEN '-Infinity' ELSE 1 END AS undefined
        FROM orders""")
    columns = ("single", "double", "far", "endless", "undefined")
    texts = {f"{function}({column})": f"{function}({column})" for function in ("sum", "avg") for column in columns}
    once, *others = (totals_by_ranges(worker, orders, Source("public", "things"), texts, n) for n in (1, 7, 50))
    assert str(once) == str(others[0]) == str(others[1])
    assert (str(once["sum(endless)"]), str(once["avg(undefined)"])) == ("inf", "nan")
    for column in columns[:3]:
        # Not Python's repr, which has a digit less where a bound of the interval is shorter.
        printed = [Decimal(text) for (text,) in orders.execute(f"SELECT {column}::float8::text FROM things")]
        total = sum(map(Fraction, printed))
        assert once[f"sum({column})"] == float(total)
        assert once[f"avg({column})"] == float(total / len(printed))


DOMAINS = {"small": "smallint", "whole": "whole", "big": "bigint", "exact": "numeric", "rate": "double precision"}


@pytest.mark.parametrize("condition", ["TRUE", "FALSE", "a_big IS NULL"])
def test_totals_of_a_domain_are_those_of_its_base_type(worker, orders, condition):
    orders.execute("CREATE TABLE things (id bigint); CREATE DOMAIN whole AS integer")
    for name, base in DOMAINS.items():
        orders.execute(
            f"CREATE DOMAIN of_{name} AS {base} CHECK (VALUE > 0); ALTER TABLE things ADD b_{name} of_{name}"
        )
        orders.execute(f"ALTER TABLE things ADD a_{name} {base.replace('whole', 'integer')}")
    columns = ", ".join(f"b_{name}, a_{name}" for name in DOMAINS)
    values = ", ".join(["id / 3.0 + 1"] * 2 * len(DOMAINS))
    orders.execute(f"INSERT INTO things (id, {columns}) SELECT id, {values} FROM orders WHERE id % 9 > 0")
    orders.execute("INSERT INTO things SELECT id FROM orders WHERE id % 9 = 0")
    source = Source("public", "things", where=condition)
    kinds = [f"{function}({{}}_{name})" for function in ("count", "sum", "avg", "min", "max") for name in DOMAINS]
    ours, base = (
        totals_by_ranges(worker, orders, source, {kind: kind.format(letter) for kind in kinds}) for letter in "ba"
    )
    assert {name: (value, type(value)) for name, value in ours.items()} == {
        name: (value, type(value)) for name, value in base.items()
    }


def test_the_minimum_of_an_oid_is_an_int(worker, orders):
    source = Source("public", "orders")
    texts = {"table": "max(tableoid)", "class": "min(tableoid::regclass)"}
    (oid,) = orders.execute("SELECT 'orders'::regclass::oid").fetchone()
    totals = totals_by_ranges(worker, orders, source, texts)
    assert totals == {"row_count": 1_000, "table": oid, "class": oid}


def as_text(total):
    return {float("inf"): "Infinity"}.get(total, str(total))


def test_no_rows_have_totals_too(worker, things):
    source = Source("public", "things", where="id < 0")
    texts = {"n": "count(*)", "total": "sum(exact)", "whole": "sum(big)", "span": "sum(span)", "last": "max(name)"}
    totals = totals_by_ranges(worker, things, source, texts)
    assert totals == {"row_count": 0, "n": 0, "total": 0, "whole": 0, "span": "00:00:00", "last": None}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sum(amout)", 'column "amout" does not exist'),
        ("sum(sum(amount))", "cannot be nested"),
        ("sum(id || 'x')", "function sum"),
        ("sum(amount); DROP TABLE orders", "after its aggregate"),
        ("max(1 / 0)", "division by zero"),
    ],
)
def test_a_total_that_the_server_rejects_is_named(orders, text, problem):
    with pytest.raises(InvalidParameterError, match=problem) as error:
        check_totals(orders, ORDERS, parse_totals({"x": text}))
    assert error.value.parameter == "totals"


@pytest.mark.parametrize("where", ["amount >", "nothing = 1", "amount > 0) OR (TRUE", "count(*) > 1"])
def test_a_condition_that_the_server_rejects_is_named(orders, where):
    with pytest.raises(InvalidParameterError) as error:
        check_source(orders, Source("public", "orders", where=where))
    assert error.value.parameter == "where"


def test_a_missing_column_is_named(orders):
    with pytest.raises(InvalidParameterError, match='column "amout" does not exist') as error:
        check_source(orders, Source("public", "orders", ("id", "amout")))
    assert error.value.parameter == "columns"


@pytest.mark.parametrize("name", ["x" * 64, "ä" * 32])
def test_a_name_that_the_server_would_shorten_is_refused(orders, name):
    check_source(orders, Source("public", "orders", {name[:-1]: "id"}))
    with pytest.raises(InvalidParameterError, match=r"of which PostgreSQL keeps only .* at most 63 bytes") as error:
        check_source(orders, Source("public", "orders", {name[:-1]: "id", name: "-id"}))
    assert error.value.parameter == "columns"


def test_the_condition_may_have_a_percent_sign_and_a_comment(worker, orders):
    source = Source("public", "orders", where="amount::text LIKE '%5' AND id % 2 = 1 -- all of it")
    totals = totals_by_ranges(worker, orders, source, {"n": "count(*)"})
    assert totals["n"] == 100


def test_null_keys_are_a_range_of_their_own(worker, orders):
    orders.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey; ALTER TABLE orders ALTER id DROP NOT NULL")
    orders.execute("UPDATE orders SET id = NULL WHERE id <= 3")
    one = worker(SqlTotals(()))
    counts = [one(key_range).row_count for key_range in (KeyRange(KEY, 0), KeyRange(KEY, 1, nulls=True))]
    assert counts == [1000, 3]
