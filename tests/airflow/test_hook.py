"""BurlaHook: read an Airflow connection, and test it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from burla_provider.exceptions import ClusterUnreachableError, InvalidParameterError
from burla_provider.hooks.burla import BurlaHook, read_engine
from burla_provider.hooks.connection_form import CONNECTION_FIELDS


def connection(**fields: Any) -> Connection:
    return Connection(conn_id="c", conn_type="burla", **fields)


def use_connection(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    monkeypatch.setattr(BurlaHook, "get_connection", classmethod(lambda cls, conn_id: connection(**fields)))


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://burla.example.com"}, "https://burla.example.com"),
        ({"host": "https://burla.example.com/"}, "https://burla.example.com"),
        ({"host": " burla.example.com/ \n", "port": 443}, "https://burla.example.com:443"),
        ({"host": " "}, None),
        ({"host": "burla.example.com"}, "https://burla.example.com"),
        ({"host": "http://localhost:5001"}, "http://localhost:5001"),
        ({"host": "http://localhost", "port": 5001}, "http://localhost:5001"),
        ({"host": "localhost", "schema": "http", "port": 5001}, "http://localhost:5001"),
        ({"host": "http://localhost:5001", "port": 80}, "http://localhost:5001"),
        ({"host": "http://localhost:5001", "port": 0}, "http://localhost:5001"),
        ({"host": "http://[::1]", "port": 5001}, "http://[::1]:5001"),
        ({}, None),
    ],
)
def test_the_url_is_read_from_every_form_of_the_connection(fields: dict[str, Any], url: str | None) -> None:
    assert read_engine(connection(**fields)).url == url


def test_engine_project_interpreter_and_telemetry_are_read_from_the_extra() -> None:
    extra = '{"engine": "local", "project_id": "p", "python": "/opt/burla/bin/python", "telemetry": true}'
    engine = read_engine(connection(extra=extra))
    assert (engine.name, engine.project_id, engine.python, engine.telemetry) == (
        "local",
        "p",
        "/opt/burla/bin/python",
        True,
    )


def test_the_defaults_are_the_burla_engine_and_no_telemetry() -> None:
    engine = read_engine(connection())
    assert (engine.name, engine.telemetry) == ("burla", False)
    form = {
        name: field["schema"]["default"] for name, field in CONNECTION_FIELDS.items() if "default" in field["schema"]
    }
    assert read_engine(connection(extra=json.dumps(form))) == engine
    assert set(form) == {"engine", "telemetry"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extra": '{"engine": "spark"}'}, "^engine: unknown engine 'spark'. Use 'burla' or 'local'"),
        ({"extra": '{"enigne": "local"}'}, "^extra: unknown field 'enigne'"),
        ({"extra": "engine=local"}, "^extra: is not a JSON object. Write it as in "),
        ({"extra": '["local"]'}, "^extra: is not a JSON object"),
        ({"extra": "null"}, "^extra: is not a JSON object"),
        ({"login": "me@example.com"}, "^password: must be set, because login is set"),
        ({"password": "t0ken"}, "^login: must be set, because password is set"),
        ({"login": " \n", "password": "t0ken"}, "^login: must be set, because password is set"),
        ({"login": "me@example.com", "password": "t0\nken"}, "^password: contains a line break"),
        ({"login": "me@exa\rmple.com", "password": "t0ken"}, "^login: contains a line break"),
        ({"extra": '{"telemetry": "yes"}'}, "^telemetry: must be a boolean, got 'yes'. Use true or false"),
        ({"extra": '{"telemetry": 2}'}, "^telemetry: must be a boolean, got 2"),
        ({"extra": '{"telemetry": [true]}'}, "^telemetry: must be a boolean, got .*True"),
        ({"extra": '{"engine": true}'}, "^engine: must be a string, got True"),
        ({"extra": '{"python": ["python"]}'}, "^python: must be a string, got .*'python'"),
        ({"host": "https://me:t0ken@burla.example.com"}, "^host: the URL contains credentials. Set login"),
        ({"host": "https://burla.example.com:port"}, "^host: is not a URL, or its port is not a number"),
        ({"host": "https://me:t0#ken@burla.example.com"}, "^host: is not a URL, or its port"),
        ({"host": "burla.example.com:99999", "port": 443}, "^host: is not a URL, or its port"),
        ({"host": "::1", "port": 443}, "^host: is not a URL, or its port"),
        ({"host": "https://[::1"}, "^host: is not a URL, or its port"),
        ({"host": "burla.example.com", "port": 99999}, "^port: must be a number from 1 to 65535, got 99999"),
        ({"host": "burla.example.com", "port": -1}, "^port: must be a number from 1 to 65535, got -1"),
    ],
)
def test_the_error_names_the_field_that_cannot_be_used(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message) as raised:
        read_engine(connection(**fields))
    assert "t0" not in str(raised.value)


def test_the_error_of_a_task_names_the_connection_and_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    use_connection(monkeypatch, login="me@example.com")
    with pytest.raises(
        InvalidParameterError, match=r"^connection 'c', password: must be set, because login is set\. Use "
    ):
        BurlaHook("c").engine  # noqa: B018


def test_the_interpreter_is_named_as_a_field_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    use_connection(monkeypatch, extra='{"python": "/no/such/python"}')
    assert BurlaHook("c").engine.python_parameter == "connection 'c', python"


def test_whitespace_around_login_and_password_is_removed() -> None:
    engine = read_engine(connection(login=" me@example.com\n", password="t0ken\r\n"))
    assert (engine.email, engine.token) == ("me@example.com", "t0ken")


@pytest.mark.parametrize(
    ("telemetry", "expected"),
    [("true", True), ("True", True), ("false", False), ("False", False), ("", False)],
)
def test_the_extra_of_a_uri_is_parsed_from_text(telemetry: str, expected: bool) -> None:
    uri = f"burla://burla.example.com?engine=local&project_id=7&telemetry={telemetry}"
    engine = read_engine(Connection.from_uri(uri, conn_id="c"))
    assert (engine.name, engine.project_id, engine.telemetry) == ("local", "7", expected)


@pytest.mark.parametrize(
    ("telemetry", "expected"),
    [("true", True), ("1", True), ("false", False), ("0", False), ("null", False), ('"false"', False)],
)
def test_telemetry_can_be_a_boolean_or_text(telemetry: str, expected: bool) -> None:
    assert read_engine(connection(extra=f'{{"telemetry": {telemetry}}}')).telemetry is expected


def test_the_token_is_not_in_the_engines_repr() -> None:
    engine = read_engine(connection(login="me@example.com", password="t0ken-of-mine"))
    assert "t0ken-of-mine" not in repr(engine)


def test_the_interpreter_of_the_operator_overrides_that_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    use_connection(monkeypatch)
    assert BurlaHook("c", python="/opt/python").engine.python == "/opt/python"


@pytest.mark.parametrize(
    ("fields", "succeeds", "text"),
    [
        ({"extra": '{"engine": "local"}'}, True, "local"),
        ({"host": "http://127.0.0.1:9"}, False, "127.0.0.1:9"),
        ({"host": "http://burla.example.com"}, False, "https"),
    ],
)
def test_test_connection_returns_a_text(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], succeeds: bool, text: str
) -> None:
    use_connection(monkeypatch, **fields)
    status, message = BurlaHook("c").test_connection()
    assert status is succeeds
    assert text in message


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"extra": '{"engine": "spark"}'}, "engine: unknown engine"),
        ({"login": "me@example.com"}, "password: must be set"),
        ({"host": "http://burla.example.com"}, "host: http://burla.example.com would send"),
        ({"host": "https://burla.example.com:port"}, "host: is not a URL, or its port is not a number"),
        ({"host": "burla.example.com", "port": 99999}, "port: must be a number"),
        ({}, "host: is missing, and no Burla login is saved on this machine. Set it to "),
    ],
)
def test_the_error_of_test_connection_names_the_field_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fields: dict[str, Any], start: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("BURLA_CLUSTER_DASHBOARD_URL", raising=False)
    use_connection(monkeypatch, **fields)
    status, message = BurlaHook("c").test_connection()
    assert status is False
    assert message.startswith(start)


def test_the_login_of_a_task_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"login": "me@example.com", "password": "t0ken"}
    use_connection(monkeypatch, host="http://127.0.0.1:9", **login)
    with pytest.raises(ClusterUnreachableError, match=r"^No response from http://127\.0\.0\.1:9 "):
        BurlaHook("c").check_login()
    use_connection(monkeypatch, host="http://burla.example.com", **login)
    with pytest.raises(InvalidParameterError, match=r"^connection 'c', host: http://burla\.example\.com would send"):
        BurlaHook("c").check_login()
