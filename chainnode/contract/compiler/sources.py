"""Reads a contract's files: one module, or a folder whose modules import each other."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chainnode.contract.compiler.diagnostics import CompileError, Diagnostic, Refused
from chainnode.contract.modules import entry_file, not_found, sibling_imports

_HASH_DOMAIN: Final = b"chainnode/contract-source/v1"


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a contract.

    Args:
        name: as siblings import it.
        file: as diagnostics show it.
    """

    name: str
    file: str
    text: str
    tree: ast.Module


def single_source(text: str, file: str) -> list[Source]:
    """Return a text as a contract of one file.

    Raises:
        CompileError: it is not Python.
    """
    return [Source(Path(file).stem, file, text, _parse(text, file))]


def read_sources(path: str | Path) -> list[Source]:
    """Return a contract's files, each after those it imports, equals by name.

    Args:
        path: a Python file, or a folder with `contract.py`.

    Raises:
        ClientFault: `CONTRACT_NOT_FOUND`.
        CompileError: a file is missing or no Python, or imports form a cycle or leave the folder.
    """
    file = entry_file(path)
    try:
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise not_found(file, fault) from None
    reader = _Reader(file.parent)
    reader.visit(file.stem, text)
    if reader.problems:
        raise CompileError(reader.problems)
    return list(reader.done.values())


def source_hash(sources: list[Source]) -> bytes:
    """Return SHA-256 of one file's bytes; of several, of every name and content in their order."""
    if len(sources) == 1:
        return hashlib.sha256(sources[0].text.encode()).digest()
    state = hashlib.sha256(_HASH_DOMAIN)
    for source in sources:
        for item in (f"{source.name}.py".encode(), source.text.encode()):
            state.update(len(item).to_bytes(4, "big") + item)
    return state.digest()


def check_relative(node: ast.ImportFrom) -> None:
    """Hold a relative import against the one form there is.

    Raises:
        Refused: it leaves the folder, goes into another, or does not list plain names.
    """
    if node.level > 1:
        raise Refused(
            node,
            "an import leaves the contract's folder",
            "move the file into the folder: from .name import Thing",
        )
    if node.module is None:
        raise Refused(node, "a file is imported whole", "name things: from .file import Thing")
    if "." in node.module:
        raise Refused(
            node, f".{node.module} is in a folder of the folder", "keep all files in one folder"
        )
    if any(alias.name == "*" for alias in node.names):
        raise Refused(node, f"everything is imported from .{node.module}", "list the names")


def _parse(text: str, file: str) -> ast.Module:
    try:
        return ast.parse(text, file)
    except SyntaxError as fault:
        place = fault.lineno or 1, fault.offset or 1
        raise CompileError([Diagnostic(file, *place, f"{fault.msg}", "")]) from None


class _Reader:
    """Follows imports depth first."""

    def __init__(self, folder: Path) -> None:
        self.done: dict[str, Source] = {}
        self.problems: list[Diagnostic] = []
        self._folder = folder
        self._active: list[str] = []
        self._broken: list[str] = []

    def visit(self, name: str, text: str) -> None:
        file = str(self._folder / f"{name}.py")
        try:
            tree = _parse(text, file)
        except CompileError as fault:
            self.problems += fault.diagnostics
            self._broken.append(name)
            return
        self._active.append(name)
        relative = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.level]
        for check, nodes in ((check_relative, relative), (self._follow, sibling_imports(tree))):
            for node in nodes:
                try:
                    check(node)
                except Refused as refused:
                    place = refused.line, refused.column
                    self.problems.append(Diagnostic(file, *place, refused.message, refused.hint))
        self._active.pop()
        self.done[name] = Source(name, file, text, tree)

    def _follow(self, node: ast.ImportFrom) -> None:
        name = node.module or ""
        if name in self._active:
            circle = [*self._active[self._active.index(name) :], name]
            raise Refused(
                node,
                f"files import each other in a circle: {', '.join(circle)}",
                "move what both need into a third file",
            )
        if name in self.done or name in self._broken:
            return
        file = self._folder / f"{name}.py"
        try:
            text = file.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise Refused(
                node, f"{name}.py is not in the contract's folder", "add it, or correct the name"
            ) from None
        self.visit(name, text)
