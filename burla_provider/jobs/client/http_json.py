"""Send HTTP requests to a cluster's API, with the standard library only.

``cluster_api.py`` imports this file; ``burla_engine.py`` loads it by path.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def request_json(method: str, url: str, headers: Mapping[str, str], timeout: float) -> tuple[int, Any]:
    """Send a request and decode the response.

    :param timeout: maximum seconds of each wait for the network.
    :returns: the HTTP status, and the decoded body; None if it is not JSON, such as a login page.
    :raises OSError: if there is no response, or only a part of it.
    """
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310 - checked by the caller
    try:
        with _open(request, timeout) as response:
            return response.status, _decode(response.read())
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects. Only the same server gets the login, or the same host with encryption."""

    def redirect_request(self, req: urllib.request.Request, *answer: Any) -> urllib.request.Request | None:
        new = super().redirect_request(req, *answer)
        if new is not None:
            before, after = urlsplit(req.full_url), urlsplit(new.full_url)
            is_encrypted = after.scheme == "https" and after.hostname == before.hostname
            if not is_encrypted and (after.scheme, after.netloc) != (before.scheme, before.netloc):
                new.headers.clear()
        return new


def _open(request: urllib.request.Request, timeout: float) -> Any:
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:  # a response too
        return error


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
