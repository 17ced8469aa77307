"""Finds joules that are shown without how they came to be known, in text and in source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from effcore.records import EnergyQuality
from effcore.records.attribution import ATTRIBUTED

#: Names under which joules go about.
JOULES = {"joules", "energy_j", "energy_lo_j", "energy_hi_j"}
#: Calls that turn what they are given into text.
TEXT = {"str", "repr", "format", "round", "print", "echo", "write", "metric", "caption", "markdown"}

_FIGURE = re.compile(r"\d[\d.,]* ?[kMG]?J\b")
_QUALITY = re.compile("|".join([*EnergyQuality, ATTRIBUTED]), flags=re.IGNORECASE)
#: A unit after a place to be filled in: by an f-string or format, by %, or by plotly.
_PLACE = re.compile(r"(\{\}|\{[^{}]*\}|%\{[^}]*\}|%[\d.,]*[sdfge]) ?[kMG]?J\b")


def unlabelled(text: str) -> list[str]:
    """Return the figures of joules in a text that names no quality."""
    return [] if _QUALITY.search(text) else _FIGURE.findall(text)


class Offence(NamedTuple):
    """Joules formatted where nothing says their quality; at module level ``function`` is empty."""

    function: str
    line: int


def offences(source: str) -> list[Offence]:
    """Return where a file formats joules in a function that never speaks of quality.

    A text that speaks of a counter itself is no statement of what a run took.
    """
    found = []
    for name, nodes in _units(ast.parse(source)):
        if any(_speaks_of_quality(node) for node in nodes):
            continue
        lines = {node.lineno for node in nodes if isinstance(node, ast.expr) and _formats(node)}
        found += [Offence(name, line) for line in sorted(lines)]
    return found


def _units(tree: ast.Module) -> Iterator[tuple[str, list[ast.AST]]]:
    """Yield each function's own nodes, without those of functions in it, and the module's."""
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        name, root = waiting.pop()
        own, stack = [], list(ast.iter_child_nodes(root))
        while stack:
            node = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.append((node.name, node))
                continue
            own.append(node)
            stack += ast.iter_child_nodes(node)
        yield name, own


def _speaks_of_quality(node: ast.AST) -> bool:
    names = {ast.Attribute: "attr", ast.Name: "id", ast.keyword: "arg", ast.arg: "arg"}
    field = names.get(type(node))
    return field is not None and "quality" in str(getattr(node, field)).lower()


def _formats(node: ast.expr) -> bool:
    """Return whether an expression turns joules into text."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        filled = [p for p in node.values if isinstance(p, ast.FormattedValue)]
        return "counter" not in text and (_fills(text) or any(map(_has_joules, filled)))
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and (_fills(node.value) or node.value in ("J", "kJ"))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _is_text(node.left) and _has_joules(node.right)
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        return called in TEXT and any(map(_has_joules, given))
    return False


def _fills(text: str) -> bool:
    return _PLACE.search(text) is not None


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _has_joules(node: ast.AST) -> bool:
    for inner in ast.walk(node):
        name = getattr(inner, "attr", None) or getattr(inner, "id", None)
        key = inner.slice if isinstance(inner, ast.Subscript) else None
        if name in JOULES or (isinstance(key, ast.Constant) and key.value in JOULES):
            return True
    return False
