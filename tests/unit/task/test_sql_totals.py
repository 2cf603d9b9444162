import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.sql_totals import parse_totals


def parse(text):
    (aggregate,) = parse_totals({"x": text})
    return aggregate.function, aggregate.argument, aggregate.filter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum(amount)", ("sum", "amount", None)),
        (" SUM ( amount ) ", ("sum", "amount", None)),
        ("count(*)", ("count", "*", None)),
        ("max((a + b) * 2)", ("max", "(a + b) * 2", None)),
        ("min(')')", ("min", "')'", None)),
        ("min('it''s )')", ("min", "'it''s )'", None)),
        (r"min(E'\') ')", ("min", r"E'\') '", None)),
        ('max("odd ) name")', ("max", '"odd ) name"', None)),
        ("max($$ ) $$ || $a$ ) $$ $a$)", ("max", "$$ ) $$ || $a$ ) $$ $a$", None)),
        ("sum(a /* ) */ + b -- )\n)", ("sum", "a /* ) */ + b -- )", None)),
        ("sum(a /* /* ) */ ) */ + b -- )\r)", ("sum", "a /* /* ) */ ) */ + b -- )", None)),
        ("count(ALL x)", ("count", "x", None)),
        ("sum(all(x))", ("sum", "(x)", None)),
        ("count(/* each */ all -- of\n x)", ("count", "x", None)),
        ("count(all_of_it)", ("count", "all_of_it", None)),
        ("-- rows\ncount /* ( */ ( * -- )\n) -- done", ("count", "*", None)),
        ("count(*) /* ( */ FILTER -- (\n ( /* ) */ WHERE a)", ("count", "*", " a")),
        ("max(note')')", ("max", "note')'", None)),
        (r"max(note'\')", ("max", r"note'\'", None)),
        (r"max(U&'\' || u&\")\")", ("max", r"U&'\' || u&\")\"", None)),
        ("max(a$b$ || ')' || c$b$)", ("max", "a$b$ || ')' || c$b$", None)),
        ("max(ä$$ || $ä$)$ä$)", ("max", "ä$$ || $ä$)$ä$", None)),
        ("avg(x) FILTER (WHERE y > (1))", ("avg", "x", " y > (1)")),
        ("count(*) filter(where name = ')')", ("count", "*", " name = ')'")),
    ],
)
def test_an_aggregate_is_parsed(text, expected):
    assert parse(text) == expected


def test_a_backslash_escapes_if_standard_conforming_strings_is_off():
    text = r"max('\') ' || a)"
    (aggregate,) = parse_totals({"x": text}, escapes=True)
    assert aggregate.argument == r"'\') ' || a"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stddev(amount)", "not an aggregate that can be combined"),
        ("amount", "not an aggregate that can be combined"),
        ("sum(a) / count(*)", r"has '/ count\(\*\)' after its aggregate"),
        ("sum(a) OVER ()", "after its aggregate"),
        ("sum(a) FILTER (WHERE b) + 1", "after its aggregate"),
        ("sum(a", "a bracket or a quote is not closed"),
        ("sum(a ')", "a bracket or a quote is not closed"),
        ("sum(a /* /* */ )", "a bracket or a quote is not closed"),
        ("sum(a $b$ )", "a bracket or a quote is not closed"),
        ("count(/* each */ DISTINCT a)", "two ranges may have the same distinct values"),
        ("count(*) FILTER (a)", "after its aggregate"),
        ("count(DISTINCT a)", "two ranges may have the same distinct values"),
        ("", "not an aggregate that can be combined"),
    ],
)
def test_other_expressions_are_refused(text, problem):
    with pytest.raises(InvalidParameterError, match=problem) as error:
        parse_totals({"x": text})
    assert error.value.parameter == "totals"


def test_empty_totals_are_refused():
    with pytest.raises(InvalidParameterError, match="empty"):
        parse_totals({})
