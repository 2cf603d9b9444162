"""The message of an error without the values in it, so that errors with the same cause have the same pattern."""

from __future__ import annotations

import re

from burla_provider.worker.outcome import Failure

_MAX_READ = 500
_MAX_PATTERN = 300

_VALUE = re.compile(
    r"""
      (?P<code> \b (?:signal|status|code|errno) \W{1,3} \d+ )   # different codes are different errors
    | (?P<uuid> \b [0-9a-f]{8} (?:-[0-9a-f]{4}){3} -[0-9a-f]{12} \b )
    | (?P<date> \b \d{4}-\d\d-\d\d (?: [T ] \d\d:\d\d (?: :\d\d (?:[.,]\d+)? )? (?: Z | [+-]\d\d (?: :?\d\d )? )? )? )
    | (?P<url> \b https?:// [^\s'"]+ )
    | (?P<text> (?<!\w) [bru]? (?: '[^'\n]*' | "[^"\n]*" ) (?!\w) )
    | (?P<key> = \( [^)\n]* \) )                                # DETAIL: Key (id)=(5) already exists.
    | (?P<ctid> \( \d+,\d+ \) )
    | (?P<hex> \b 0x[0-9a-f]+ \b | \b (?=[a-f]*\d) (?=\d*[a-f]) [0-9a-f]{8,} \b )
    | (?P<id> \b [a-z_] (?=\w*\d{3}) \w* )                      # order_1234
    | (?P<number> (?<![^\W\d_]) [-+]? \d [\d_]* (?: [.,]\d+ )* (?: e[-+]?\d+ )? )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LIST = re.compile(r"(<(\w+)>)(?:[,;] <\2>)+")
"""A list of values, whose length is a value too."""

_NAMED_STATES = ("23", "26", "34", "3D", "3F", "42", "44")
"""Classes of SQLSTATE of errors that quote names of columns, constraints and the like."""

_NAMED_TYPES = ("AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "UnboundLocalError")


def message_pattern(failure: Failure, item: str = "") -> str:
    """Return the message with ``<number>``, ``<text>`` and the like in the place of values.

    Names of columns, constraints and modules stay: they are different errors.

    :param item: name of the item that failed, which is a value too.
    """
    keeps_quoted = failure.type in _NAMED_TYPES or (failure.sqlstate or "").startswith(_NAMED_STATES)

    def replace(found: re.Match[str]) -> str:
        name = found.lastgroup
        is_kept = name == "code" or (name == "text" and keeps_quoted)
        return found[0] if is_kept else "=(<key>)" if name == "key" else f"<{name}>"

    text = failure.message[:_MAX_READ]
    if item:
        text = text.replace(item, "<item>")
    if failure.sqlstate:  # the other lines are DETAIL, CONTEXT and the query
        text = text.partition("\n")[0]
    return _LIST.sub(r"\1, ...", _VALUE.sub(replace, text))[:_MAX_PATTERN].strip()
