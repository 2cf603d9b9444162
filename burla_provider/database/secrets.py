"""Keeping secrets out of what people see."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

SECRET_PARAMETERS = ("password", "sslpassword", "sslkey")
HIDDEN = "***"

_LEAST = 3  # hiding every "a" would leave nothing to read


def scrub(text: str, parameters: Mapping[str, str]) -> str:
    """``text`` without the secrets among the connection parameters, as they are and as a URL writes them."""
    for name in SECRET_PARAMETERS:
        secret = parameters.get(name, "")
        if len(secret) >= _LEAST:
            text = text.replace(secret, HIDDEN).replace(quote(secret, safe=""), HIDDEN)
    return text
