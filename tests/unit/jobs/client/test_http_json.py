"""Requests to a cluster whose head ends in the middle of a response, or redirects them."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

import pytest

from burla_provider.jobs.client.http_json import _Redirects, request_json


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\n",
    ],
)
def test_an_incomplete_response_is_no_response(response):
    def respond():
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(response)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=respond, daemon=True).start()
        with pytest.raises(OSError):  # noqa: PT011 (urllib has various subclasses)
            request_json("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", {}, 60)


@pytest.mark.parametrize(("host", "login"), [("127.0.0.1", "Bearer t0ken"), ("localhost", None)])
def test_a_redirect_to_another_host_gets_no_login(host, login):
    seen = []

    class Head(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers["Authorization"])
            self.send_response(302 if self.path == "/old" else 200)
            self.send_header("Location", f"http://{host}:{server.server_port}/new")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Head) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/old"
        assert request_json("GET", url, {"Authorization": "Bearer t0ken"}, 60) == (200, {})
        server.shutdown()
    assert seen == ["Bearer t0ken", login]


@pytest.mark.parametrize(
    ("old", "new", "is_sent"),
    [
        ("https://head.example.com", "https://head.example.com/", True),
        ("http://head", "https://head", True),
        ("https://head", "http://head", False),
        ("https://head", "https://head.example.com", False),
        ("http://head:5001", "http://head:5002", False),
    ],
)
def test_only_the_same_server_or_an_encrypted_one_of_the_same_host_gets_the_login(old, new, is_sent):
    request = Request(f"{old}/v1/nodes", headers={"Authorization": "Bearer t0ken"})
    redirected = _Redirects().redirect_request(request, None, 302, "Found", {}, f"{new}/v1/nodes")
    assert redirected.has_header("Authorization") is is_sent
