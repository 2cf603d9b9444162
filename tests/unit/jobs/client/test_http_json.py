"""Requests to a cluster whose head ends in the middle of a response."""

from __future__ import annotations

import socket
import threading

import pytest

from burla_provider.jobs.client.http_json import request_json


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
            request_json("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", {}, 5)
