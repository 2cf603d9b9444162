"""Count the lines that a user of a tool writes."""

from __future__ import annotations

import ast
import io
import tokenize


def code_lines(source: str) -> int:
    """Return the number of lines of code, without docstrings, comments, imports and blank lines."""
    excluded = {
        number
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_docstring(node)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)  # type: ignore[attr-defined]
    }
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in layout]
    lines = {number for token in tokens for number in range(token.start[0], token.end[0] + 1)}
    return len(lines - excluded)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
