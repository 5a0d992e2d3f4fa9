"""Reads what a contract's files declare: imports, constants, records, functions, storage."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any, Final

from chainnode.contract import schema
from chainnode.contract.compiler.diagnostics import Diagnostic, Refused
from chainnode.contract.compiler.ir import Storage
from chainnode.contract.compiler.sources import check_relative
from chainnode.contract.schema import Struct, Type
from chainnode.types.limits import CONTRACT_STORAGE_FIELDS_MAX

_IMPORTS: Final = {
    "__future__": {"annotations"},
    "dataclasses": {"dataclass", "replace"},
    "typing": {"Annotated", "Final", "Optional"},
}
_SDK: Final = "chainnode.contract"
_SCALARS: Final[dict[str, Type]] = {
    "bool": schema.BOOL, "int": schema.INT, "bytes": schema.BYTES, "str": schema.STR,
    "Bytes32": schema.BYTES32, "Address": schema.ADDRESS, "u8": schema.U8, "u16": schema.U16,
    "u32": schema.U32, "u64": schema.U64, "u128": schema.U128, "i64": schema.I64,
}  # fmt: skip
_STORAGE: Final = {"Map": 2, "Var": 1, "Counter": 0}


@dataclass(slots=True)
class FunctionInfo:
    """A method or module-level function. `kind` is init, call, view or helper."""

    name: str
    kind: str
    node: ast.FunctionDef
    params: list[tuple[str, Type]]
    returns: Type
    defaults: dict[str, ast.expr]
    method: bool
    home: Program = field(repr=False, compare=False)

    @property
    def symbol(self) -> str:
        return f"m.{self.name}" if self.method else f"f.{self.name}"


@dataclass(frozen=True, slots=True)
class Home:
    """Where a name of module level is declared."""

    program: Program
    line: int


@dataclass(slots=True)
class Shared:
    """What the files of a contract have in common.

    Args:
        programs: the files read so far, by module name.
        homes: every name of module level; none is declared by two files.
        errors: names in source order, which numbers them.
    """

    programs: dict[str, Program] = field(default_factory=dict)
    homes: dict[str, Home] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)


@dataclass(slots=True)
class Program:
    """Everything a contract module can name: what it declares and what it imports.

    Args:
        contract: the contract class it declares, `node`, with `base` for the file of its base.
        contracts: the contract classes it can derive from.
        storage: the class's fields, those of its bases first; `methods` likewise.
    """

    file: str
    module: str = ""
    shared: Shared = field(default_factory=Shared, repr=False)
    contract: str = ""
    node: ast.ClassDef | None = None
    base: Program | None = None
    contracts: dict[str, Program] = field(default_factory=dict, repr=False)
    name: str = ""
    version: str = "1"
    constants: dict[str, Any] = field(default_factory=dict)
    structs: dict[str, Struct] = field(default_factory=dict)
    defaults: dict[str, dict[str, ast.expr]] = field(default_factory=dict)
    events: dict[str, Struct] = field(default_factory=dict)
    errors: dict[str, Struct] = field(default_factory=dict)
    storage: dict[str, Storage] = field(default_factory=dict)
    functions: dict[str, FunctionInfo] = field(default_factory=dict)
    methods: dict[str, FunctionInfo] = field(default_factory=dict)
    interfaces: dict[str, dict[str, FunctionInfo]] = field(default_factory=dict)

    def report(self, refused: Refused) -> None:
        file = refused.file or self.file
        self.shared.problems.append(
            Diagnostic(file, refused.line, refused.column, refused.message, refused.hint)
        )

    def record(self, name: str) -> Struct | None:
        """A record of any sort by class name."""
        return self.structs.get(name) or self.events.get(name) or self.errors.get(name)


def base_names(node: ast.ClassDef) -> list[str]:
    return [base.id for base in node.bases if isinstance(base, ast.Name)]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def note(program: Program, node: ast.stmt, name: str) -> None:
    """Record where a name is declared.

    Raises:
        Refused: another file of the contract declares it too.
    """
    home = program.shared.homes.setdefault(name, Home(program, node.lineno))
    if home.program is not program:
        raise Refused(
            node,
            f"{name} is already declared at {home.program.file}:{home.line}",
            f"import it, from .{home.program.module} import {name}, or rename this one",
        )


def read_declaration(program: Program, node: ast.stmt) -> None:
    """Add one statement of module level, besides contract classes, to the program.

    Raises:
        Refused: it is none a contract has.
    """
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            note(program, node, name)
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            note(program, node, name)
        case _:
            pass
    match node:
        case ast.ImportFrom(level=0):
            _check_import(node)
        case ast.ImportFrom():
            _import_sibling(program, node)
        case ast.FunctionDef():
            info = read_function(program, node, method=False)
            program.functions[node.name] = info
        case ast.ClassDef() if base_names(node) == ["Interface"]:
            program.interfaces[node.name] = _interface(program, node)
        case ast.ClassDef():
            _record(program, node)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            program.constants[name] = constant(program, value)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            program.constants[name] = constant(program, value)
        case _ if _is_docstring(node):
            pass
        case _:
            raise Refused(
                node,
                f"{type(node).__name__} cannot stand at module level",
                "a module holds imports, constants, records, functions and one contract",
            )


def _import_sibling(program: Program, node: ast.ImportFrom) -> None:
    check_relative(node)
    other = program.shared.programs.get(node.module or "")
    if other is None:
        raise Refused(
            node, f"{node.module}.py is not in the contract's folder", "add it, or correct the name"
        )
    for alias in node.names:
        _import_name(program, other, alias)


def _import_name(program: Program, other: Program, alias: ast.alias) -> None:
    name = alias.name
    if alias.asname:
        raise Refused(alias, f"{name} is renamed", "import names as they are")
    home = program.shared.homes.get(name)
    if home is None or home.program is not other:
        known = f"write from .{home.program.module} import {name}" if home else "correct the name"
        raise Refused(alias, f"{other.file} does not declare {name}", known)
    if name == other.contract:
        program.contracts[name] = other
    for mine, theirs in (
        (program.structs, other.structs),
        (program.events, other.events),
        (program.errors, other.errors),
    ):
        mine.update({name: theirs[name]} if name in theirs else {})
    if name in other.interfaces:
        program.interfaces[name] = other.interfaces[name]
    if name in other.constants:
        program.constants[name] = other.constants[name]
    if name in other.functions:
        program.functions[name] = other.functions[name]


def _check_import(node: ast.ImportFrom) -> None:
    allowed = _IMPORTS.get(node.module or "")
    if node.module != _SDK and allowed is None:
        raise Refused(
            node,
            f"a contract cannot import {node.module}",
            "only chainnode.contract, dataclasses, typing and __future__ exist on chain",
        )
    for alias in node.names:
        if alias.asname:
            raise Refused(node, f"{alias.name} is renamed", "import names as they are")
        if allowed is not None and alias.name not in allowed:
            raise Refused(
                node,
                f"{node.module}.{alias.name} does not exist on chain",
                f"available: {', '.join(sorted(allowed))}",
            )


def constant(program: Program, node: ast.expr) -> Any:
    """Return the value of a constant expression.

    Raises:
        Refused: it is not made of literals and other constants.
    """
    match node:
        case ast.Constant(value=bool() | int() | str() | bytes()):
            return node.value
        case ast.Name(id=name) if name in program.constants:
            return program.constants[name]
        case ast.UnaryOp(op=ast.USub()):
            value = constant(program, node.operand)
            if isinstance(value, int):
                return -value
        case ast.BinOp():
            return _constant_operation(program, node)
        case _:
            pass
    raise Refused(node, "not a constant", "constants are literals and arithmetic on them")


def _constant_operation(program: Program, node: ast.BinOp) -> Any:
    left, right = constant(program, node.left), constant(program, node.right)
    if isinstance(left, bytes) and isinstance(right, bytes) and isinstance(node.op, ast.Add):
        return left + right
    if isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add):
        return left + right
    if type(left) is int and type(right) is int:
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.FloorDiv() if right:
                return left // right
            case ast.Pow() if 0 <= right < 128:
                return left**right
            case ast.LShift() if 0 <= right < 128:
                return left << right
    raise Refused(node, "not a constant", "constants use + - * // ** << on integers")


def read_type(program: Program, node: ast.expr | None, what: str) -> Type:
    """Return the type an annotation names.

    Raises:
        Refused: it is missing or no contract type.
    """
    if node is None:
        raise Refused(None, f"{what} has no type", "annotate it")
    match node:
        case ast.Constant(value=str() as text):
            return read_type(program, ast.parse(text, mode="eval").body, what)
        case ast.Name(id=name) if name in _SCALARS:
            return _SCALARS[name]
        case ast.Name(id=name) if name in program.structs:
            return program.structs[name]
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return schema.ListOf(read_type(program, item, what))
        case ast.Subscript(value=ast.Name(id="Optional"), slice=item):
            return schema.OptionalOf(read_type(program, item, what))
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=items)):
            return schema.TupleOf(tuple(read_type(program, item, what) for item in items))
        case ast.Subscript(value=ast.Name(id="tuple"), slice=item):
            return schema.TupleOf((read_type(program, item, what),))
        case ast.BinOp(left=item, op=ast.BitOr(), right=ast.Constant(value=None)):
            return schema.OptionalOf(read_type(program, item, what))
        case _:
            raise Refused(
                node,
                f"{ast.unparse(node)} is not a contract type",
                "use bool, int, u8..u128, i64, bytes, str, Bytes32, Address, tuple[...], list[T], "
                "T | None or a frozen dataclass declared above",
            )


def _record(program: Program, node: ast.ClassDef) -> None:
    kind = _record_kind(node)
    fields: list[schema.Field] = []
    defaults: dict[str, ast.expr] = {}
    for item in node.body:
        match item:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=hint, value=value):
                fields.append(schema.Field(name, read_type(program, hint, name)))
                if value is not None:
                    defaults[name] = value
            case ast.Pass():
                pass
            case _ if _is_docstring(item):
                pass
            case _:
                raise Refused(item, f"{node.name} may only have fields", "write `name: type` lines")
    program.defaults[node.name] = defaults
    where = {"dataclass": program.structs, "event": program.events, "error": program.errors}
    where[kind][node.name] = Struct(node.name, tuple(fields))
    if kind == "error" and node.name not in program.shared.errors:
        program.shared.errors.append(node.name)


def _interface(program: Program, node: ast.ClassDef) -> dict[str, FunctionInfo]:
    """Read what is known of another contract's methods."""
    methods: dict[str, FunctionInfo] = {}
    hint = "write @call or @view methods whose body is ..."
    for item in node.body:
        match item:
            case ast.FunctionDef(name=name):
                info = read_function(program, item, method=True)
                body = [line for line in item.body if not _is_text(line)]
                if info.kind not in {"call", "view"}:
                    raise Refused(item, f"{name} is neither @call nor @view", hint)
                if not _is_ellipsis(body):
                    raise Refused(
                        item, f"{name} has a body", "the other contract has it: write ..."
                    )
                methods[name] = info
            case _ if _is_docstring(item):
                pass
            case _:
                raise Refused(item, f"the interface {node.name} may only have methods", hint)
    return methods


def _is_text(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case _:
            return False


def _is_ellipsis(body: list[ast.stmt]) -> bool:
    match body:
        case [] | [ast.Pass()]:
            return True
        case [ast.Expr(value=ast.Constant(value=value))]:
            return value is ...
        case _:
            return False


def _record_kind(node: ast.ClassDef) -> str:
    bases = base_names(node)
    for item in node.decorator_list:
        match item:
            case ast.Name(id="event" | "error" as name):
                return name
            case ast.Call(
                func=ast.Name(id="dataclass"),
                keywords=[ast.keyword(arg="frozen", value=ast.Constant(value=True))],
            ):
                return "dataclass"
            case _:
                raise Refused(
                    item,
                    f"the decorator {ast.unparse(item)} is not supported",
                    "use @dataclass(frozen=True), @event or @error",
                )
    if bases in (["Error"], ["Event"]):
        return bases[0].lower()
    raise Refused(
        node,
        f"the class {node.name} is neither a record nor a contract",
        "use @dataclass(frozen=True), @event, @error, (Interface) or (Contract)",
    )


def read_member(program: Program, item: ast.stmt) -> None:
    """Add a storage field or method of the contract class to the program.

    Raises:
        Refused: it is neither, or a base declares the name.
    """
    match item:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=hint, value=None):
            program.storage[name] = _storage(program, name, hint)
        case ast.FunctionDef():
            program.methods[item.name] = read_function(program, item, method=True)
        case ast.Pass():
            pass
        case _ if _is_docstring(item):
            pass
        case _:
            raise Refused(
                item,
                f"{type(item).__name__} cannot stand in a contract class",
                "a contract has storage fields (name: Map[K, V]) and methods",
            )


def _storage(program: Program, name: str, hint: ast.expr) -> Storage:
    number = len(program.storage) + 1
    if number > CONTRACT_STORAGE_FIELDS_MAX:
        raise Refused(hint, "more than 255 storage fields", "group values in a dataclass")
    match hint:
        case ast.Name(id="Counter"):
            return Storage(name, number, "counter", ())
        case ast.Subscript(value=ast.Name(id="Var"), slice=item):
            return Storage(name, number, "var", (read_type(program, item, name),))
        case ast.Subscript(value=ast.Name(id="Map"), slice=ast.Tuple(elts=[key, value])):
            kinds = (read_type(program, key, name), read_type(program, value, name))
            if schema.contains_list(kinds[0]):
                raise Refused(key, "a list cannot be a key", "use a tuple")
            if isinstance(kinds[1], schema.OptionalOf):
                raise Refused(value, "a map cannot store None", "delete the key instead")
            return Storage(name, number, "map", kinds)
        case _:
            raise Refused(
                hint, f"{ast.unparse(hint)} is not storage", "use Map[K, V], Var[T] or Counter"
            )


def read_function(program: Program, node: ast.FunctionDef, *, method: bool) -> FunctionInfo:
    """Return a function's signature.

    Raises:
        Refused: it uses parameters or decorators contracts do not have.
    """
    spec = node.args
    if spec.vararg or spec.kwarg or spec.kwonlyargs or spec.posonlyargs:
        raise Refused(node, f"{node.name} has special parameters", "use plain named parameters")
    args = spec.args
    kind = "helper"
    for item in node.decorator_list:
        if method and isinstance(item, ast.Name) and item.id in {"init", "call", "view"}:
            kind = item.id
        else:
            raise Refused(
                item, f"the decorator {ast.unparse(item)} is not supported", "use @init @call @view"
            )
    if method:
        if not args or args[0].arg != "self":
            raise Refused(node, f"{node.name} does not take self", "add it as first parameter")
        args = args[1:]
    params = [(arg.arg, read_type(program, arg.annotation, arg.arg)) for arg in args]
    names = [name for name, _ in params]
    defaults = dict(zip(names[len(names) - len(spec.defaults) :], spec.defaults, strict=True))
    if defaults and kind != "helper":
        raise Refused(node, f"{node.name} has default arguments", "callers pass every argument")
    returns: Type = schema.NONE
    if node.returns is None:
        raise Refused(node, f"{node.name} has no result type", "write -> None or -> type")
    if not (isinstance(node.returns, ast.Constant) and node.returns.value is None):
        returns = read_type(program, node.returns, node.name)
    return FunctionInfo(node.name, kind, node, params, returns, defaults, method, program)
