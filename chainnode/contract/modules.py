"""A contract's files as ordinary Python modules: loading them, and the order they count in."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

from chainnode.types.errors import ClientFault

ENTRY: Final = "contract.py"


def entry_file(path: str | Path) -> Path:
    """Return the file that holds the contract: the file itself, or the folder's `contract.py`."""
    source = Path(path)
    return source / ENTRY if source.is_dir() else source


def not_found(file: Path, fault: Exception) -> ClientFault:
    """What is raised for a contract that cannot be read."""
    return ClientFault(
        "CONTRACT_NOT_FOUND",
        f"no readable contract source ({type(fault).__name__})",
        subject=str(file),
        fix=f"pass a Python file, or a folder with {ENTRY}",
    )


def sibling_imports(tree: ast.Module) -> list[ast.ImportFrom]:
    """Return the `from .name import ...` of a module, by name: the order of lines is no matter."""
    found = [
        node
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        and node.level == 1
        and (node.module or "").isidentifier()
    ]
    return sorted(found, key=lambda node: node.module or "")


def load_contract(path: str | Path) -> ModuleType:
    """Import a contract under CPython, once a process, and return the module of its class.

    The folder becomes a package of its own, so that files import each other with a dot; an
    `__init__.py` in it is for editors and type checkers and is not run.

    Args:
        path: a Python file, or a folder with `contract.py`.

    Raises:
        ClientFault: `CONTRACT_NOT_FOUND`.
    """
    file = entry_file(path).resolve()
    folder = str(file.parent)
    label = re.sub(r"\W", "_", file.parent.name)
    package = f"contract_{label}_{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    if not file.is_file():
        raise not_found(file, FileNotFoundError())
    if package not in sys.modules:
        spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [folder]
        sys.modules[package] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{package}.{file.stem}")


@cache
def modules_of(module: ModuleType) -> tuple[ModuleType, ...]:
    """Return the files of a contract as imported modules: what is imported first, itself last."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        return (module,)
    found: dict[str, ModuleType] = {}
    for node in sibling_imports(tree):
        sibling = sys.modules.get(f"{module.__package__}.{node.module}")
        if sibling is not None:
            found |= {item.__name__: item for item in modules_of(sibling)}
    return (*found.values(), module)
