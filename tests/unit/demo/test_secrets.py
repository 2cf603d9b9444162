"""The demo's settings do not print the cluster's token."""

from __future__ import annotations

from burla_provider.demo.__main__ import EngineSettings
from burla_provider.demo.cluster import Login


def test_the_token_is_not_printed() -> None:
    assert "hush" not in repr(Login("http://cluster", "me@example.com", "hush"))
    assert "hush" not in repr(EngineSettings("a cluster", {"password": "hush"}))
