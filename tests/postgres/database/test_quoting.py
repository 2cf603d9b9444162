"""SQL without a percent sign means the same with and without parameters, in any encoding."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from burla_provider.database.quoting import Identifier, Literal, type_name

TEXT = st.text(st.sampled_from("%%%\\\"'.\nsE0ö漢表ソ "), min_size=1, max_size=12)


@pytest.fixture(params=["UTF8", "LATIN1", "EUC_JP"])
def encoded(request, postgres_server):
    with postgres_server.database(encoding=request.param) as conninfo:
        yield conninfo, request.param


@pytest.mark.parametrize("client", ["UTF8", "SJIS"])
@pytest.mark.parametrize("conforming", ["on", "off"])
def test_names_and_values_are_the_same_with_and_without_parameters(encoded, client: str, conforming: str) -> None:
    conninfo, server = encoded
    if (client, server) == ("SJIS", "LATIN1"):
        pytest.skip("PostgreSQL does not convert between these.")

    with psycopg.connect(conninfo, autocommit=True, client_encoding=client) as connection:
        connection.execute(sql.SQL("SET standard_conforming_strings = {}").format(sql.SQL(conforming)))
        connection.execute("SET escape_string_warning = off")

        @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(name=TEXT, value=TEXT)
        def check(name: str, value: str) -> None:
            for text in (name, value):
                for codec in {"UTF8": "utf-8", "SJIS": "shift_jis"}[client], {"EUC_JP": "euc_jp"}.get(server, server):
                    if text.encode(codec, "replace").decode(codec) != text:
                        return
            query = sql.SQL("SELECT {} AS {}").format(Literal(value), Identifier(name))
            assert "%" not in query.as_string(connection)
            assert "%" not in query.as_string()
            for parameters in (None, ()):
                cursor = connection.execute(query, parameters)
                assert (cursor.description[0].name, cursor.fetchone()[0]) == (name, value)

        check()


def test_a_type_whose_name_has_a_percent_sign_is_found(connection) -> None:
    connection.execute("""CREATE SCHEMA "s%"; CREATE TYPE "s%"."a%\\ ""b" AS ENUM ('50%')""")
    oid = connection.execute("SELECT oid FROM pg_type WHERE typname LIKE 'a%b'").fetchone()[0]
    (name,) = connection.execute("SELECT format_type(%s, -1)", [oid]).fetchone()
    query = sql.SQL("SELECT pg_typeof({}::{})::oid").format(Literal("50%"), type_name(name))
    for parameters in (None, ()):
        assert connection.execute(query, parameters).fetchone() == (oid,)
    assert type_name("numeric").as_string() == "numeric"
