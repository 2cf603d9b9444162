"""Replace ``<!-- parameters: module.Class -->`` in a page by the docstring, with its parameters as tables.

mkdocstrings puts all parameters into one table and loses the headings between them. The sources are parsed, not
imported: the build needs no Airflow.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_HOOK = "burla_provider.hooks.burla", "BurlaHook"
_CONSTANTS = "burla_provider.jobs.job"
_PLACE = re.compile(r"^<!-- parameters: (\S+)\.(\w+) -->$", re.M)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with tables of parameters. MkDocs calls this for each page."""
    return _PLACE.sub(lambda match: describe(match[1], match[2]), markdown)


def describe(module: str, name: str) -> str:
    """Return the docstring of a class or function as Markdown: its text, and a table for each group of parameters."""
    node = _find(module, name)
    defaults = _defaults(node)
    templates = _template_fields(node)
    text, *entries = re.split(r"^:(param \w+|raises \w+):", ast.get_docstring(node) or "", flags=re.M)
    lines = [_markdown(text)]
    in_table = False
    for field, description in zip(entries[::2], entries[1::2], strict=True):
        kind, parameter = field.split()
        meaning, *following = re.split(r"\n\s*\n", description.strip())
        if kind == "raises":
            lines.append(f"\nRaises `{parameter}` {_markdown(meaning)}")
        else:
            if not in_table:
                lines.append("\n| parameter | default | meaning |\n|---|---|---|")
            default = f"`{defaults[parameter]}`" if defaults[parameter] else "required"
            mark = " *Template.*" if parameter in templates else ""
            meaning = _markdown(" ".join(meaning.split())).replace("|", "\\|")
            lines.append(f"| `{parameter}` | {default} | {meaning}{mark} |")
        in_table = kind == "param" and not following
        lines += [f"\n{_markdown(paragraph)}" for paragraph in following]
    return "\n".join(lines)


def _find(module: str, name: str) -> ast.ClassDef | ast.FunctionDef:
    definitions = (node for node in _statements(module) if isinstance(node, ast.ClassDef | ast.FunctionDef))
    return next(node for node in definitions if node.name == name)


def _statements(module: str) -> list[ast.stmt]:
    return ast.parse((_ROOT / (module.replace(".", "/") + ".py")).read_text()).body


def _defaults(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str | None]:
    """Return the default of each parameter of ``__init__``; None: it has no default."""
    inits = (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
    arguments = [(init.args.kwonlyargs, init.args.kw_defaults) for init in inits]
    pairs = [pair for names, values in arguments for pair in zip(names, values, strict=True)]
    return {argument.arg: default and _value(ast.unparse(default)) for argument, default in pairs}


def _value(default: str) -> str:
    """Return the value of a constant or an attribute of the hook, or the default as it is."""
    if default.startswith("DEFAULT_"):
        statements = _statements(_CONSTANTS)
    elif default.startswith("BurlaHook."):
        statements = _find(*_HOOK).body
    else:
        return default
    assignments = (item for item in statements if isinstance(item, ast.Assign))
    values = {ast.unparse(item.targets[0]): ast.unparse(item.value) for item in assignments}
    return values[default.removeprefix("BurlaHook.")]


def _template_fields(node: ast.ClassDef | ast.FunctionDef) -> set[str]:
    """Return the names in ``template_fields``, without those of the base class."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == "template_fields":
            return {constant.value for constant in ast.walk(item) if isinstance(constant, ast.Constant)}
    return set()


def _markdown(text: str) -> str:
    """Return text of a docstring as Markdown."""
    text = re.sub(r":class:`~[\w.]*?(\w+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text).strip()
