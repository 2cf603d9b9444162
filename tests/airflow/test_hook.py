"""BurlaHook: from an Airflow connection to an engine."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Connection

from burla_provider.exceptions import InvalidParameterError
from burla_provider.hooks.burla import BurlaHook, read_engine


def connection(**fields: Any) -> Connection:
    return Connection(conn_id="c", conn_type="burla", **fields)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://burla.example.com"}, "https://burla.example.com"),
        ({"host": "https://burla.example.com/"}, "https://burla.example.com"),
        ({"host": "burla.example.com"}, "https://burla.example.com"),
        ({"host": "http://localhost:5001"}, "http://localhost:5001"),
        ({"host": "http://localhost", "port": 5001}, "http://localhost:5001"),
        ({"host": "localhost", "schema": "http", "port": 5001}, "http://localhost:5001"),
        ({"host": "http://localhost:5001", "port": 80}, "http://localhost:5001"),
        ({"host": "http://localhost:5001", "port": 0}, "http://localhost:5001"),
        ({}, None),
    ],
)
def test_the_head_is_found_however_the_connection_spells_it(fields: dict[str, Any], url: str | None) -> None:
    assert read_engine(connection(**fields)).url == url


def test_the_extra_says_engine_project_interpreter_and_telemetry() -> None:
    extra = '{"engine": "local", "project_id": "p", "python": "/opt/burla/bin/python", "telemetry": true}'
    engine = read_engine(connection(extra=extra))
    assert (engine.name, engine.project_id, engine.python, engine.telemetry) == (
        "local",
        "p",
        "/opt/burla/bin/python",
        True,
    )


def test_the_defaults_are_the_cluster_and_no_telemetry() -> None:
    engine = read_engine(connection())
    assert (engine.name, engine.telemetry) == ("burla", False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extra": '{"engine": "spark"}'}, "'c', engine: unknown engine 'spark'. Use 'burla' or 'local'"),
        ({"extra": '{"enigne": "local"}'}, "unknown field 'enigne'"),
        ({"login": "me@example.com"}, "'c', password: must be set, because login is set"),
        ({"password": "t0ken"}, "'c', login: must be set, because password is set"),
        ({"login": " \n", "password": "t0ken"}, "'c', login: must be set, because password is set"),
        ({"login": "me@example.com", "password": "t0\nken"}, "'c', password: contains a line break"),
        ({"login": "me@exa\rmple.com", "password": "t0ken"}, "'c', login: contains a line break"),
        ({"extra": '{"telemetry": "yes"}'}, "'c', telemetry: must be a boolean, got 'yes'. Use true or false"),
        ({"extra": '{"telemetry": 2}'}, "'c', telemetry: must be a boolean, got 2"),
        ({"extra": '{"telemetry": [true]}'}, "'c', telemetry: must be a boolean, got .*True"),
        ({"extra": '{"engine": true}'}, "'c', engine: must be a string, got True"),
        ({"extra": '{"python": ["python"]}'}, "'c', python: must be a string, got .*'python'"),
    ],
)
def test_what_the_connection_cannot_mean_is_refused_by_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message) as raised:
        read_engine(connection(**fields))
    assert "t0" not in str(raised.value)


def test_a_login_that_was_pasted_with_its_line_break_is_the_login() -> None:
    engine = read_engine(connection(login=" me@example.com\n", password="t0ken\r\n"))
    assert (engine.email, engine.token) == ("me@example.com", "t0ken")


@pytest.mark.parametrize(
    ("telemetry", "on"),
    [("true", True), ("True", True), ("false", False), ("False", False), ("", False)],
)
def test_in_a_uri_the_extra_is_text_and_means_what_it_says(telemetry: str, on: bool) -> None:
    uri = f"burla://burla.example.com?engine=local&project_id=7&telemetry={telemetry}"
    engine = read_engine(Connection.from_uri(uri, conn_id="c"))
    assert (engine.name, engine.project_id, engine.telemetry) == ("local", "7", on)


@pytest.mark.parametrize(
    ("telemetry", "on"),
    [("true", True), ("1", True), ("false", False), ("0", False), ("null", False), ('"false"', False)],
)
def test_telemetry_in_json_is_a_boolean_or_what_stands_for_one(telemetry: str, on: bool) -> None:
    assert read_engine(connection(extra=f'{{"telemetry": {telemetry}}}')).telemetry is on


def test_the_token_is_not_in_the_engines_repr() -> None:
    engine = read_engine(connection(login="me@example.com", password="t0ken-of-mine"))
    assert "t0ken-of-mine" not in repr(engine)


def test_the_operators_interpreter_takes_the_place_of_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BurlaHook, "get_connection", classmethod(lambda cls, conn_id: connection()))
    assert BurlaHook("c", python="/opt/python").engine.python == "/opt/python"


@pytest.mark.parametrize(
    ("fields", "good", "words"),
    [
        ({"extra": '{"engine": "local"}'}, True, "local"),
        ({"host": "http://127.0.0.1:9"}, False, "127.0.0.1:9"),
        ({"host": "http://burla.example.com"}, False, "https"),
    ],
)
def test_testing_the_connection_answers_in_words(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], good: bool, words: str
) -> None:
    monkeypatch.setattr(BurlaHook, "get_connection", classmethod(lambda cls, conn_id: connection(**fields)))
    answer, message = BurlaHook("c").test_connection()
    assert answer is good
    assert words in message
