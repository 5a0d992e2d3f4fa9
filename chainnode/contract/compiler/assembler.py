"""Reads the guest runtime: folded WebAssembly text, the few forms that `runtime.wat` uses."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from chainnode.contract.compiler.inlining import Template, flattened
from chainnode.contract.compiler.wasm import I32, I64, Function, Import, Module

Node = str | list["Node"]
_TOKEN: Final = re.compile(r';;[^\n]*|[()]|"[^"]*"|[^\s()]+')
_KINDS: Final = {"i32": I32, "i64": I64}


def _parse(text: str) -> list[Node]:
    stack: list[list[Node]] = [[]]
    for token in _TOKEN.findall(text):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        elif not token.startswith(";;"):
            stack[-1].append(token)
    return stack[0]


@dataclass(frozen=True, slots=True)
class _Runtime:
    imports: dict[str, Import]
    functions: dict[str, Function]
    templates: dict[str, Template]
    globals: list[tuple[int, int]]
    names: dict[str, int]


@lru_cache(maxsize=1)
def _runtime() -> _Runtime:
    text = Path(__file__).with_name("runtime.wat").read_text(encoding="utf-8")
    made = _Runtime({}, {}, {}, [], {})
    for node in _parse(text):
        assert isinstance(node, list)
        if node[0] == "global":
            made.names[str(node[1])[1:]] = len(made.globals)
            made.globals.append((_KINDS[str(node[2])], int(str(node[3]))))
        elif node[0] == "import":
            name = str(node[1])[1:]
            params, results, _ = _signature(node[2:])
            made.imports[name] = Import(name, tuple(k for _, k in params), results)
        else:
            function = _Assembler(node, made.names).function
            made.functions[function.name] = function
    functions, templates = flattened(made.functions.values())
    return replace(made, functions=functions, templates=templates)


def load_runtime(module: Module) -> tuple[dict[str, int], dict[str, Template]]:
    """Add imports, globals and functions of the guest runtime.

    Returns the globals by name, and the functions to inline.

    The functions are shared by every module of the process: nothing may change them.
    """
    made = _runtime()
    module.imports.update(made.imports)
    module.functions.update(made.functions)
    module.globals += made.globals
    return made.names, made.templates


def _signature(
    nodes: list[Node],
) -> tuple[list[tuple[str, int]], tuple[int, ...], list[tuple[str, int]]]:
    named: dict[str, list[tuple[str, int]]] = {"param": [], "local": []}
    results: list[int] = []
    for node in nodes:
        if isinstance(node, list) and node[0] == "result":
            results += [_KINDS[str(item)] for item in node[1:]]
        elif isinstance(node, list) and node[0] in named:
            items = [str(item) for item in node[1:]]
            kind = _KINDS[items[-1]]
            named[str(node[0])] += [(item, kind) for item in items[:-1]]
    return named["param"], tuple(results), named["local"]


class _Assembler:
    def __init__(self, node: list[Node], global_names: dict[str, int]) -> None:
        params, results, extra = _signature(node[2:])
        self.function = Function(str(node[1])[1:], tuple(k for _, k in params), results)
        self._locals = {name: index for index, (name, _) in enumerate(params)}
        for name, kind in extra:
            self._locals[name] = self.function.local(kind)
        self._globals = global_names
        self._labels: dict[str, int] = {}
        for item in node[2:]:
            if isinstance(item, list) and item[0] not in {"param", "result", "local"}:
                self._emit(item)

    def _emit(self, node: Node) -> None:
        assert isinstance(node, list), node
        op, rest, f = str(node[0]), node[1:], self.function
        if op in {"block", "loop"}:
            self._labels[str(rest[0])] = f.begin(op)
            self._all(rest[1:])
            f.end()
        elif op == "if":
            self._if(rest)
        elif op in {"br", "br_if"}:
            self._all(rest[1:])
            f.branch(self._labels[str(rest[0])], conditional=op == "br_if")
        elif op == "call":
            self._all(rest[1:])
            f.call(str(rest[0])[1:])
        elif op.startswith("local."):
            self._all(rest[1:])
            f.op(op, self._locals[str(rest[0])])
        elif op.startswith("global."):
            self._all(rest[1:])
            f.op(op, self._globals[str(rest[0])[1:]])
        elif op.endswith(".const"):
            f.op(op, int(str(rest[0]), 0))
        else:
            self._plain(op, rest)

    def _plain(self, op: str, rest: list[Node]) -> None:
        offset = 0
        if rest and isinstance(rest[0], str):
            offset = int(rest[0].removeprefix("offset="))
            rest = rest[1:]
        self._all(rest)
        self.function.op(op, offset)

    def _if(self, rest: list[Node]) -> None:
        results: tuple[int, ...] = ()
        if isinstance(rest[0], list) and rest[0][0] == "result":
            results, rest = (_KINDS[str(rest[0][1])],), rest[1:]
        self._emit(rest[0])
        self.function.begin("if", *results)
        for arm in rest[1:]:
            assert isinstance(arm, list)
            if arm[0] == "else":
                self.function.op("else")
            self._all(arm[1:])
        self.function.end()

    def _all(self, nodes: list[Node]) -> None:
        for node in nodes:
            self._emit(node)
