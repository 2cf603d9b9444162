"""Keeping secrets out of what people see."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping

SECRET_PARAMETERS = ("password", "sslpassword", "sslkey")
HIDDEN = "***"

_LEAST = 3  # hiding every "a" would leave nothing to read
_LONGEST = 500  # of a key file the lines are enough
# Repetitions are limited, so that the time for a text is proportional to its length.
_PERCENT = "%{1,4}(?:25){0,3}"  # escaped again and again
_BACKSLASHES = rf"(?:\\|{_PERCENT}5c){{0,16}}"
_RUN = rf"""(?i:(?:[\\'"]|(?:{_PERCENT}|[xu](?:00)?)(?:22|27|5c)|&(?:quot|\#39|\#x27|apos);){{1,200}})"""
_SHORT = {"\b": "b", "\f": "f", "\t": "t", "\n": "n", "\r": "r"}
_OTHERS = {"&": ["&amp;"], "<": ["&lt;"], ">": ["&gt;"], " ": [r"\+", f"{_PERCENT}2b"]}


def redact(text: str, parameters: Mapping[str, str]) -> str:
    """``text`` without the secrets among the connection parameters, as they are and in every escaped form.

    Of each form: ``repr`` and ``ascii``, JSON, conninfo, SQL, URL, HTML, shell, base64, and one of them inside another.
    """
    forms = [form for name in SECRET_PARAMETERS for form in _forms(parameters.get(name, ""))]
    return re.sub("|".join(forms), HIDDEN, text) if forms else text


def _forms(secret: str) -> Iterator[str]:
    """Regular expressions for the secret, and for each of its lines, which may be printed one by one."""
    for part in dict.fromkeys([secret, *secret.splitlines()]):
        if len(part) >= _LEAST and (len(part) <= _LONGEST or "\n" not in part):
            # Quotes and backslashes multiply when they are escaped: any of them stand for any others.
            pieces = re.findall(r"""[\\'"]+|%+|[^\\'"%]""", part)
            form = f"(?i:{_BACKSLASHES})".join(map(_escaped, pieces))
            yield form.replace(f"(?i:{_BACKSLASHES}){_RUN}", _RUN).replace(f"{_RUN}(?i:{_BACKSLASHES})", _RUN)
            yield from _encoded(part.encode("utf-8", "surrogatepass"))


def _escaped(piece: str) -> str:
    """Every form of one character, or of a run of quotes or percent signs."""
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
    """In hexadecimal, and in base64 wherever the secret begins among groups of three bytes."""
    yield f"(?i:{secret.hex()})"
    for before in range(3) if len(secret) >= 6 else ():
        text = b64encode(bytes(before) + secret).decode()
        inner = text[(0, 2, 3)[before] : (before + len(secret)) * 8 // 6]
        yield inner.replace("+", "(?:[+-]|%2B)").replace("/", "(?:[/_]|%2F)")
