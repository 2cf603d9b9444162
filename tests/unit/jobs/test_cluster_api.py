"""Requests to a cluster's API, which a real HTTP server imitates."""

from __future__ import annotations

import json
import socket
import threading
import traceback
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from burla_provider.exceptions import ClusterUnauthorizedError, ClusterUnreachableError, InvalidParameterError
from burla_provider.jobs import cluster_api
from burla_provider.jobs.cluster_api import check_login
from burla_provider.jobs.job import Engine

check_cluster = partial(cluster_api.check_cluster, timeout=60)  # a busy machine may respond late

VERSION = {"version": "1.8.4", "project": "p", "namespace": "n"}


def state(ready=0, busy=0, booting=0):
    return {"ready_nodes": [{}] * ready, "running_count": busy, "booting_count": booting}


@pytest.fixture
def api():
    """A server. Set ``responses``: path -> (status, body), or a list of them, of which the last one stays.

    Read ``requests``: (method, path, headers).
    """

    class Handler(BaseHTTPRequestHandler):
        def respond(self):
            server.requests.append((self.command, self.path, dict(self.headers)))
            found = server.responses.get(self.path, (404, {"detail": "Not Found"}))
            if isinstance(found, list):
                found = found.pop(0) if len(found) > 1 else found[0]
            status, body = found
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        do_GET = do_POST = respond

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.responses = {"/version": (200, VERSION)}
        server.requests = []
        server.engine = Engine(url=f"http://127.0.0.1:{server.server_port}", email="a@example.com", token="t0ken")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine may respond late."""
    monkeypatch.setattr(cluster_api, "_CHECK_SECONDS", 60)


@pytest.fixture(autouse=True)
def config_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("BURLA_CLUSTER_DASHBOARD_URL", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (state(ready=1), "Burla 1.8.4, 1 node ready"),
        (state(ready=2, busy=3), "Burla 1.8.4, 2 nodes ready, 3 busy"),
        (state(booting=4), "Burla 1.8.4, 0 nodes ready, 4 booting"),
    ],
)
def test_the_state_of_the_cluster_is_described(api, nodes, text):
    api.responses["/v1/cluster/state"] = (200, nodes)
    assert check_cluster(api.engine) == text


def test_the_local_engine_is_on_the_machine_of_the_task():
    assert "on the machine of the task." in check_cluster(Engine(name="local"))


def test_requests_carry_the_login(api):
    api.responses["/v1/cluster/state"] = (200, state())
    check_cluster(api.engine)
    assert {(headers["Authorization"], headers["X-User-Email"]) for _, _, headers in api.requests} == {
        ("Bearer t0ken", "a@example.com")
    }


@pytest.mark.parametrize("answer", [(200, b"<html>log in</html>"), (401, {}), (403, b"no")])
def test_a_refused_login_is_its_own_error(api, answer):
    api.responses["/version"] = answer
    with pytest.raises(ClusterUnauthorizedError, match="Check login") as raised:
        check_cluster(api.engine)
    assert "t0ken" not in str(raised.value)


@pytest.mark.parametrize("token", ["s3cret\n", "s3cret\r\nmore", "s3cret\N{HORIZONTAL ELLIPSIS}"])
def test_a_token_with_invalid_characters_is_refused_and_not_shown(api, token):
    with pytest.raises(InvalidParameterError, match="login or password: one of them contains a line break") as raised:
        check_cluster(replace(api.engine, token=token))
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("answer", [(500, b"broken"), (404, b"nothing here"), (502, {})])
def test_a_server_that_is_not_a_cluster_is_unreachable(api, answer):
    api.responses["/version"] = answer
    with pytest.raises(ClusterUnreachableError):
        check_cluster(api.engine)


def test_a_closed_port_is_unreachable():
    with pytest.raises(ClusterUnreachableError, match="Connection refused"):
        check_cluster(Engine(url="http://127.0.0.1:9"))


def test_a_server_that_does_not_speak_http_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=send_greeting, args=[server], daemon=True).start()
        with pytest.raises(ClusterUnreachableError, match="220 mail"):
            check_cluster(Engine(url=f"http://127.0.0.1:{server.getsockname()[1]}"))


def send_greeting(server):
    connection, _ = server.accept()
    with connection:
        connection.recv(1_000)
        connection.sendall(b"220 mail.example.com\r\n")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://burla.example.com", "unencrypted"),
        ("burla.example.com", "is not an http:// or https:// URL"),
        ("ftp://localhost", "is not an http:// or https:// URL"),
        ("https://user:secret@burla.example.com", "contains credentials"),
        ("http://localhost/caf\N{LATIN SMALL LETTER E WITH ACUTE}", "^host, login or password: one of them contains"),
    ],
)
def test_an_invalid_url_is_refused_without_a_request(url, problem):
    with pytest.raises(InvalidParameterError, match=problem) as raised:
        check_cluster(Engine(url=url))
    assert "secret" not in str(raised.value)


def test_the_local_engine_needs_no_cluster():
    assert check_cluster(Engine("local")).startswith("The local engine")


def test_without_a_host_the_saved_login_is_used(api, config_home):
    (config_home / "burla").mkdir()
    login = {"email": "b@example.com", "auth_token": "saved", "cluster_dashboard_url": api.engine.url}
    (config_home / "burla" / "burla_credentials.json").write_text(json.dumps(login))
    api.responses["/v1/cluster/state"] = (200, state(ready=1))
    assert check_cluster(Engine()) == "Burla 1.8.4, 1 node ready"
    assert api.requests[0][2]["Authorization"] == "Bearer saved"


def test_without_a_host_and_a_login_the_error_says_what_to_fill_in():
    with pytest.raises(InvalidParameterError, match="host: is missing, and no Burla login is saved on this machine"):
        check_cluster(Engine())


def test_a_login_without_a_host_is_refused():
    with pytest.raises(InvalidParameterError, match="host: is missing"):
        check_cluster(Engine(email="a@example.com", token="secret"))


def test_a_server_with_other_answers_is_not_a_cluster(api):
    api.responses["/version"] = (200, {"hello": "world"})
    with pytest.raises(ClusterUnreachableError, match="is not a Burla cluster"):
        check_cluster(api.engine)


# Before a task does anything else


def test_a_login_that_the_cluster_accepts_costs_one_request(api):
    api.responses["/v1/cluster/state"] = (200, state())
    check_login(api.engine)
    assert [path for _, path, _ in api.requests] == ["/v1/cluster/state"]


@pytest.mark.parametrize("answer", [(401, {}), (403, {}), (200, b"<html>log in</html>")])
def test_a_wrong_token_is_found_at_once(api, answer):
    api.responses["/v1/cluster/state"] = answer
    with pytest.raises(ClusterUnauthorizedError, match="refused the login") as raised:
        check_login(api.engine)
    assert len(api.requests) == 1
    assert "t0ken" not in str(raised.value)


def test_a_cluster_that_does_not_respond_is_tried_three_times(api):
    api.responses["/v1/cluster/state"] = (502, {})
    with pytest.raises(ClusterUnreachableError, match="HTTP 502"):
        check_login(api.engine)
    assert len(api.requests) == 3


def test_a_cluster_that_responds_late_is_accepted(api):
    api.responses["/v1/cluster/state"] = [(404, {"detail": "Not Found"}), (200, state())]
    check_login(api.engine)
    assert len(api.requests) == 2


def test_a_host_that_never_responds_is_given_up_after_three_requests(monkeypatch):
    monkeypatch.setattr(cluster_api, "_CHECK_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ClusterUnreachableError, match="timed out"):
            check_login(Engine(url=f"http://127.0.0.1:{server.getsockname()[1]}", email="a@example.com", token="t0ken"))
        server.setblocking(False)
        for _ in range(3):
            server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_host_to_which_the_token_would_go_unencrypted_gets_no_request():
    with pytest.raises(InvalidParameterError, match="unencrypted"):
        check_login(Engine(url="http://burla.example.com", email="a@example.com", token="t0ken"))


@pytest.mark.parametrize(
    "engine",
    [Engine("local", url="http://127.0.0.1:9", email="a", token="t"), Engine(url="http://127.0.0.1:9"), Engine()],
    ids=["local", "no login", "no host"],
)
def test_a_connection_without_a_host_or_a_login_is_left_to_burla(engine):
    check_login(engine)
