"""Puts a contract together from its files and from its class and the classes it derives from."""

from __future__ import annotations

import ast

from chainnode.contract.compiler.declarations import (
    Program,
    Shared,
    base_names,
    constant,
    note,
    read_declaration,
    read_member,
)
from chainnode.contract.compiler.diagnostics import Refused
from chainnode.contract.compiler.sources import Source
from chainnode.contract.sdk import snake_case


def read_program(sources: list[Source]) -> Program:
    """Return a contract's declarations; problems are collected in `shared` of the result.

    Args:
        sources: each file after those it imports, that of the contract last.
    """
    shared = Shared()
    for source in sources:
        program = Program(source.file, source.name, shared)
        _read_file(program, source.tree, last=source is sources[-1])
        shared.programs[source.name] = program
    programs = list(shared.programs.values())
    _check_chain(programs)
    whole = Program(program.file, program.module, shared, program.contract, program.node)
    whole.name, whole.version = program.name, program.version
    whole.storage, whole.methods = program.storage, program.methods
    for item in programs:
        # A file's imports come before what it declares, so every name keeps its first place.
        whole.structs |= item.structs
        whole.events |= item.events
        whole.errors |= item.errors
        whole.functions |= item.functions
        whole.interfaces |= item.interfaces
    return whole


def _read_file(program: Program, tree: ast.Module, *, last: bool) -> None:
    classes: list[ast.ClassDef] = []
    for node in tree.body:
        known = {"Contract", *program.contracts, *(item.name for item in classes)}
        try:
            if isinstance(node, ast.ClassDef) and known & set(base_names(node)):
                classes.append(node)
            else:
                read_declaration(program, node)
        except Refused as refused:
            program.report(refused)
    if len(classes) > 1 or (last and not classes):
        at = classes[1] if classes else None
        hint = "write one class X(Contract)" if last else "write one class a file"
        program.report(Refused(at, f"found {len(classes)} contracts", hint))
    for node in classes[:1]:
        try:
            _contract(program, node, last=last)
        except Refused as refused:
            program.report(refused)


def _contract(program: Program, node: ast.ClassDef, *, last: bool) -> None:
    program.contract, program.name, program.node = node.name, snake_case(node.name), node
    note(program, node, node.name)
    if len(node.bases) != 1:
        raise Refused(node, f"{node.name} has several bases", "derive from one class")
    program.base = program.contracts.get(base_names(node)[0])
    if program.base is not None:
        program.storage |= program.base.storage
        program.methods |= program.base.methods
    if node.keywords and not last:
        raise Refused(
            node,
            f"{node.name} is a base: it has no version and no name",
            "give them to the class that is installed",
        )
    for keyword in node.keywords:
        if keyword.arg == "version":
            program.version = str(constant(program, keyword.value))
        elif keyword.arg == "name":
            program.name = str(constant(program, keyword.value))
        else:
            raise Refused(node, f"Contract does not take {keyword.arg}", "use version= and name=")
    for item in node.body:
        try:
            _check_new(program, item)
            read_member(program, item)
        except Refused as refused:
            program.report(refused)
    inits = [info.name for info in program.methods.values() if info.kind == "init"]
    if len(inits) > 1:
        raise Refused(node, f"two @init methods: {', '.join(inits)}", "keep one")


def _check_new(program: Program, item: ast.stmt) -> None:
    """Refuse a field or method that a base declares."""
    match item:
        case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            pass
        case _:
            return
    base = program.base
    while base is not None and base.node is not None:
        for other in base.node.body:
            match other:
                case ast.FunctionDef(name=taken) | ast.AnnAssign(target=ast.Name(id=taken)):
                    if taken == name:
                        raise Refused(
                            item,
                            f"{name} is already declared at {base.file}:{other.lineno}",
                            "a derived class adds names; choose another",
                        )
        base = base.base


def _check_chain(programs: list[Program]) -> None:
    """Refuse a contract class that the contract does not derive from."""
    final = programs[-1]
    chain: list[str] = []
    link: Program | None = final
    while link is not None:
        chain.append(link.module)
        link = link.base
    for program in programs:
        if program.contract and program.module not in chain:
            program.report(
                Refused(
                    program.node,
                    f"{program.contract} is no part of the contract {final.contract}",
                    "derive from it, or remove it",
                )
            )
