"""Checks statements: assignment, loops, flow, and what is known about variables on each path."""

from __future__ import annotations

import ast
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any, Final

from chainnode.contract.compiler.calls import Calls
from chainnode.contract.compiler.declarations import FunctionInfo, Program, read_type
from chainnode.contract.compiler.diagnostics import Refused
from chainnode.contract.compiler.ir import (
    BYTES_FAMILY,
    CALL_FAILED,
    Expr,
    Stmt,
    coerce,
    describe,
    fits64,
    span,
    widened,
)
from chainnode.contract.schema import NONE, STR, U32, Int, ListOf, OptionalOf, Struct, Type

# Statement classes of Python that contracts do not have, with the way around.
UNSUPPORTED: Final[dict[str, tuple[str, str]]] = {
    "FunctionDef": ("functions inside functions are not supported", "move it to the module"),
    "AsyncFunctionDef": ("async is not supported", "contract calls are synchronous"),
    "ClassDef": ("classes inside functions are not supported", "move it to the module"),
    "Delete": ("only `del self.map[key]` deletes", "assign another value"),
    "TypeAlias": ("type aliases are not supported", "write the type out"),
    "AsyncFor": ("async is not supported", "use for"),
    "AsyncWith": ("async is not supported", "contracts hold no resources"),
    "With": ("with is not supported", "contracts hold no resources"),
    "Match": ("match is not supported", "use if and elif"),
    "TryStar": ("except* is not supported", "write except CallFailed"),
    "Import": ("imports stand at module level", "from chainnode.contract import ..."),
    "ImportFrom": ("imports stand at module level", "from chainnode.contract import ..."),
    "Global": ("global is not supported", "keep state in storage fields"),
    "Nonlocal": ("nonlocal is not supported", "keep state in storage fields"),
}


_LEAVES: Final = {int, str, type(None), ast.Constant, ast.Load, ast.Store}


def _stored(node: ast.AST) -> Iterator[str]:
    """Every name that is assigned, once per assignment; `ast.walk` takes several times as long."""
    pending: list[Any] = [node]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is list:
            pending += item
        elif kind is ast.Name:
            if type(item.ctx) is ast.Store:
                yield item.id
        elif kind not in _LEAVES:
            pending += [getattr(item, name, None) for name in kind._fields]


class FunctionChecker(Calls):
    """Checks one function; `body` gives its statements."""

    def __init__(self, program: Program, info: FunctionInfo) -> None:
        super().__init__(program, info)
        self.loops: list[bool] = []
        self.stores = Tally(_stored(info.node))

    def body(self) -> list[Stmt]:
        """Return the checked function body.

        Raises:
            Refused: the first construct that is not in the subset.
        """
        done, ends = self.block(self.info.node.body)
        if self.info.returns != NONE and not ends:
            raise Refused(
                self.info.node,
                f"{self.info.name} can end without returning {describe(self.info.returns)}",
                "return on every path",
            )
        return done

    def block(self, nodes: list[ast.stmt]) -> tuple[list[Stmt], bool]:
        """Return the statements and whether control never leaves them at the end."""
        done: list[Stmt] = []
        ends = False
        for node in nodes:
            if ends:
                raise Refused(node, "this is never reached", "remove it")
            name = type(node).__name__
            handler = getattr(self, f"_do_{name.lower()}", None)
            if handler is None:
                message, hint = UNSUPPORTED.get(
                    name, (f"{name} is not supported", "see docs/reference/contract-language.md")
                )
                raise Refused(node, message, hint)
            made, ends = handler(node)
            done += made
        return done, ends

    # --- simple statements

    def _do_pass(self, node: ast.Pass) -> tuple[list[Stmt], bool]:
        return [], False

    def _do_expr(self, node: ast.Expr) -> tuple[list[Stmt], bool]:
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return [], False
        match value:
            case ast.Call(func=ast.Name(id="emit"), args=[item], keywords=[]):
                record = self.check(item)
                known = self.program.events
                if not isinstance(record.type, Struct) or record.type.name not in known:
                    raise Refused(node, "emit takes an event", "declare it with @event")
                return [Stmt("emit", (record,))], False
            case ast.Call():
                return [Stmt("expr", (self.check(value),))], False
            case _:
                raise Refused(node, "this value is not used", "assign or return it")

    def _do_return(self, node: ast.Return) -> tuple[list[Stmt], bool]:
        kind = self.info.returns
        bare = node.value is None or (
            kind == NONE and isinstance(node.value, ast.Constant) and node.value.value is None
        )
        if bare or node.value is None:
            if kind != NONE:
                raise Refused(node, f"expected {describe(kind)}", "return a value")
            return [Stmt("return")], True
        return [Stmt("return", (self.value(node.value, kind),))], True

    def _do_raise(self, node: ast.Raise) -> tuple[list[Stmt], bool]:
        if node.cause is not None:
            raise Refused(node, "raise ... from is not supported", "raise Name(...)")
        target = node.exc
        call = ast.Call(target, [], []) if isinstance(target, ast.Name) else target
        match call:
            case ast.Call(func=ast.Name(id=name)) if name in self.program.errors:
                ast.copy_location(call, node)
                record = self.construct(call, self.program.errors[name])
                number = self.program.shared.errors.index(name)
                return [Stmt("raise", (record,), number)], True
            case _:
                raise Refused(node, "only declared errors can be raised", "declare it with @error")

    def _do_assert(self, node: ast.Assert) -> tuple[list[Stmt], bool]:
        test = self.condition(node.test)
        saved = set(self.nonnull)
        text = Expr("bytes", STR, value=b"")
        if node.msg is not None:
            self.nonnull = saved | self.facts(node.test, False)
            text = self.value(node.msg, STR)
        self.nonnull = saved | self.facts(node.test, True)
        return [Stmt("assert", (test, text))], False

    def _do_delete(self, node: ast.Delete) -> tuple[list[Stmt], bool]:
        done: list[Stmt] = []
        for target in node.targets:
            storage = self.self_storage(target.value) if isinstance(target, ast.Subscript) else None
            if storage is None or storage.kind != "map":
                raise Refused(node, *UNSUPPORTED["Delete"])
            assert isinstance(target, ast.Subscript)
            key = self.value(target.slice, storage.types[0])
            done.append(Stmt("map_del", (key,), storage))
        return done, False

    def _do_break(self, node: ast.Break) -> tuple[list[Stmt], bool]:
        self.loops[-1] = True
        return [Stmt("break")], True

    def _do_continue(self, node: ast.Continue) -> tuple[list[Stmt], bool]:
        return [Stmt("continue")], True

    # --- assignment

    def _do_assign(self, node: ast.Assign) -> tuple[list[Stmt], bool]:
        if len(node.targets) != 1:
            raise Refused(node, "a = b = value is not supported", "write two assignments")
        target = node.targets[0]
        expected = self.variables.get(target.id) if isinstance(target, ast.Name) else None
        storage = self.self_storage(target.value) if isinstance(target, ast.Subscript) else None
        if storage is not None and storage.kind == "map":
            expected = storage.types[1]
        elif isinstance(target, ast.Subscript) and storage is None:
            saved = self.counter, dict(self.variables)
            listed = self.check(target.value).type
            self.counter, self.variables = saved
            expected = listed.item if isinstance(listed, ListOf) else None
        return self.assign(target, self.check(node.value, expected), node), False

    def _do_annassign(self, node: ast.AnnAssign) -> tuple[list[Stmt], bool]:
        if not isinstance(node.target, ast.Name):
            raise Refused(node, "only variables are annotated here", "remove the annotation")
        kind = read_type(self.program, node.annotation, node.target.id)
        if self.variables.setdefault(node.target.id, kind) != kind:
            raise Refused(node, f"{node.target.id} has another type already", "use another name")
        if node.value is None:
            return [], False
        return self.assign(node.target, self.check(node.value, kind), node), False

    def assign(self, target: ast.expr, value: Expr, node: ast.AST) -> list[Stmt]:
        """The statements that store a value in a target."""
        match target:
            case ast.Name(id=name):
                return [self._assign_name(name, value, node)]
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return self._unpack(items, value, node)
            case ast.Subscript():
                return [self._assign_item(target, value, node)]
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                storage = self.program.storage.get(name)
                hint = "use .set(value)" if storage else "declare a storage field"
                raise Refused(node, f"self.{name} cannot be assigned", hint)
            case _:
                raise Refused(node, "records do not change", "make another: replace(r, field=v)")

    def _assign_name(self, name: str, value: Expr, node: ast.AST) -> Stmt:
        if name in self.program.constants or name in {"self", "ctx"}:
            raise Refused(node, f"{name} is taken", "use another name")
        if name not in self.variables:
            if value.type == NONE:
                raise Refused(node, "the type is unknown", f"annotate: {name}: T | None = None")
            once = self.stores[name] <= 1
            self.variables[name] = value.type if once else widened(value.type)
        kind = self.variables[name]
        found = coerce(value, kind, node)
        self.assigned.add(name)
        if isinstance(kind, OptionalOf) and not isinstance(value.type, OptionalOf):
            (self.nonnull.discard if value.type == NONE else self.nonnull.add)(name)
        else:
            self.nonnull.discard(name)
        return Stmt("assign", (found,), name)

    def _unpack(self, items: list[ast.expr], value: Expr, node: ast.AST) -> list[Stmt]:
        kinds = self.part_types(value.type, len(items), node)
        name = self.hidden("unpack")
        self.variables[name] = value.type
        done = [Stmt("assign", (value,), name)]
        whole = Expr("local", value.type, value=name)
        for index, (item, kind) in enumerate(zip(items, kinds, strict=True)):
            part = Expr("field", kind, (whole,), (value.type, index))
            done += self.assign(item, part, node)
        return done

    def _assign_item(self, target: ast.Subscript, value: Expr, node: ast.AST) -> Stmt:
        storage = self.self_storage(target.value)
        if storage is not None and storage.kind == "map":
            key = self.value(target.slice, storage.types[0])
            return Stmt("map_set", (coerce(value, storage.types[1], node), key), storage)
        holder = self.check(target.value)
        if not isinstance(holder.type, ListOf):
            raise Refused(node, f"{describe(holder.type)} does not change", "build another value")
        return Stmt(
            "list_set", (coerce(value, holder.type.item, node), holder, self.index(target.slice))
        )

    def _do_augassign(self, node: ast.AugAssign) -> tuple[list[Stmt], bool]:
        match node.target:
            case ast.Name(id=name) as target:
                read = self.check(ast.copy_location(ast.Name(name, ast.Load()), target))
                if isinstance(read.type, ListOf):
                    raise Refused(node, "a list does not grow with +=", "use append")
                return self.assign(target, self._operation(node, read), node), False
            case ast.Subscript() as target:
                return self._aug_item(node, target), False
            case _:
                raise Refused(node, "this cannot be updated in place", "use .set(.get() + x)")

    def _operation(self, node: ast.AugAssign, old: Expr) -> Expr:
        return self.binary(node, node.op, old, self.check(node.value))

    def _keep(self, purpose: str, value: Expr, done: list[Stmt]) -> Expr:
        name = self.hidden(purpose)
        self.variables[name] = value.type
        done.append(Stmt("assign", (value,), name))
        return Expr("local", value.type, value=name)

    def _aug_item(self, node: ast.AugAssign, target: ast.Subscript) -> list[Stmt]:
        done: list[Stmt] = []
        storage = self.self_storage(target.value)
        if storage is not None and storage.kind == "map":
            key = self._keep("key", self.value(target.slice, storage.types[0]), done)
            kind = storage.types[1]
            old = self._keep("old", Expr("map_get", kind, (key,), storage), done)
            new = coerce(self._operation(node, old), kind, node)
            return [*done, Stmt("map_set", (new, key), storage)]
        holder = self._keep("list", self.check(target.value), done)
        if not isinstance(holder.type, ListOf):
            raise Refused(node, f"{describe(holder.type)} does not change", "build another value")
        index = self._keep("index", self.index(target.slice), done)
        item = holder.type.item
        old = self._keep("old", Expr("list_at", item, (holder, index)), done)
        new = coerce(self._operation(node, old), item, node)
        return [*done, Stmt("list_set", (new, holder, index))]

    # --- flow

    def _do_if(self, node: ast.If) -> tuple[list[Stmt], bool]:
        test = self.condition(node.test)
        assigned, nonnull = set(self.assigned), set(self.nonnull)
        self.nonnull = nonnull | self.facts(node.test, True)
        body, body_ends = self.block(node.body)
        after = self.assigned, self.nonnull
        self.assigned = set(assigned)
        self.nonnull = nonnull | self.facts(node.test, False)
        other, other_ends = self.block(node.orelse)
        if other_ends:
            self.assigned, self.nonnull = after
        elif not body_ends:
            self.assigned = self.assigned & after[0]
            self.nonnull = self.nonnull & after[1]
        done = Stmt("if", (test,), None, body, other)
        return [done], body_ends and other_ends and bool(node.orelse)

    def _do_try(self, node: ast.Try) -> tuple[list[Stmt], bool]:
        match node:
            case ast.Try(
                body=[line],
                handlers=[ast.ExceptHandler(type=ast.Name(id="CallFailed"), name=name) as handler],
                finalbody=[],
            ):
                pass
            case _:
                raise Refused(
                    node,
                    "try is only for one call of another contract",
                    "a failure undoes the whole call; only at(name, X).method(...) can be tried, "
                    "with except CallFailed",
                )
        invoke, targets = self._tried(line)
        assigned, nonnull = set(self.assigned), set(self.nonnull)
        result, failed = self.hidden("result"), self.hidden("failed")
        self.variables |= {result: invoke.type, failed: CALL_FAILED}
        start: list[Stmt] = []
        for target in targets:
            start += self.assign(target, Expr("local", invoke.type, value=result), line)
        body, body_ends = self.block(node.orelse)
        after = self.assigned, self.nonnull
        self.assigned, self.nonnull = set(assigned), nonnull
        caught: list[Stmt] = []
        if name is not None:
            target = ast.copy_location(ast.Name(name, ast.Store()), handler)
            caught = self.assign(target, Expr("local", CALL_FAILED, value=failed), handler)
        other, other_ends = self.block(handler.body)
        self.assigned.discard(name or "")
        if other_ends:
            self.assigned, self.nonnull = after
        elif not body_ends:
            self.assigned = self.assigned & after[0]
            self.nonnull = self.nonnull & after[1]
        done = Stmt("try", (invoke,), (result, failed), start + body, caught + other)
        return [done], body_ends and other_ends

    def _tried(self, line: ast.stmt) -> tuple[Expr, list[ast.expr]]:
        """The call that a try is about, and the variables that get its result."""
        targets: list[ast.expr] = []
        hint = "at(name, X).method(...), or x = at(name, X).method(...); compute arguments before"
        match line:
            case ast.Expr(value=value):
                pass
            case ast.Assign(targets=[ast.Name() | ast.Tuple() as target], value=value):
                targets = [target]
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                kind = read_type(self.program, line.annotation, target.id)
                if self.variables.setdefault(target.id, kind) != kind:
                    raise Refused(line, f"{target.id} has another type already", "rename it")
                targets = [target]
            case _:
                raise Refused(line, "try holds one call of another contract", hint)
        invoke = self.check(value)
        if invoke.op != "invoke":
            raise Refused(line, "try holds one call of another contract", hint)
        pending = list(invoke.args)
        while pending:
            item = pending.pop()
            if item.op in {"invoke", "call"}:
                raise Refused(line, "an argument inside try calls something itself", hint)
            pending += item.args
        names = [item for target in targets for item in ast.walk(target)]
        if not all(isinstance(i, ast.Name | ast.Tuple | ast.expr_context) for i in names):
            raise Refused(line, "try assigns to plain variables", hint)
        return invoke, targets

    def _loop_body(self, nodes: list[ast.stmt], known: set[str]) -> tuple[list[Stmt], bool]:
        self.loops.append(False)
        assigned = set(self.assigned)
        self.nonnull |= known
        body, _ = self.block(nodes)
        self.assigned = assigned
        return body, self.loops.pop()

    def _forget(self, nodes: list[ast.stmt]) -> None:
        for node in nodes:
            for item in ast.walk(node):
                if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store):
                    self.nonnull.discard(item.id)

    def _do_while(self, node: ast.While) -> tuple[list[Stmt], bool]:
        if node.orelse:
            raise Refused(node, "while ... else is not supported", "use a bool variable")
        self._forget(node.body)
        test = self.condition(node.test)
        nonnull = set(self.nonnull)
        body, breaks = self._loop_body(node.body, self.facts(node.test, True))
        self.nonnull = nonnull
        endless = test.op == "bool" and bool(test.value) and not breaks
        return [Stmt("while", (test,), None, body)], endless

    def _do_for(self, node: ast.For) -> tuple[list[Stmt], bool]:
        if node.orelse:
            raise Refused(node, "for ... else is not supported", "use a bool variable")
        match node.iter:
            case ast.Call(func=ast.Name(id="range"), args=args, keywords=[]):
                return self._for_range(node, args)
            case ast.Call(func=ast.Name(id="enumerate"), args=[items], keywords=[]):
                return self._for_items(node, items, numbered=True)
            case _:
                return self._for_items(node, node.iter, numbered=False)

    def _for_range(self, node: ast.For, args: list[ast.expr]) -> tuple[list[Stmt], bool]:
        done: list[Stmt] = []
        parts = [self.check(item) for item in args]
        if not 1 <= len(parts) <= 3 or not all(isinstance(p.type, Int) for p in parts):
            raise Refused(node, "range takes one to three integers", "range(start, stop, step)")
        step = parts[2].value if len(parts) == 3 else 1
        if len(parts) == 3 and (parts[2].op != "int" or step == 0):
            raise Refused(node, "the step of range is a constant, not 0", "use while")
        start = parts[0] if len(parts) > 1 else Expr("int", span(0, 0), value=0)
        stop = parts[min(1, len(parts) - 1)]
        first, last = start.type, stop.type
        assert isinstance(first, Int) and isinstance(last, Int)
        low = first.low if step > 0 else last.low + 1
        high = last.high - 1 if step > 0 else first.high
        item = span(min(low, high), max(low, high))
        kind = span(min(first.low, last.low) - abs(step), max(first.high, last.high) + abs(step))
        begin = self._keep("next", coerce(start, kind, node), done)
        end = self._keep("stop", coerce(stop, kind, node), done)
        self._forget(node.body)
        nonnull = set(self.nonnull)
        before = set(self.assigned)
        entry = self.assign(node.target, Expr("int_to", item, (begin,), False), node)
        body, _ = self._loop_body(node.body, set())
        self.nonnull, self.assigned = nonnull, before
        value = (begin.value, end.value, step, kind, fits64(kind))
        return [*done, Stmt("for_range", (), value, entry + body)], False

    def _for_items(
        self, node: ast.For, items: ast.expr, *, numbered: bool
    ) -> tuple[list[Stmt], bool]:
        done: list[Stmt] = []
        holder = self._keep("items", self.check(items), done)
        index_name = self.hidden("at")
        self.variables[index_name] = U32
        index = Expr("local", U32, value=index_name)
        if isinstance(holder.type, ListOf):
            item = Expr("list_at", holder.type.item, (holder, index))
        elif holder.type in BYTES_FAMILY:
            item = Expr("bytes_at", span(0, 255), (holder, index))
        else:
            hint = "iterate range(...), a list or bytes"
            raise Refused(node, f"{describe(holder.type)} cannot be iterated", hint)
        self._forget(node.body)
        nonnull = set(self.nonnull)
        before = set(self.assigned)
        if numbered:
            pair: tuple[Type, ...] = (U32, item.type)
            targets = node.target.elts if isinstance(node.target, ast.Tuple) else []
            if len(targets) != len(pair):
                raise Refused(node, "enumerate gives two values", "for i, item in enumerate(...)")
            number = Expr("int_to", span(0, U32.high), (index,), False)
            entry = self.assign(targets[0], number, node)
            entry += self.assign(targets[1], item, node)
        else:
            entry = self.assign(node.target, item, node)
        body, _ = self._loop_body(node.body, set())
        self.nonnull, self.assigned = nonnull, before
        return [*done, Stmt("for_items", (holder,), index_name, entry + body)], False
