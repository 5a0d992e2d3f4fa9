"""The core is pure: no clock, no chance, no input or output, no order of a set."""

import ast
from pathlib import Path

import pytest

import chainnode.consensus

FORBIDDEN = {"asyncio", "socket", "time", "random", "os", "threading", "datetime", "secrets"}
FILES = sorted(Path(chainnode.consensus.__file__).parent.glob("*.py"))


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def _iterates_a_set(tree: ast.AST) -> bool:
    loops = [node.iter for node in ast.walk(tree) if isinstance(node, ast.For | ast.comprehension)]
    return any(
        isinstance(item, ast.Set | ast.SetComp)
        or (isinstance(item, ast.Call) and getattr(item.func, "id", "") in {"set", "frozenset"})
        for item in loops
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_is_pure(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert not _imported(tree) & FORBIDDEN
    assert not _iterates_a_set(tree)
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "id", "hash"}


def test_the_check_bites() -> None:
    assert _imported(ast.parse("from time import sleep\nimport os.path")) == {"time", "os"}
    assert _iterates_a_set(ast.parse("for x in {1, 2}: pass"))
    assert len(FILES) > 8
