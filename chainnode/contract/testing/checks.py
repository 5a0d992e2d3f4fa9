"""Puts into plain CPython the integer checks that compiled contracts have.

The contract's module is parsed again, every integer operation and every annotated boundary is
wrapped in a check, and the functions get the new code. Nothing else about them changes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import operator
import sys
import types
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from chainnode.contract import schema
from chainnode.contract.codec import RangeError, check_int
from chainnode.contract.modules import modules_of
from chainnode.contract.reflection import resolve
from chainnode.contract.sdk import Contract

_PREFIX: Final = "__contract_"
_FUNCTION = ast.FunctionDef
_OPERATORS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "floordiv", ast.Mod: "mod",
    ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor",
}  # fmt: skip


def in_range(value: Any) -> Any:
    """Return the value; an integer outside 128 bits raises RangeError."""
    if isinstance(value, int) and not schema.INT_MIN <= value <= schema.INT_MAX:
        raise RangeError("", "integer overflow")
    return value


def fit(value: Any, hint: Any) -> Any:
    """Return the value; an integer outside its annotated range raises RangeError."""
    return _fit(value, resolve(hint)) if hint is not None else value


def _fit(value: Any, kind: schema.Type) -> Any:
    match kind:
        case schema.Int() if isinstance(value, int):
            return check_int(kind, value)
        case schema.TupleOf(items) if isinstance(value, tuple) and len(items) == len(value):
            for item, entry in zip(items, value, strict=True):
                _fit(entry, item)
        case schema.OptionalOf(item) if value is not None:
            _fit(value, item)
        case schema.ListOf(item) if isinstance(value, list):
            for entry in value:
                _fit(entry, item)
        case _:
            pass
    return value


def fit_item(value: Any, hint: Any) -> Any:
    """Return an item going into a list; an integer outside the item's range raises RangeError."""
    kind = resolve(hint) if hint is not None else None
    return _fit(value, kind.item) if isinstance(kind, schema.ListOf) else in_range(value)


def load_item(holder: Any, index: Any) -> tuple[Any, Any, Any]:
    """Evaluate the target of `holder[index] op= value`, before the value is."""
    return holder, index, holder[index]


def store_item(target: tuple[Any, Any, Any], value: Any, name: str, hint: Any) -> None:
    """Finish `holder[index] op= value`."""
    holder, index, old = target
    holder[index] = fit_item(getattr(operator, name)(old, value), hint)


def _call(name: str, *args: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(_PREFIX + name + "__", ast.Load()), list(args), [])


class _Checks(ast.NodeTransformer):
    def __init__(self) -> None:
        self._ranges: dict[str, ast.expr] = {}
        self._returns: ast.expr | None = None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        outer = self._ranges, self._returns
        arguments = [arg for arg in node.args.args if arg.annotation is not None]
        self._ranges = {arg.arg: arg.annotation for arg in arguments if arg.annotation}
        for entry in ast.walk(node):
            if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                self._ranges[entry.target.id] = entry.annotation
        self._returns = node.returns
        entry_checks: list[ast.stmt] = [
            ast.Expr(_call("fit", ast.Name(arg.arg, ast.Load()), arg.annotation))
            for arg in arguments
            if arg.annotation is not None
        ]
        node.body = entry_checks + [self.visit(item) for item in node.body]
        self._ranges, self._returns = outer
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and self._returns is not None:
            node.value = _call("fit", node.value, self._returns)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name() as name, attr="append"), args=[item]):
                node.args = [_call("fit_item", item, self._hint(name))]
        return node

    def _hint(self, node: ast.expr) -> ast.expr:
        known = self._ranges.get(node.id) if isinstance(node, ast.Name) else None
        return known or ast.Constant(None)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return _call("in_range", node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return _call("in_range", node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None and isinstance(node.target, ast.Name):
            node.value = _call("fit", self.visit(node.value), node.annotation)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        target = node.targets[0]
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            node.value = _call("fit_item", node.value, self._hint(target.value))
        if isinstance(target, ast.Name) and target.id in self._ranges:
            node.value = _call("fit", node.value, self._ranges[target.id])
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.target, ast.Subscript):
            target = node.target
            loaded = _call("load_item", target.value, target.slice)
            name = ast.Constant(_OPERATORS[type(node.op)])
            return ast.Expr(_call("store_item", loaded, node.value, name, self._hint(target.value)))
        if not isinstance(node.target, ast.Name):
            return node
        value = _call(
            "in_range", ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        )
        if node.target.id in self._ranges:
            value = _call("fit", value, self._ranges[node.target.id])
        return ast.Assign([ast.Name(node.target.id, ast.Store())], value)


def add_checks(contract: type[Contract]) -> None:
    """Give the functions of a contract's files their checks; doing it twice changes nothing."""
    for module in modules_of(sys.modules[contract.__module__]):
        _add_checks(module)


def _add_checks(module: types.ModuleType) -> None:
    names = vars(module)
    if _PREFIX + "fit__" in names:
        return
    tree = ast.parse(inspect.getsource(module))
    for helper in (fit, in_range, fit_item, load_item, store_item):
        names[f"{_PREFIX}{helper.__name__}__"] = helper
    tree.body = [
        _Checks().visit(node) if isinstance(node, _FUNCTION | ast.ClassDef) else node
        for node in tree.body
    ]
    compiled = compile(ast.fix_missing_locations(tree), module.__file__ or "<contract>", "exec")
    codes = dict(_codes(compiled))
    for item in list(names.values()):
        if getattr(item, "__module__", None) != module.__name__:
            continue
        if isinstance(item, type):
            _check_class(item, codes)
        elif isinstance(item, types.FunctionType):
            _replace(item, codes)


def _codes(code: types.CodeType) -> list[tuple[str, types.CodeType]]:
    found: list[tuple[str, types.CodeType]] = []
    for item in code.co_consts:
        if isinstance(item, types.CodeType):
            found += [(item.co_qualname, item), *_codes(item)]
    return found


def _replace(function: types.FunctionType, codes: dict[str, types.CodeType]) -> None:
    code = codes.get(function.__qualname__)
    if code is not None and len(code.co_freevars) == len(function.__code__.co_freevars):
        function.__code__ = code


def _check_class(cls: type, codes: dict[str, types.CodeType]) -> None:
    for item in vars(cls).values():
        if isinstance(item, types.FunctionType) and item.__module__ == cls.__module__:
            _replace(item, codes)
    if dataclasses.is_dataclass(cls):
        type.__setattr__(cls, "__init__", _checked_init(cls, vars(cls)["__init__"]))


def _checked_init(cls: type, plain: Callable[..., None]) -> Callable[..., None]:
    fields = {item.name: item for item in dataclasses.fields(cls)}

    @wraps(plain)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        from chainnode.contract.reflection import resolve_struct

        for entry in resolve_struct(cls).fields:
            if entry.name in fields:
                _fit(getattr(self, entry.name), entry.type)

    return checked
