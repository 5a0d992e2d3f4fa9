"""Checks expressions and turns them into typed trees."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Final

from chainnode.contract.compiler.declarations import FunctionInfo, Program
from chainnode.contract.compiler.diagnostics import Refused
from chainnode.contract.compiler.ir import (
    BYTES_FAMILY,
    Expr,
    Storage,
    arithmetic_range,
    coerce,
    describe,
    fields_of,
    fits64,
    join,
    span,
)
from chainnode.contract.schema import (
    ADDRESS,
    BOOL,
    BYTES,
    BYTES32,
    INT,
    INT_MAX,
    INT_MIN,
    NONE,
    STR,
    U64,
    Int,
    ListOf,
    OptionalOf,
    Struct,
    TupleOf,
    Type,
)

_ARITHMETIC: Final[dict[type[ast.operator], str]] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "div", ast.Mod: "mod",
    ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
}  # fmt: skip
_NO_OPERATOR: Final[dict[type[ast.operator], tuple[str, str]]] = {
    ast.Div: ("/ gives a fraction", "use // (rounds down) or scale first"),
    ast.Pow: ("** is only for constants", "multiply in a loop"),
    ast.LShift: ("<< is only for constants", "multiply by a power of two"),
    ast.RShift: (">> is not supported", "use // with a power of two"),
    ast.MatMult: ("@ is not supported", "contracts have no matrices"),
}
_COMPARE: Final[dict[type[ast.cmpop], str]] = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
}  # fmt: skip
CONTEXT: Final[dict[str, tuple[Type, int]]] = {
    "sender": (ADDRESS, 0), "sender_org": (STR, 1), "sender_role": (STR, 2), "contract": (STR, 3),
    "tx_id": (BYTES32, 4), "chain_id": (STR, 5), "sender_name": (STR, 6), "height": (U64, 0),
    "time_ms": (U64, 1), "caller": (STR, 7), "origin": (ADDRESS, 8), "address": (ADDRESS, 9),
}  # fmt: skip

# Expression classes of Python that contracts do not have, with the way around.
UNSUPPORTED: Final[dict[str, tuple[str, str]]] = {
    "Lambda": ("lambda is not supported", "write a method or a module-level function"),
    "Dict": ("dictionaries are not supported", "use a Map in storage or a list of tuples"),
    "Set": ("sets are not supported", "use a list or a Map"),
    "ListComp": ("comprehensions are not supported", "append in a for loop"),
    "SetComp": ("comprehensions are not supported", "append in a for loop"),
    "DictComp": ("comprehensions are not supported", "append in a for loop"),
    "GeneratorExp": ("generators are not supported", "append in a for loop"),
    "Await": ("await is not supported", "contract calls are synchronous"),
    "Yield": ("generators are not supported", "append to a list and return it"),
    "YieldFrom": ("generators are not supported", "append to a list and return it"),
    "NamedExpr": (":= is not supported", "assign in a statement of its own"),
    "Starred": ("unpacking with * is not supported", "name every item"),
    "Slice": ("a slice can only stand in brackets", "write data[start:stop]"),
    "FormattedValue": ("a formatted value stands only in an f-string", "use str(value)"),
    "TemplateStr": ("template strings are not supported", "concatenate with +"),
    "Interpolation": ("template strings are not supported", "concatenate with +"),
}


class Expressions:
    """The expression half of a function's check; statements and calls build on it."""

    def __init__(self, program: Program, info: FunctionInfo) -> None:
        self.program = program
        self.info = info
        self.variables: dict[str, Type] = dict(info.params)
        self.assigned: set[str] = set(self.variables)
        self.nonnull: set[str] = set()
        self.counter = 0

    # Provided by the other halves.
    check_call: Callable[[ast.Call, Type | None], Expr]

    def check(self, node: ast.expr, expected: Type | None = None) -> Expr:
        """Return the typed expression; `expected` only guides literals.

        Raises:
            Refused: it is not in the subset.
        """
        name = type(node).__name__
        handler = getattr(self, f"_check_{name.lower()}", None)
        if handler is None:
            message, hint = UNSUPPORTED.get(
                name, (f"{name} is not supported", "see docs/reference/contract-language.md")
            )
            raise Refused(node, message, hint)
        checked: Expr = handler(node, expected)
        return checked

    def value(self, node: ast.expr, kind: Type) -> Expr:
        """Check an expression and make it a value of this type."""
        return coerce(self.check(node, kind), kind, node)

    def hidden(self, purpose: str) -> str:
        """A variable name no source can have."""
        self.counter += 1
        return f"{purpose}#{self.counter}"

    def self_storage(self, node: ast.expr) -> Storage | None:
        """The storage field `self.name` stands for, if it does."""
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if self.info.method:
                return self.program.storage.get(name)
            case _:
                return None

    # --- leaves

    def _check_constant(self, node: ast.Constant, expected: Type | None) -> Expr:
        match node.value:
            case bool() as flag:
                return Expr("bool", BOOL, value=flag)
            case int() as number:
                return self._integer(number, node)
            case str() as text:
                return Expr("bytes", STR, value=self._encoded(text, node))
            case bytes() as data:
                return Expr("bytes", BYTES, value=data)
            case None:
                return Expr("none", NONE)
            case float() | complex():
                raise Refused(node, "fractions are not supported", "use integers of smaller units")
            case _:
                raise Refused(node, "... is not supported", "write the statements")

    def _encoded(self, text: str, node: ast.AST) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise Refused(node, "the text has half a surrogate pair", "remove it") from None

    def _integer(self, number: int, node: ast.AST) -> Expr:
        if not INT_MIN <= number <= INT_MAX:
            raise Refused(node, f"{number} is outside int", "use a smaller one or bytes")
        return Expr("int", span(number, number), value=number)

    def _check_name(self, node: ast.Name, expected: Type | None) -> Expr:
        name = node.id
        if name in self.variables:
            if name not in self.assigned:
                raise Refused(node, f"{name} may have no value here", "assign it on every path")
            kind = self.variables[name]
            found = Expr("local", kind, value=name)
            if isinstance(kind, OptionalOf) and name in self.nonnull:
                return Expr("unbox", kind.item, (found,))
            return found
        if name in self.program.constants:
            return self._check_constant(
                ast.copy_location(ast.Constant(self.program.constants[name]), node), expected
            )
        hint = "storage and methods are reached through self"
        if name in self.program.storage or name in self.program.methods:
            raise Refused(node, f"{name} is not a variable", f"write self.{name}")
        raise Refused(node, f"{name} is not defined", hint)

    # --- operators

    def _check_binop(self, node: ast.BinOp, expected: Type | None) -> Expr:
        left = self.check(node.left)
        right = self.check(node.right)
        return self.binary(node, node.op, left, right)

    def binary(self, node: ast.AST, op: ast.operator, left: Expr, right: Expr) -> Expr:
        """Return `left op right`; both are already checked."""
        if type(op) in _NO_OPERATOR:
            raise Refused(node, *_NO_OPERATOR[type(op)])
        name = _ARITHMETIC[type(op)]
        a, b = left.type, right.type
        if isinstance(a, Int) and isinstance(b, Int):
            return self.arithmetic(node, name, left, right)
        if name == "add" and a in BYTES_FAMILY and b in BYTES_FAMILY:
            return Expr("concat", BYTES, (left, right))
        if name == "add" and a == b == STR:
            return Expr("concat", STR, (left, right))
        if a == b == BOOL and name in {"and", "or", "xor"}:
            return Expr("bit_" + name, BOOL, (left, right))
        hint = "append in a loop" if isinstance(a, ListOf) else "convert one side"
        if isinstance(a, OptionalOf) or isinstance(b, OptionalOf):
            hint = "test it with `is None` first"
        raise Refused(
            node, f"{describe(a)} and {describe(b)} do not go together in this operation", hint
        )

    def arithmetic(self, node: ast.AST, name: str, left: Expr, right: Expr) -> Expr:
        """Integer arithmetic in the smallest representation that holds operands and result."""
        a, b = left.type, right.type
        assert isinstance(a, Int) and isinstance(b, Int)
        exact = arithmetic_range(name, a, b)
        if left.op == right.op == "int" and exact.low == exact.high and right.value != 0:
            return self._integer(exact.low, node)
        kind = span(exact.low, exact.high)
        if fits64(a) and fits64(b) and fits64(exact):
            return Expr("arith64", kind, (left, right), name)
        wide = Expr("arith128", INT, (_wide(left), _wide(right)), name)
        return Expr("int_to", kind, (wide,), False) if kind != INT else wide

    def _check_unaryop(self, node: ast.UnaryOp, expected: Type | None) -> Expr:
        operand = self.check(node.operand)
        if isinstance(node.op, ast.Not):
            if operand.type != BOOL:
                raise Refused(
                    node, f"not needs a bool, found {describe(operand.type)}", "write a comparison"
                )
            return Expr("not", BOOL, (operand,))
        if not isinstance(operand.type, Int):
            raise Refused(node, f"{describe(operand.type)} has no sign", "use an integer")
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(node.op, ast.Invert):
            minus_one = Expr("int", span(-1, -1), value=-1)
            return self.arithmetic(node, "sub", minus_one, operand)
        if operand.op == "int":
            return self._integer(-operand.value, node)
        return self.arithmetic(node, "sub", Expr("int", span(0, 0), value=0), operand)

    def _check_boolop(self, node: ast.BoolOp, expected: Type | None) -> Expr:
        name = "and_then" if isinstance(node.op, ast.And) else "or_else"
        saved = set(self.nonnull)
        parts: list[Expr] = []
        for item in node.values:
            part = self.check(item)
            if part.type != BOOL:
                raise Refused(
                    item, f"expected bool, found {describe(part.type)}", "write a comparison"
                )
            parts.append(part)
            self.nonnull |= self.facts(item, isinstance(node.op, ast.And))
        self.nonnull = saved
        done = parts[-1]
        for part in reversed(parts[:-1]):
            done = Expr(name, BOOL, (part, done))
        return done

    def facts(self, node: ast.expr, truth: bool) -> set[str]:
        """The variables that are not None when a condition has this truth value."""
        match node:
            case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(None)]):
                if isinstance(op, ast.IsNot if truth else ast.Is):
                    return {name}
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return self.facts(inner, not truth)
            case ast.BoolOp(op=op, values=values):
                if isinstance(op, ast.And if truth else ast.Or):
                    return set().union(*(self.facts(item, truth) for item in values))
            case _:
                pass
        return set()

    def condition(self, node: ast.expr) -> Expr:
        """Check a condition; only bool is one."""
        found = self.check(node)
        if found.type != BOOL:
            hint = "compare: len(x) > 0, x != 0, x is not None"
            raise Refused(node, f"a condition must be bool, not {describe(found.type)}", hint)
        return found

    def _check_ifexp(self, node: ast.IfExp, expected: Type | None) -> Expr:
        test = self.condition(node.test)
        saved = set(self.nonnull)
        self.nonnull = saved | self.facts(node.test, True)
        left = self.check(node.body, expected)
        self.nonnull = saved | self.facts(node.test, False)
        right = self.check(node.orelse, expected)
        self.nonnull = saved
        kind = expected if expected is not None else join(left.type, right.type, node)
        return Expr(
            "if", kind, (test, coerce(left, kind, node.body), coerce(right, kind, node.orelse))
        )

    # --- comparisons

    def _check_compare(self, node: ast.Compare, expected: Type | None) -> Expr:
        left = self.check(node.left)
        if len(node.ops) == 1:
            return self._comparison(node, node.ops[0], left, node.comparators[0])
        parts: list[Expr] = []
        for index, (op, item) in enumerate(zip(node.ops, node.comparators, strict=True)):
            if type(op) not in _COMPARE:
                raise Refused(node, "only < <= > >= == != can be chained", "split with `and`")
            right = self.check(item)
            if index < len(node.ops) - 1:
                name = self.hidden("chain")
                self.variables[name] = right.type
                bound = Expr("bind", right.type, (right,), name)
                parts.append(self.compare(node, op, left, bound))
                left = Expr("local", right.type, value=name)
            else:
                parts.append(self.compare(node, op, left, right))
        done = parts[-1]
        for part in reversed(parts[:-1]):
            done = Expr("and_then", BOOL, (part, done))
        return done

    def _comparison(self, node: ast.Compare, op: ast.cmpop, left: Expr, item: ast.expr) -> Expr:
        if isinstance(op, ast.Is | ast.IsNot):
            return self._is_none(node, op, left, item)
        if isinstance(op, ast.In | ast.NotIn):
            found = self._contains(node, left, item)
            return Expr("not", BOOL, (found,)) if isinstance(op, ast.NotIn) else found
        return self.compare(node, op, left, self.check(item))

    def _is_none(self, node: ast.Compare, op: ast.cmpop, left: Expr, item: ast.expr) -> Expr:
        if not (isinstance(item, ast.Constant) and item.value is None):
            raise Refused(node, "`is` compares only with None", "use ==")
        while left.op == "unbox":
            left = left.args[0]
        if not isinstance(left.type, OptionalOf):
            raise Refused(node, f"{describe(left.type)} is never None", "remove the test")
        test = Expr("is_none", BOOL, (left,))
        return test if isinstance(op, ast.Is) else Expr("not", BOOL, (test,))

    def _contains(self, node: ast.Compare, left: Expr, item: ast.expr) -> Expr:
        storage = self.self_storage(item)
        if storage is not None:
            if storage.kind != "map":
                raise Refused(item, f"self.{storage.name} is no Map", "use .exists() or .read()")
            return Expr("map_has", BOOL, (coerce(left, storage.types[0], node.left),), storage)
        right = self.check(item)
        if isinstance(right.type, ListOf):
            return Expr("list_has", BOOL, (coerce(left, right.type.item, node), right))
        raise Refused(node, f"`in` does not search {describe(right.type)}", "use a list or a Map")

    def compare(self, node: ast.AST, op: ast.cmpop, left: Expr, right: Expr) -> Expr:
        """Return `left op right` as a bool."""
        name, a, b = _COMPARE[type(op)], left.type, right.type
        if isinstance(a, Int) and isinstance(b, Int):
            if fits64(a) and fits64(b):
                return Expr("compare64", BOOL, (left, right), name)
            return Expr("compare128", BOOL, (_wide(left), _wide(right)), name)
        both_bytes = a in BYTES_FAMILY and b in BYTES_FAMILY
        if name in {"eq", "ne"}:
            if NONE in (a, b):
                raise Refused(node, "None is compared with ==", "write `is None`")
            kind = BYTES if both_bytes else join(a, b, node)
            if not both_bytes:
                left, right = coerce(left, kind, node), coerce(right, kind, node)
            same = Expr("equal", BOOL, (left, right), kind)
            return same if name == "eq" else Expr("not", BOOL, (same,))
        if both_bytes or a == b == STR:
            return Expr("order", BOOL, (left, right), name)
        raise Refused(
            node,
            f"{describe(a)} and {describe(b)} have no order",
            "compare integers, bytes or text of the same type",
        )

    # --- structure

    def _check_tuple(self, node: ast.Tuple, expected: Type | None) -> Expr:
        wanted: list[Type | None] = [None] * len(node.elts)
        if isinstance(expected, TupleOf) and len(expected.items) == len(node.elts):
            wanted = list(expected.items)
        parts = []
        for item, kind in zip(node.elts, wanted, strict=True):
            part = self.check(item, kind)
            parts.append(part if kind is None else coerce(part, kind, item))
        return Expr("record", TupleOf(tuple(item.type for item in parts)), tuple(parts))

    def _check_list(self, node: ast.List, expected: Type | None) -> Expr:
        if isinstance(expected, OptionalOf):
            expected = expected.item
        if isinstance(expected, ListOf):
            kind = expected.item
            parts = [self.value(item, kind) for item in node.elts]
        elif node.elts:
            found = [self.check(item) for item in node.elts]
            kind = found[0].type
            for part in found[1:]:
                kind = join(kind, part.type, node)
            kind = INT if isinstance(kind, Int) else kind
            parts = [coerce(p, kind, n) for p, n in zip(found, node.elts, strict=True)]
        else:
            raise Refused(node, "the items' type is unknown", "annotate: items: list[u64] = []")
        return Expr("list", ListOf(kind), tuple(parts))

    def _check_attribute(self, node: ast.Attribute, expected: Type | None) -> Expr:
        if isinstance(node.value, ast.Name) and node.value.id == "ctx":
            if node.attr not in CONTEXT:
                raise Refused(node, f"ctx has no {node.attr}", f"one of: {', '.join(CONTEXT)}")
            kind, number = CONTEXT[node.attr]
            return Expr("context", kind, value=number)
        storage = self.self_storage(node)
        if storage is not None:
            hint = {"map": "[key]", "var": ".get()", "counter": ".read()"}[storage.kind]
            raise Refused(node, f"self.{node.attr} is no value", f"self.{node.attr}{hint}")
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            raise Refused(node, f"self.{node.attr} is not declared", "declare a storage field")
        record = self.check(node.value)
        if isinstance(record.type, Struct):
            names = [entry.name for entry in record.type.fields]
            if node.attr in names:
                index = names.index(node.attr)
                kind = record.type.fields[index].type
                return Expr("field", kind, (record,), (record.type, index))
        hint = "test it with `is None` first" if isinstance(record.type, OptionalOf) else ""
        raise Refused(node, f"{describe(record.type)} has no field {node.attr}", hint)

    def _check_subscript(self, node: ast.Subscript, expected: Type | None) -> Expr:
        storage = self.self_storage(node.value)
        if storage is not None:
            if storage.kind != "map":
                raise Refused(node, f"self.{storage.name} is no Map", "use .get() or .read()")
            key = self.value(node.slice, storage.types[0])
            return Expr("map_get", storage.types[1], (key,), storage)
        target = self.check(node.value)
        if isinstance(node.slice, ast.Slice):
            return self._slice(node, target, node.slice)
        match target.type:
            case ListOf(item):
                return Expr("list_at", item, (target, self.index(node.slice)))
            case TupleOf(items):
                position = self.check(node.slice)
                if position.op != "int" or not -len(items) <= position.value < len(items):
                    raise Refused(node, "a tuple index is a constant", "unpack the tuple")
                number = position.value % len(items)
                return Expr("field", items[number], (target,), (target.type, number))
            case kind if kind in BYTES_FAMILY:
                return Expr("bytes_at", span(0, 255), (target, self.index(node.slice)))
            case _:
                hint = "text has no index; use .encode()" if target.type == STR else ""
                raise Refused(node, f"{describe(target.type)} has no items", hint)

    def index(self, node: ast.expr) -> Expr:
        """Check an index: any integer, cut to 64 bits where it is out of range anyway."""
        found = self.check(node)
        if not isinstance(found.type, Int):
            raise Refused(node, f"an index is an integer, not {describe(found.type)}", "")
        return found if fits64(found.type) else Expr("near64", span(-(2**63), 2**63 - 1), (found,))

    def _slice(self, node: ast.Subscript, target: Expr, part: ast.Slice) -> Expr:
        if target.type not in BYTES_FAMILY:
            raise Refused(node, f"{describe(target.type)} has no slices", "only bytes have")
        if part.step is not None:
            raise Refused(node, "slices have no step", "write a loop")
        start = Expr("int", span(0, 0), value=0)
        stop = Expr("int", span(2**62, 2**62), value=2**62)
        start = self.index(part.lower) if part.lower else start
        stop = self.index(part.upper) if part.upper else stop
        return Expr("slice", BYTES, (target, start, stop))

    def _check_call(self, node: ast.Call, expected: Type | None) -> Expr:
        return self.check_call(node, expected)

    def _check_joinedstr(self, node: ast.JoinedStr, expected: Type | None) -> Expr:
        done = Expr("bytes", STR, value=b"")
        for item in node.values:
            if isinstance(item, ast.FormattedValue):
                if item.conversion != -1 or item.format_spec is not None:
                    raise Refused(node, "f-strings have no formats", "write {value} only")
                part = self.text_of(self.check(item.value), node)
            else:
                part = self.check(item)
            done = part if done.value == b"" else Expr("concat", STR, (done, part))
        return done

    def text_of(self, value: Expr, node: ast.AST) -> Expr:
        """`str(value)` for text, integers and bools."""
        if value.type == STR:
            return value
        if isinstance(value.type, Int):
            return Expr("int_str", STR, (_wide(value),))
        if value.type == BOOL:
            words = (Expr("bytes", STR, value=b"True"), Expr("bytes", STR, value=b"False"))
            return Expr("if", STR, (value, *words))
        raise Refused(node, f"{describe(value.type)} has no text form", "use int, str or bool")

    def part_types(self, kind: Type, count: int, node: ast.AST) -> list[Type]:
        """The types an unpacking gives its targets."""
        if not isinstance(kind, TupleOf) or len(fields_of(kind)) != count:
            raise Refused(node, f"{describe(kind)} does not unpack into {count}", "use a tuple")
        return fields_of(kind)


def _wide(expr: Expr) -> Expr:
    if expr.op == "int":
        return Expr("int", INT, value=expr.value)
    return expr if not fits64(expr.type) else Expr("int_to", INT, (expr,), False)
