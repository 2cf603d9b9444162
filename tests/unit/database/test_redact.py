"""Every escaped form of a secret is replaced."""

from __future__ import annotations

import base64
import html
import json
import shlex
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo

from burla_provider.database.redact import redact

WRITERS = {
    "plain": str,
    "repr": repr,
    "ascii": ascii,
    "JSON": json.dumps,
    "JSON with letters": lambda text: json.dumps(text, ensure_ascii=False),
    "conninfo": lambda text: make_conninfo(password=text),
    "URL": lambda text: quote(text, safe=""),
    "URL with slashes": quote,
    "URL in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%C3", "%c3"),
    "form": quote_plus,
    "SQL": lambda text: sql.Literal(text).as_string(None),
    "placeholder": lambda text: text.replace("%", "%%"),
    "HTML": html.escape,
    "shell": shlex.quote,
    "bytes": lambda text: repr(text.encode()),
    "base64": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"a{text}".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
}
LETTERS = st.sampled_from("aZ09 '\"\\%/+&<>;@:=?$\t\n\réß€😀%2") | st.characters(codec="utf-8", exclude_characters="\0")
SECRETS = st.text(LETTERS, min_size=6, max_size=20).filter(lambda secret: len(set(secret) - set("'\"\\ \n\r*")) > 3)


@pytest.mark.parametrize("inner", WRITERS)
@settings(max_examples=20)
@given(secret=SECRETS, outer=st.sampled_from(["plain", "repr", "JSON", "conninfo", "SQL", "URL"]))
@example(secret="s3cret'pass%word&with+signs", outer="plain")
@example(secret='it\'s "50%"\\ né 😀', outer="repr")
@example(secret="%27%5c\\'x27abc", outer="URL")
def test_every_escaped_form_of_a_secret_is_replaced(inner: str, secret: str, outer: str) -> None:
    written = WRITERS[outer if inner != "HTML" else "plain"](WRITERS[inner](secret))
    shown = redact(f"<{written}>", {"password": secret})
    assert "***" in shown
    assert secret not in shown
    assert WRITERS[inner](secret) not in shown


def test_the_lines_of_a_key_are_replaced_separately_and_together() -> None:
    lines = ["-----BEGIN PRIVATE KEY-----", "MIIEvQIBADANBg/kqhkiG9w0+BAQEFAASCBKcwggSj" * 2, "c2VjcmV0"]
    key = "\n".join([*lines * 30, ""])
    for written in (key, repr(key), json.dumps(key), *lines):
        assert not any(line in redact(written, {"sslkey": key}) for line in lines)


def test_other_text_is_unchanged() -> None:
    text = "cannot connect to \"orders\": 50% of 'x27' \\ done"
    assert redact(text, {"password": "s3cret'\\%", "host": "orders"}) == text
    assert redact(text, {"password": "x"}) == text
