"""Replace secrets in text."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping

_SECRET_PARAMETERS = ("password", "sslpassword", "sslkey")
HIDDEN = "***"

_MIN_LENGTH = 3  # hiding every "a" would make the text unreadable
_MAX_LENGTH = 500  # for a key file, its lines are enough
# Repetitions are limited, so that the time is proportional to the length of the text.
_PERCENT = "%{1,4}(?:25){0,3}"  # escaped several times
_BACKSLASHES = rf"(?:\\|{_PERCENT}5c){{0,16}}"
_RUN = rf"""(?i:(?:[\\'"]|(?:{_PERCENT}|[xu](?:00)?)(?:22|27|5c)|&(?:quot|\#39|\#x27|apos);){{1,200}})"""
_SHORT = {"\b": "b", "\f": "f", "\t": "t", "\n": "n", "\r": "r"}
_OTHERS = {"&": ["&amp;"], "<": ["&lt;"], ">": ["&gt;"], " ": [r"\+", f"{_PERCENT}2b"]}


def redact(text: str, parameters: Mapping[str, str]) -> str:
    """Return ``text`` with the secrets among the connection parameters replaced by ``HIDDEN``.

    Escaped forms are replaced too: ``repr`` and ``ascii``, JSON, conninfo, SQL, URL, HTML, shell, base64, nested.
    """
    forms = [form for name in _SECRET_PARAMETERS for form in _forms(parameters.get(name, ""))]
    return re.sub("|".join(forms), HIDDEN, text) if forms else text


def join_secrets(*parameters: Mapping[str, str]) -> dict[str, str]:
    """Return parameters for ``redact`` with the secrets of several connections."""
    # Each line of a secret is replaced.
    return {name: "\n".join(given.get(name, "") for given in parameters) for name in _SECRET_PARAMETERS}


def _forms(secret: str) -> Iterator[str]:
    """Yield regular expressions for the secret, and for each of its lines, which may be printed separately."""
    for part in dict.fromkeys([secret, *secret.splitlines()]):
        if len(part) >= _MIN_LENGTH and (len(part) <= _MAX_LENGTH or "\n" not in part):
            # Escaping multiplies quotes and backslashes, so a run of them matches any other run.
            pieces = re.findall(r"""[\\'"]+|%+|[^\\'"%]""", part)
            form = f"(?i:{_BACKSLASHES})".join(map(_escaped, pieces))
            yield form.replace(f"(?i:{_BACKSLASHES}){_RUN}", _RUN).replace(f"{_RUN}(?i:{_BACKSLASHES})", _RUN)
            yield from _encoded(part.encode("utf-8", "surrogatepass"))


def _escaped(piece: str) -> str:
    """Return a pattern of every form of a character, or of a run of quotes or percent signs."""
    if piece.isascii() and piece.isalnum():
        return piece
    if piece[0] in "\\'\"":
        return _RUN
    if piece[0] == "%":
        return f"(?:%(?:25){{0,4}}){{{len(piece)},{2 * len(piece)}}}"
    utf8 = [f"{byte:02x}" for byte in piece.encode("utf-8", "surrogatepass")]
    utf16 = piece.encode("utf-16-be", "surrogatepass").hex()
    escapes = [
        "".join(_PERCENT + byte for byte in utf8),
        _BACKSLASHES.join(f"x{byte}" for byte in utf8),
        _BACKSLASHES.join(f"u{utf16[start : start + 4]}" for start in range(0, len(utf16), 4)),
        f"x{ord(piece):02x}",
        f"U{ord(piece):08x}",
        *_SHORT.get(piece, ""),
        *_OTHERS.get(piece, []),
    ]
    return f"(?:{re.escape(piece)}|(?i:{'|'.join(escapes)}))"


def _encoded(secret: bytes) -> Iterator[str]:
    """Yield patterns of the secret in hexadecimal, and in base64 at each offset within a group of three bytes."""
    yield f"(?i:{secret.hex()})"
    for before in range(3) if len(secret) >= 6 else ():
        text = b64encode(bytes(before) + secret).decode()
        inner = text[(0, 2, 3)[before] : (before + len(secret)) * 8 // 6]
        yield inner.replace("+", "(?:[+-]|%2B)").replace("/", "(?:[/_]|%2F)")
