from psycopg import sql

from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.source import Source

KEY = Key((KeyColumn("id", "bigint"),))


def test_a_range_is_selected_by_its_bounds():
    query = Source("s", "t", ("a", "b")).select(sql.SQL("count(*)"), KeyRange(KEY, 0, ("1",), ("5",)))
    assert (
        query.as_string()
        == """SELECT count(*) FROM  "s"."t" WHERE ("id" >= '1'::bigint AND "id" < '5'::bigint) AND TRUE"""
    )


def test_a_partition_is_read_alone():
    query = Source("s", "t").select(sql.SQL("1"), KeyRange(KEY, 0, relation=("s", "t_1")))
    assert 'FROM ONLY "s"."t_1"' in query.as_string()


def test_a_comment_in_the_condition_does_not_reach_the_rest_of_the_query():
    query = Source("s", "t", where="a > 0 -- positive").select(sql.SQL("1"), KeyRange(KEY, 0))
    assert query.as_string().endswith("(\na > 0 -- positive\n)")


def test_names_are_quoted():
    assert Source("s", 'o"dd', ('c"ol',)).column_list.as_string() == '"c""ol"'


def test_no_columns_are_all_columns():
    assert Source("s", "t").column_list.as_string() == "*"
