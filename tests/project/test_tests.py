"""Tests that could not fail, found by their shape."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))


def assertions(tree: ast.AST) -> Iterator[ast.Assert]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Assert))


def is_comparison(node: ast.expr | None) -> bool:
    """Whether it yields true or false: `a == b`, `not a`, `a and b == c`, `all(...)`."""
    if isinstance(node, ast.BoolOp):
        return any(map(is_comparison, node.values))
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("all", "any", "isinstance", "callable")
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def always_true(node: ast.expr) -> bool:
    """A tuple, a list, a set or dictionary with something in it, a constant, an f-string, a lambda."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts)
    return isinstance(node, ast.Constant | ast.JoinedStr | ast.Lambda | ast.GeneratorExp)


def accepted_codes(node: ast.AST) -> bool:
    """`result.exit_code in (1, 2)`, `done.returncode != 0`: a comparison that several exit codes satisfy."""
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return False
    named = any(
        isinstance(part, ast.Attribute) and part.attr in ("exit_code", "returncode") for part in ast.walk(node.left)
    )
    return named and not isinstance(node.ops[0], ast.Eq | ast.Is)


def problems(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in assertions(tree):
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        if is_comparison(node.msg):
            found.append(f"{where}: the comparison is the message")
        if always_true(node.test):
            found.append(f"{where}: what is asserted is always true")
        if any(accepted_codes(part) for part in ast.walk(node.test)):
            found.append(f"{where}: several exit codes pass")
    for test in ast.walk(tree):
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_") and not can_fail(test):
            found.append(f"{path.relative_to(ROOT)}:{test.lineno}: {test.name} asserts nothing")
    return found
