"""Source text to WebAssembly and ABI."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chainnode.contract import describe, schema
from chainnode.contract.abi import ABI_VERSION, dump
from chainnode.contract.compiler.access import access_section
from chainnode.contract.compiler.assembler import load_runtime
from chainnode.contract.compiler.declarations import FunctionInfo, Program
from chainnode.contract.compiler.diagnostics import CompileError, Refused
from chainnode.contract.compiler.inlining import inlined
from chainnode.contract.compiler.ir import Expr, Stmt
from chainnode.contract.compiler.layout import Layout
from chainnode.contract.compiler.lowering import FunctionLowering, entry_point, new_function
from chainnode.contract.compiler.program import read_program
from chainnode.contract.compiler.sources import (
    Source,
    read_sources,
    single_source,
    source_hash,
)
from chainnode.contract.compiler.statements import FunctionChecker
from chainnode.contract.compiler.wasm import I32, PAGE_SIZE_BYTES, Function, Module

COMPILER: Final = "chainnode-contract 1"
_HOST: Final = "sc1"
_PREFIX: Final = {"init": "i:", "call": "c:", "view": "v:"}
_WRITES: Final = {"map_set", "map_del", "emit", "var_set", "add"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled contract: the module and its ABI as canonical JSON."""

    name: str
    version: str
    wasm: bytes
    abi: bytes
    source_sha256: bytes


def compile_source(source: str, file: str = "contract.py") -> Compiled:
    """Compile a contract of one file. The same source gives the same bytes everywhere.

    Args:
        file: name shown in diagnostics.

    Raises:
        CompileError: with every problem found, each with its place and a hint.
    """
    return _compile(single_source(source, file))


def compile_path(path: str | Path) -> Compiled:
    """Compile a contract from its files. The same files give the same bytes everywhere.

    Args:
        path: a Python file, or a folder with `contract.py`; files beside it that it imports
            with a dot belong to the contract.

    Raises:
        ClientFault: `CONTRACT_NOT_FOUND`.
        CompileError: with every problem found, each with its file, place and a hint.
    """
    return _compile(read_sources(path))


def _compile(sources: list[Source]) -> Compiled:
    program = read_program(sources)
    problems = program.shared.problems
    if problems:
        raise CompileError(problems)
    bodies = _check(program)
    _check_views(program, bodies)
    if problems:
        raise CompileError(problems)
    wasm = _generate(program, bodies)
    digest = source_hash(sources)
    document = _abi(program) | {
        "access": access_section(program, bodies),
        "compiler": COMPILER,
        "source_sha256": digest.hex(),
        "wasm_sha256": hashlib.sha256(wasm).hexdigest(),
    }
    return Compiled(program.name, program.version, wasm, dump(document), digest)


def _functions(program: Program) -> list[FunctionInfo]:
    return [*program.functions.values(), *program.methods.values()]


def _check(program: Program) -> dict[str, list[Stmt]]:
    bodies: dict[str, list[Stmt]] = {}
    for info in _functions(program):
        try:
            bodies[info.symbol] = FunctionChecker(info.home, info).body()
        except Refused as refused:
            info.home.report(refused)
    return bodies


def _nodes(body: list[Stmt]) -> Iterator[Stmt | Expr]:
    pending: list[Stmt | Expr] = list(body)
    while pending:
        item = pending.pop()
        yield item
        pending += item.args
        if isinstance(item, Stmt):
            pending += item.body + item.other


def _check_views(program: Program, bodies: dict[str, list[Stmt]]) -> None:
    """Refuse views that can reach a write."""
    writes: dict[str, bool] = {}
    calls: dict[str, list[str]] = {}
    for name, body in bodies.items():
        writes[name] = any(
            item.op in _WRITES or (item.op == "invoke" and item.value.kind != "view")
            for item in _nodes(body)
        )
        calls[name] = [item.value.symbol for item in _nodes(body) if item.op == "call"]
    for info in program.methods.values():
        if info.kind != "view":
            continue
        seen: dict[str, None] = {}
        pending = [info.symbol]
        while pending:
            name = pending.pop()
            if name in seen or name not in bodies:
                continue
            seen[name] = None
            pending += calls[name]
            if writes[name]:
                message = f"the view {info.name} changes storage or emits an event"
                info.home.report(Refused(info.node, message, "make it a @call"))
                break


def _generate(program: Program, bodies: dict[str, list[Stmt]]) -> bytes:
    module = Module(_HOST)
    names, templates = load_runtime(module)
    layout = Layout(module, names["heap"])
    functions = _functions(program)
    made = {info.symbol: module.add(new_function(info)) for info in functions}
    for info in functions:
        FunctionLowering(made[info.symbol], layout).run(info, bodies[info.symbol])
    for info in program.methods.values():
        if info.kind in _PREFIX:
            export = _PREFIX[info.kind] + info.name
            wrapper = module.add(Function(f"e.{export}", (), ()))
            entry_point(FunctionLowering(wrapper, layout), info)
            module.exports.append((export, wrapper.name))
    for name in [*made, *(name for _, name in module.exports)]:
        module.functions[name] = inlined(module.functions[name], templates)
    module.globals[names["limit"]] = (I32, module.pages() * PAGE_SIZE_BYTES)
    start = module.data_start + len(module.data)
    kind, _ = module.globals[names["heap"]]
    module.globals[names["heap"]] = (kind, -(-start // 8) * 8)
    return module.encode()


def _abi(program: Program) -> dict[str, Any]:
    structs: dict[str, schema.Struct] = {}
    methods = []
    for info in program.methods.values():
        if info.kind not in _PREFIX:
            continue
        for kind in [*(item for _, item in info.params), info.returns]:
            describe.collect_structs(kind, structs)
        doc = inspect.cleandoc(ast.get_docstring(info.node) or "")
        methods.append(describe.method_entry(info.name, info.kind, info.params, info.returns, doc))
    storage = []
    for item in program.storage.values():
        storage.append(describe.storage_entry(item.id, item.name, item.kind, item.types))
        for kind in item.types:
            describe.collect_structs(kind, structs)
    for record in [*program.events.values(), *program.errors.values()]:
        for entry in record.fields:
            describe.collect_structs(entry.type, structs)
    return {
        "abi": ABI_VERSION,
        "name": program.name,
        "version": program.version,
        "types": {"structs": [describe.record_entry(item) for item in structs.values()]},
        "methods": methods,
        "events": [describe.record_entry(item) for item in program.events.values()],
        "errors": [
            {"code": schema.USER_ERROR + index, **describe.record_entry(item)}
            for index, item in enumerate(program.errors.values())
        ],
        "storage": storage,
    }
