"""Tests that could not fail, found by their shape."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from support.paths import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
TRUE_OR_FALSE = ("all", "any", "isinstance", "callable", "hasattr")
# Calls that raise where something is not as it should be, beside those of the tests' own helpers.
RAISING = re.compile(r"raises|warns|fail|assert_\w+|check_model|validate")


def is_verdict(node: ast.expr | None) -> bool:
    """Whether it is true or false, as `a == b`, `not a` and `all(...)` are: no message, but what should be asserted."""
    if isinstance(node, ast.BoolOp):
        return any(map(is_verdict, node.values))
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in TRUE_OR_FALSE
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def is_always_true(node: ast.expr) -> bool:
    """A tuple or list with something in it, a constant, an f-string, a lambda, a generator that nobody asks."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts)
    return isinstance(node, ast.Constant | ast.JoinedStr | ast.Lambda | ast.GeneratorExp)


def accepts_several_codes(node: ast.AST) -> bool:
    """`result.exit_code in (1, 2)`, `done.returncode != 0`: the difference between 1 and 2 is part of the contract."""
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return False
    parts = [part for part in ast.walk(node.left) if isinstance(part, ast.Attribute)]
    return any(part.attr in ("exit_code", "returncode") for part in parts) and not isinstance(node.ops[0], ast.Eq)


def called(function: ast.AST) -> Iterator[str]:
    """The last names of what it calls: `raises` for `pytest.raises`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2]


def can_fail_by_itself(function: ast.AST) -> bool:
    checked = (node for node in ast.walk(function) if isinstance(node, ast.keyword) and node.arg == "check")
    return (
        any(isinstance(node, ast.Assert) for node in ast.walk(function))
        or any(isinstance(node.value, ast.Constant) and node.value.value is True for node in checked)
        or any(RAISING.fullmatch(name) for name in called(function))
    )


def functions_that_can_fail() -> set[str]:
    """By name, of all test files: those that assert, and those that call them."""
    functions = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = {function.name for function in functions if can_fail_by_itself(function)}
    while more := {f.name for f in functions if f.name not in found and found & set(called(f))}:
        found |= more
    return found


def problems_of(tree: ast.AST, helpers: set[str]) -> Iterator[tuple[int, str]]:
    """Line and problem."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            if is_verdict(node.msg):
                yield node.lineno, "the comparison is the message"
            if is_always_true(node.test):
                yield node.lineno, "what is asserted is always true"
            if any(map(accepts_several_codes, ast.walk(node.test))):
                yield node.lineno, "several exit codes pass"
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            takes = {argument.arg for argument in node.args.args}
            if not can_fail_by_itself(node) and not helpers & (set(called(node)) | takes):
                yield node.lineno, f"{node.name} asserts nothing"


def test_no_test_is_written_so_that_it_cannot_fail() -> None:
    helpers = functions_that_can_fail()
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path, tree in TREES.items()
        if path.name.startswith("test_")
        for line, what in problems_of(tree, helpers)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("def test_x(): assert a, b == c", "the comparison is the message"),
        ("def test_x(): assert a, not b", "the comparison is the message"),
        ("def test_x(): assert a, all(b)", "the comparison is the message"),
        ("def test_x(): assert (a == b, 'text')", "what is asserted is always true"),
        ("def test_x(): assert (a for a in b)", "what is asserted is always true"),
        ("def test_x(): assert f'{a}'", "what is asserted is always true"),
        ("def test_x(): assert run().exit_code in (1, 2)", "several exit codes pass"),
        ("def test_x(): assert result.returncode != 0", "several exit codes pass"),
        ("def test_x(): compute()", "test_x asserts nothing"),
        ("def test_x(): assert a == b, c", None),
        ("def test_x(): assert (result.exit_code, a in b) == (2, True), result.stderr", None),
        ("def test_x(): refused(a)", None),
        ("def test_x():\n with pytest.raises(ValueError): compute()", None),
    ],
)
def test_such_tests_are_found(code: str, what: str | None) -> None:
    assert [said for _, said in problems_of(ast.parse(code), {"refused"})] == ([what] if what else [])
