"""Checks calls: storage, own functions, records, built-ins and methods of values."""

from __future__ import annotations

import ast
from typing import Final

from chainnode.contract.compiler.declarations import FunctionInfo, Program
from chainnode.contract.compiler.diagnostics import Refused
from chainnode.contract.compiler.expressions import Expressions, _wide
from chainnode.contract.compiler.ir import (
    BYTES_FAMILY,
    Expr,
    Storage,
    coerce,
    describe,
    join,
    span,
)
from chainnode.contract.schema import (
    ADDRESS,
    BOOL,
    BYTES,
    BYTES32,
    INT,
    NONE,
    STR,
    U64,
    Int,
    ListOf,
    OptionalOf,
    Struct,
    TupleOf,
    Type,
    has_order,
)
from chainnode.contract.values import CONTRACT_ADDRESS_DOMAIN
from chainnode.types.limits import CONTRACT_SCAN_ROWS_MAX

_STORAGE_METHODS: Final = {
    "map": {"add", "get", "range"},
    "var": {"get", "set", "exists"},
    "counter": {"add", "read"},
}
_LENGTH: Final = span(0, 2**32 - 1)


class Calls(Expressions):
    """The call half of a function's check."""

    def check_call(self, node: ast.Call, expected: Type | None) -> Expr:
        """Return the typed call."""
        for item in node.args:
            if isinstance(item, ast.Starred):
                raise Refused(item, "unpacking with * is not supported", "name every argument")
        match node.func:
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if self.info.method:
                if name not in self.program.methods:
                    raise Refused(node, f"self.{name} is no method", "declare it in the class")
                return self._own(node, self.program.methods[name])
            case ast.Attribute(value=ast.Call(func=ast.Name(id="at")) as other, attr=name):
                return self.of_other(node, other, name)
            case ast.Attribute(value=target) if self.self_storage(target) is not None:
                storage = self.self_storage(target)
                assert storage is not None
                return self._storage(node, storage, node.func.attr)
            case ast.Attribute():
                return self._value_method(node, node.func)
            case ast.Name(id=name):
                return self._named(node, name)
            case _:
                raise Refused(node, "only named functions can be called", "call it by name")

    def _named(self, node: ast.Call, name: str) -> Expr:
        if name in self.program.functions:
            return self._own(node, self.program.functions[name])
        record = self.program.record(name)
        if record is not None:
            return self.construct(node, record)
        handler = getattr(self, f"_builtin_{name.lower()}", None)
        if handler is None:
            raise Refused(
                node,
                f"{name} cannot be called here",
                "available: len min max abs str sha256 replace Address Bytes32 contract_address "
                "paillier_add paillier_add_plain paillier_scalar_multiply, records, own "
                "functions, at(...).method(...); range and enumerate in for",
            )
        if node.keywords and name != "replace":
            raise Refused(node, f"{name} takes no named arguments", "pass them in order")
        done: Expr = handler(node)
        return done

    def _own(self, node: ast.Call, info: FunctionInfo) -> Expr:
        args = self._arguments(node, info.name, info.params, info.defaults, info.home)
        return Expr("call", info.returns, args, info)

    def construct(self, node: ast.Call, record: Struct) -> Expr:
        """A record made by calling its class."""
        fields = [(entry.name, entry.type) for entry in record.fields]
        home = self.program.shared.homes[record.name].program
        defaults = home.defaults[record.name]
        args = self._arguments(node, record.name, fields, defaults, home)
        return Expr("record", record, args)

    def _arguments(
        self,
        node: ast.Call,
        name: str,
        params: list[tuple[str, Type]],
        defaults: dict[str, ast.expr],
        home: Program,
    ) -> tuple[Expr, ...]:
        given: dict[str, Expr] = {}
        if len(node.args) > len(params):
            raise Refused(node, f"{name} takes {len(params)} arguments", "remove the others")
        for (param, kind), item in zip(params, node.args, strict=False):
            given[param] = self.value(item, kind)
        kinds = dict(params)
        order = [param for param, _ in params]
        last = len(node.args) - 1
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg not in kinds or keyword.arg in given:
                raise Refused(node, f"{name} does not take {keyword.arg}", f"has: {order}")
            if order.index(keyword.arg) < last:
                raise Refused(node, f"{keyword.arg} comes out of order", f"keep: {order}")
            last = order.index(keyword.arg)
            given[keyword.arg] = self.value(keyword.value, kinds[keyword.arg])
        for param, kind in params:
            if param not in given:
                if param not in defaults:
                    raise Refused(node, f"{name} misses {param}", f"it takes: {order}")
                given[param] = self._default(defaults[param], kind, home)
        return tuple(given[param] for param in order)

    def _default(self, node: ast.expr, kind: Type, home: Program) -> Expr:
        """A default argument, which sees the names of the file it is written in."""
        program, variables = self.program, self.variables
        self.program, self.variables = home, {}
        try:
            return self.value(node, kind)
        except Refused as refused:
            refused.file = home.file
            raise
        finally:
            self.program, self.variables = program, variables | self.variables

    # --- other contracts

    def of_other(self, node: ast.Call, other: ast.Call, name: str) -> Expr:
        """A call of another contract: `at(name, Interface).method(...)`."""
        keywords = {item.arg: item.value for item in other.keywords}
        match other.args:
            case [contract, ast.Name(id=interface)] if not keywords.keys() - {"gas"}:
                known = self.program.interfaces.get(interface)
            case _:
                raise Refused(other, "at takes a name and an interface", "at(name, Interface)")
        if known is None:
            hint = "declare class X(Interface) with its methods"
            raise Refused(other, f"{interface} is no interface", hint)
        if name not in known:
            has = f"it has: {', '.join(known)}"
            raise Refused(node, f"{interface} has no {name}", has)
        target = self.value(contract, STR)
        gas = Expr("int", U64, value=0)
        if "gas" in keywords:
            gas = self.value(keywords["gas"], U64)
        info = known[name]
        args = self._arguments(node, name, info.params, {}, info.home)
        return Expr("invoke", info.returns, (target, gas, *args), info)

    def _builtin_at(self, node: ast.Call) -> Expr:
        raise Refused(node, "at(...) is no value", "call a method of it: at(name, X).method(...)")

    def _builtin_contract_address(self, node: ast.Call) -> Expr:
        name = Expr("same", BYTES, (self._only(node, STR),))
        domain = Expr("bytes", BYTES, value=CONTRACT_ADDRESS_DOMAIN)
        return Expr("sha256", ADDRESS, (Expr("concat", BYTES, (domain, name)),))

    # --- storage

    def _storage(self, node: ast.Call, storage: Storage, name: str) -> Expr:
        if storage.kind == "map" and name == "range":
            return self._range(node, storage)
        if name not in _STORAGE_METHODS[storage.kind] or node.keywords:
            known = ", ".join(sorted(_STORAGE_METHODS[storage.kind]))
            raise Refused(node, f"a {storage.kind} has no {name}", f"it has: {known}")
        if storage.kind == "counter":
            if name == "add":
                return Expr("add", NONE, (self._only(node, INT),), storage)
            self._none(node)
            return Expr("counter_read", INT, (), storage)
        if storage.kind == "var":
            return self._var(node, storage, name)
        if name == "add":
            return self._map_add(node, storage)
        if len(node.args) not in {1, 2}:
            raise Refused(node, "get takes a key and perhaps a default", "self.m.get(key, 0)")
        key, value = storage.types
        parts = [self.value(node.args[0], key)]
        if len(node.args) == 1:
            return Expr("map_find", OptionalOf(value), tuple(parts), storage)
        if isinstance(node.args[1], ast.Constant) and node.args[1].value is None:
            return Expr("map_find", OptionalOf(value), tuple(parts), storage)
        parts.append(self.value(node.args[1], value))
        return Expr("map_default", value, tuple(parts), storage)

    def _range(self, node: ast.Call, storage: Storage) -> Expr:
        key, value = storage.types
        if not has_order(key):
            raise Refused(
                node,
                f"the keys of {storage.name} have no order: {describe(key)} may be None",
                "make the key a tuple with a flag, such as tuple[bool, T]",
            )
        given = {item.arg: item.value for item in node.keywords}
        hint = f"self.{storage.name}.range(start, stop, limit=100)"
        if len(node.args) > 2 or given.keys() - {"limit", "reverse"} or "limit" not in given:
            raise Refused(node, "range takes a start, a stop, limit= and reverse=", hint)
        ends = [None if _is_none(item) else self.value(item, key) for item in node.args]
        ends += [None] * (2 - len(ends))
        reverse = given.get("reverse", ast.Constant(False))
        if not isinstance(reverse, ast.Constant) or not isinstance(reverse.value, bool):
            raise Refused(node, "reverse is True or False", hint)
        limit = self.index(given["limit"])
        if limit.op == "int" and not 1 <= limit.value <= CONTRACT_SCAN_ROWS_MAX:
            raise Refused(node, f"limit is 1 to {CONTRACT_SCAN_ROWS_MAX} rows", hint)
        bounds = tuple(item is not None for item in ends)
        args = (*(item for item in ends if item is not None), limit)
        rows = ListOf(TupleOf((key, value)))
        return Expr("map_range", rows, args, (storage, *bounds, reverse.value))

    def _map_add(self, node: ast.Call, storage: Storage) -> Expr:
        key, value = storage.types
        if not isinstance(value, Int):
            hint = f"the values of self.{storage.name} are {describe(value)}"
            raise Refused(node, "only integers are added to", hint)
        if len(node.args) != 2:
            raise Refused(node, "add takes a key and an amount", "self.m.add(key, 1)")
        parts = self.value(node.args[0], key), self.value(node.args[1], INT)
        return Expr("add", NONE, parts, storage)

    def _var(self, node: ast.Call, storage: Storage, name: str) -> Expr:
        kind = storage.types[0]
        if name == "set":
            return Expr("var_set", NONE, (self._only(node, kind),), storage)
        if name == "exists":
            self._none(node)
            return Expr("map_has", BOOL, (), storage)
        if node.args:
            return Expr("map_default", kind, (self._only(node, kind),), storage)
        return Expr("map_get", kind, (), storage)

    def _only(self, node: ast.Call, kind: Type) -> Expr:
        if len(node.args) != 1:
            raise Refused(node, "expected one argument", "")
        return self.value(node.args[0], kind)

    def _none(self, node: ast.Call) -> None:
        if node.args:
            raise Refused(node, "expected no arguments", "")

    # --- built-ins

    def _builtin_len(self, node: ast.Call) -> Expr:
        value = self._one(node)
        if value.type == STR:
            return Expr("str_len", _LENGTH, (value,))
        if isinstance(value.type, ListOf) or value.type in BYTES_FAMILY:
            return Expr("length", _LENGTH, (value,))
        raise Refused(node, f"{describe(value.type)} has no length", "use a list, bytes or str")

    def _one(self, node: ast.Call) -> Expr:
        if len(node.args) != 1:
            raise Refused(node, "expected one argument", "")
        return self.check(node.args[0])

    def _builtin_min(self, node: ast.Call) -> Expr:
        return self._pick(node, "lt")

    def _builtin_max(self, node: ast.Call) -> Expr:
        return self._pick(node, "gt")

    def _pick(self, node: ast.Call, order: str) -> Expr:
        if len(node.args) < 2:
            raise Refused(node, "min and max take two or more integers", "min(a, b)")
        done = self.check(node.args[0])
        for item in node.args[1:]:
            right = self.check(item)
            if not isinstance(done.type, Int) or not isinstance(right.type, Int):
                raise Refused(node, "min and max take integers", "write an if")
            kind = join(done.type, right.type, node)
            both = coerce(done, kind, node), coerce(right, kind, node)
            done = self._picked(node, order, both, kind)
        return done

    def _picked(self, node: ast.Call, order: str, both: tuple[Expr, Expr], kind: Type) -> Expr:
        names = self.hidden("pick"), self.hidden("pick")
        for name in names:
            self.variables[name] = kind
        bound = [Expr("bind", kind, (e,), n) for e, n in zip(both, names, strict=True)]
        left, right = (Expr("local", kind, value=name) for name in names)
        # CPython keeps the first unless a later one is strictly better.
        first, second = bound
        better = ast.Gt() if order == "lt" else ast.Lt()
        test = self.compare(node, better, first, second)
        return Expr("if", kind, (test, right, left))

    def _builtin_abs(self, node: ast.Call) -> Expr:
        value = self._one(node)
        if not isinstance(value.type, Int):
            raise Refused(node, "abs takes an integer", "")
        most = max(abs(value.type.low), abs(value.type.high))
        return coerce_inside(Expr("abs", INT, (_wide(value),)), span(0, most))

    def _builtin_str(self, node: ast.Call) -> Expr:
        return self.text_of(self._one(node), node)

    def _builtin_sha256(self, node: ast.Call) -> Expr:
        return Expr("sha256", BYTES32, (self._only(node, BYTES),))

    def _builtin_paillier_add(self, node: ast.Call) -> Expr:
        return self._paillier(node, "paillier_add", BYTES)

    def _builtin_paillier_add_plain(self, node: ast.Call) -> Expr:
        return self._paillier(node, "paillier_add_plain", INT)

    def _builtin_paillier_scalar_multiply(self, node: ast.Call) -> Expr:
        return self._paillier(node, "paillier_scalar_multiply", INT)

    def _paillier(self, node: ast.Call, name: str, last: Type) -> Expr:
        if len(node.args) != 3:
            raise Refused(node, f"{name} takes a key, a ciphertext and one more", "")
        kinds = zip(node.args, (BYTES, BYTES, last), strict=True)
        return Expr(name, BYTES, tuple(self.value(item, kind) for item, kind in kinds))

    def _builtin_address(self, node: ast.Call) -> Expr:
        return Expr("fixed32", ADDRESS, (self._only(node, BYTES),))

    def _builtin_bytes32(self, node: ast.Call) -> Expr:
        return Expr("fixed32", BYTES32, (self._only(node, BYTES),))

    def _builtin_bytes(self, node: ast.Call) -> Expr:
        value = self._one(node)
        if value.type in BYTES_FAMILY:
            return coerce(value, BYTES, node)
        if value.op == "int" and 0 <= value.value <= 65536:
            return Expr("bytes", BYTES, value=bytes(value.value))
        raise Refused(node, "bytes takes bytes or a constant length", "concatenate with +")

    def _builtin_int(self, node: ast.Call) -> Expr:
        value = self._one(node)
        if isinstance(value.type, Int):
            return value
        if value.type == BOOL:
            one, zero = (Expr("int", span(0, 1), value=n) for n in (1, 0))
            return Expr("if", span(0, 1), (value, one, zero))
        raise Refused(node, f"int does not take {describe(value.type)}", "int.from_bytes(...)")

    def _builtin_replace(self, node: ast.Call) -> Expr:
        if len(node.args) != 1:
            raise Refused(node, "replace takes one record", "replace(record, field=value)")
        record = self.check(node.args[0])
        if not isinstance(record.type, Struct):
            raise Refused(node, "replace takes a record", "replace(record, field=value)")
        kinds = {entry.name: entry.type for entry in record.type.fields}
        name = self.hidden("replace")
        self.variables[name] = record.type
        changes: list[tuple[int, Expr]] = []
        order = list(kinds)
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg not in kinds:
                raise Refused(node, f"{record.type} has no field {keyword.arg}", str(order))
            value = self.value(keyword.value, kinds[keyword.arg])
            changes.append((order.index(keyword.arg), value))
        return Expr(
            "replace",
            record.type,
            (record, *(value for _, value in changes)),
            [index for index, _ in changes],
        )

    # --- methods of values

    def _value_method(self, node: ast.Call, func: ast.Attribute) -> Expr:
        if isinstance(func.value, ast.Name) and func.value.id == "int":
            return self._from_bytes(node, func)
        target = self.check(func.value)
        match target.type, func.attr:
            case ListOf(item), "append":
                return Expr("append", NONE, (target, self._only(node, item)))
            case ListOf(item), "pop":
                self._none(node)
                return Expr("pop", item, (target,))
            case _, "encode" if target.type == STR:
                self._none(node)
                return Expr("same", BYTES, (target,))
            case Int(), "to_bytes":
                return self._to_bytes(node, target)
            case _:
                raise Refused(
                    node,
                    f"{describe(target.type)} has no method {func.attr}",
                    "lists have append and pop, str has encode, int has to_bytes",
                )

    def _to_bytes(self, node: ast.Call, target: Expr) -> Expr:
        match node:
            case ast.Call(args=[size, ast.Constant(value="big")], keywords=[]):
                return Expr("to_bytes", BYTES, (_wide(target), self.index(size)))
            case _:
                raise Refused(node, "to_bytes takes a size and 'big'", 'x.to_bytes(8, "big")')

    def _from_bytes(self, node: ast.Call, func: ast.Attribute) -> Expr:
        match func.attr, node:
            case "from_bytes", ast.Call(args=[data, ast.Constant(value="big")], keywords=[]):
                value = Expr("from_bytes", INT, (self.value(data, BYTES),))
                return coerce_inside(value, span(0, INT.high))
            case _:
                raise Refused(node, f"int.{func.attr} is not known", 'int.from_bytes(b, "big")')


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def coerce_inside(expr: Expr, kind: Int) -> Expr:
    """Narrow a type to a range the value is known to lie in."""
    return Expr("int_to", kind, (expr,), False)
