"""What the compiler says about a source it refuses."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from chainnode.types.errors import ClientFault


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem, where it is, and what to write instead. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str

    def __str__(self) -> str:
        tail = f" Hint: {self.hint}." if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}.{tail}"


class Refused(Exception):
    """One construct cannot be compiled; caught per function, so that all are reported."""

    def __init__(self, node: ast.AST | None, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.file = ""
        self.message = message
        self.hint = hint
        self.line = getattr(node, "lineno", 1)
        self.column = getattr(node, "col_offset", 0) + 1


class CompileError(ClientFault):
    """The source is no contract; `diagnostics` lists every problem found."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        first = diagnostics[0]
        super().__init__(
            "CONTRACT_SOURCE",
            "\n".join(map(str, diagnostics)),
            subject=f"{first.file}:{first.line}:{first.column}",
            fix=first.hint,
        )
        self.diagnostics = diagnostics
