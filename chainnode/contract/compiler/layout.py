"""Code for types: encoding, decoding, keys and equality, generated once per compound type."""

from __future__ import annotations

from collections.abc import Callable

from chainnode.contract.compiler.ir import (
    BYTES_FAMILY,
    fields_of,
    fits64,
    offset_of,
    representation,
    slot_bytes,
)
from chainnode.contract.compiler.wasm import I32, I64, Function, Module
from chainnode.contract.schema import (
    BOOL,
    BYTES,
    STR,
    U64,
    Int,
    ListOf,
    OptionalOf,
    Type,
)


def is_pointer(kind: Type) -> bool:
    """Whether a value is a heap address, so that 0 can stand for None."""
    return not isinstance(kind, Int) and kind != BOOL


def emit_load(f: Function, kind: Type, offset: int) -> None:
    """Replace the address on the stack by the value at address + offset."""
    shape = representation(kind)
    if shape == (I64, I64):
        emit_add(f, offset)
        f.call("load128")
    else:
        f.op("i64.load" if shape == (I64,) else "i32.load", offset)


def emit_store(f: Function, kind: Type) -> None:
    """Store the value on the stack at the address below it."""
    shape = representation(kind)
    if shape == (I64, I64):
        f.call("store128")
    else:
        f.op("i64.store" if shape == (I64,) else "i32.store")


def emit_add(f: Function, offset: int) -> None:
    """Add a constant to the address on the stack."""
    if offset:
        f.op("i32.const", offset)
        f.op("i32.add")


class Layout:
    """Emits code that handles a value on the stack; `f` is the function being written."""

    def __init__(self, module: Module, heap: int) -> None:
        self.module = module
        self.heap = heap

    # --- encoding

    def write(self, f: Function, kind: Type) -> None:
        """Append the value's canonical bytes to the heap's end."""
        match kind:
            case Int():
                if kind == U64:
                    f.op("drop")
                f.call(f"put{kind.size_bytes * 8}")
            case _ if kind == BOOL:
                f.op("i64.extend_i32_u")
                f.call("put8")
            case _ if kind in {BYTES, STR}:
                f.call("put_bytes")
            case _ if kind in BYTES_FAMILY:
                f.call("put_fixed")
            case _:
                f.call(self._made("enc", kind, (I32,), (), self.write))

    def key(self, f: Function, kind: Type) -> None:
        """Append the value's order-preserving bytes to the heap's end."""
        match kind:
            case Int():
                if kind.low < 0:
                    f.op("i64.const", -(2**63))
                    f.op("i64.xor")
                self.write(f, kind)
            case _ if kind in {BYTES, STR}:
                f.call("put_escaped")
            case _ if kind == BOOL or kind in BYTES_FAMILY:
                self.write(f, kind)
            case _:
                f.call(self._made("key", kind, (I32,), (), self.key))

    def _made(
        self,
        prefix: str,
        kind: Type,
        params: tuple[int, ...],
        results: tuple[int, ...],
        inner: Callable[[Function, Type], None],
    ) -> str:
        name = f"{prefix}.{kind}"
        if name not in self.module.functions:
            f = self.module.add(Function(name, params, results))
            match kind:
                case ListOf(item):
                    f.op("local.get", 0)
                    f.op("i32.load")
                    f.op("i64.extend_i32_u")
                    f.call("put32")
                    self._each(f, item, lambda: inner(f, item))
                case OptionalOf(item):
                    self._write_optional(f, item, inner)
                case _:
                    for index, item in enumerate(fields_of(kind)):
                        f.op("local.get", 0)
                        emit_load(f, item, offset_of(kind, index))
                        inner(f, item)
        return name

    def _write_optional(
        self, f: Function, item: Type, inner: Callable[[Function, Type], None]
    ) -> None:
        f.op("local.get", 0)
        f.op("i32.const", 0)
        f.op("i32.ne")
        f.op("i64.extend_i32_u")
        f.call("put8")
        f.op("local.get", 0)
        f.begin("if")
        f.op("local.get", 0)
        self.unbox(f, item)
        inner(f, item)
        f.end()

    def _each(self, f: Function, item: Type, body: Callable[[], None]) -> None:
        """Run `body` with each item of the list in local 0 on the stack; adds an index local."""
        index = f.local(I32)
        done = f.begin("block")
        top = f.begin("loop")
        f.op("local.get", index)
        f.op("local.get", 0)
        f.op("i32.load")
        f.op("i32.ge_u")
        f.branch(done, conditional=True)
        self.item_address(f, 0, index, item)
        emit_load(f, item, 0)
        body()
        f.op("local.get", index)
        f.op("i32.const", 1)
        f.op("i32.add")
        f.op("local.set", index)
        f.branch(top)
        f.end()
        f.end()

    def item_address(self, f: Function, holder: int, index: int, item: Type) -> None:
        """Push the address of a list's item; both are i32 locals and the index is valid."""
        f.op("local.get", holder)
        f.op("i32.load", 8)
        f.op("local.get", index)
        f.op("i32.const", slot_bytes(item))
        f.op("i32.mul")
        f.op("i32.add")

    # --- optionals

    def box(self, f: Function, item: Type) -> None:
        """Turn the value on the stack into an optional that is not None."""
        if is_pointer(item):
            return
        name = f"box.{representation(item)}"
        if name not in self.module.functions:
            g = self.module.add(Function(name, representation(item), (I32,)))
            address = g.local(I32)
            g.op("i32.const", slot_bytes(item))
            g.call("alloc")
            g.op("local.tee", address)
            for number in range(len(g.params)):
                g.op("local.get", number)
            emit_store(g, item)
            g.op("local.get", address)
        f.call(name)

    def unbox(self, f: Function, item: Type) -> None:
        """Turn the optional on the stack, known not to be None, into its value."""
        if not is_pointer(item):
            emit_load(f, item, 0)

    # --- decoding

    def read(self, f: Function, kind: Type) -> None:
        """Push the value decoded at the reading position."""
        match kind:
            case Int(size_bytes=16):
                f.call("get_u128" if kind.low == 0 else "get128")
            case Int():
                f.call(f"get{kind.size_bytes * 8}")
                if not fits64(kind):
                    f.op("i64.const", 0)
            case _ if kind == BOOL:
                f.call("get_flag")
            case _ if kind == STR:
                f.call("get_str")
            case _ if kind == BYTES:
                f.call("get_bytes")
            case _ if kind in BYTES_FAMILY:
                f.call("get_fixed")
            case _:
                f.call(self._reader(kind))

    def _reader(self, kind: Type) -> str:
        name = f"dec.{kind}"
        if name in self.module.functions:
            return name
        f = self.module.add(Function(name, (), (I32,)))
        holder = f.local(I32)
        match kind:
            case OptionalOf(item):
                f.call("get_flag")
                f.begin("if")
                self.read(f, item)
                self.box(f, item)
                f.op("local.set", holder)
                f.end()
            case ListOf(item):
                self._read_list(f, holder, item)
            case _:
                self._read_fields(f, holder, kind, self.read)
                return name
        f.op("local.get", holder)
        return name

    def _read_fields(
        self, f: Function, holder: int, kind: Type, read: Callable[[Function, Type], None]
    ) -> None:
        f.op("i32.const", slot_total(kind))
        f.call("alloc")
        f.op("local.set", holder)
        for index, item in enumerate(fields_of(kind)):
            f.op("local.get", holder)
            emit_add(f, offset_of(kind, index))
            read(f, item)
            emit_store(f, item)
        f.op("local.get", holder)

    def _read_list(self, f: Function, holder: int, item: Type) -> None:
        index, count = f.local(I32), f.local(I32)
        f.call("get_count")
        f.op("local.tee", count)
        f.op("i32.const", slot_bytes(item))
        f.call("list_new")
        f.op("local.set", holder)
        done = f.begin("block")
        top = f.begin("loop")
        f.op("local.get", index)
        f.op("local.get", count)
        f.op("i32.ge_u")
        f.branch(done, conditional=True)
        self.item_address(f, holder, index, item)
        self.read(f, item)
        emit_store(f, item)
        f.op("local.get", index)
        f.op("i32.const", 1)
        f.op("i32.add")
        f.op("local.set", index)
        f.branch(top)
        f.end()
        f.end()

    def read_key(self, f: Function, kind: Type) -> None:
        """Push the value whose order-preserving bytes lie at the reading position."""
        if isinstance(kind, Int):
            self.read(f, kind)
            if kind.low < 0:
                f.op("i64.const", -(2**63))
                f.op("i64.xor")
        elif kind in {BYTES, STR}:
            f.call("get_escaped")
        elif kind == BOOL or kind in BYTES_FAMILY:
            self.read(f, kind)
        else:
            f.call(self._key_reader(kind))

    def _key_reader(self, kind: Type) -> str:
        name = f"dkey.{kind}"
        if name not in self.module.functions:
            f = self.module.add(Function(name, (), (I32,)))
            self._read_fields(f, f.local(I32), kind, self.read_key)
        return name

    # --- equality

    def equal(self, f: Function, kind: Type) -> None:
        """Replace two values of the type by whether they are equal."""
        if isinstance(kind, Int):
            if fits64(kind):
                f.op("i64.eq")
            else:
                f.call("eq128")
        elif kind == BOOL:
            f.op("i32.eq")
        elif kind == STR or kind in BYTES_FAMILY:
            f.call("bytes_eq")
        else:
            f.call(self._equality(kind))

    def _equality(self, kind: Type) -> str:
        name = f"eq.{kind}"
        if name in self.module.functions:
            return name
        f = self.module.add(Function(name, (I32, I32), (I32,)))
        match kind:
            case OptionalOf(item):
                self._equal_optional(f, item)
            case ListOf(item):
                self._equal_list(f, item)
            case _:
                for index, item in enumerate(fields_of(kind)):
                    for side in (0, 1):
                        f.op("local.get", side)
                        emit_load(f, item, offset_of(kind, index))
                    self.equal(f, item)
                    self._leave_unless(f)
        f.op("i32.const", 1)
        return name

    def _leave_unless(self, f: Function) -> None:
        f.op("i32.eqz")
        f.begin("if")
        f.op("i32.const", 0)
        f.op("return")
        f.end()

    def _equal_optional(self, f: Function, item: Type) -> None:
        f.op("local.get", 0)
        f.op("i32.eqz")
        f.op("local.get", 1)
        f.op("i32.eqz")
        f.op("i32.or")
        f.begin("if")
        f.op("local.get", 0)
        f.op("local.get", 1)
        f.op("i32.eq")
        f.op("return")
        f.end()
        for side in (0, 1):
            f.op("local.get", side)
            self.unbox(f, item)
        self.equal(f, item)
        self._leave_unless(f)

    def _equal_list(self, f: Function, item: Type) -> None:
        for side in (0, 1):
            f.op("local.get", side)
            f.op("i32.load")
        f.op("i32.eq")
        self._leave_unless(f)
        index = len(f.params) + len(f.locals)

        def body() -> None:
            self.item_address(f, 1, index, item)
            emit_load(f, item, 0)
            self.equal(f, item)
            self._leave_unless(f)

        self._each(f, item, body)

    def has(self, f: Function, item: Type) -> None:
        """Replace (list, value) by whether the list contains the value."""
        name = f"has.{item}.{representation(item)}"
        if name not in self.module.functions:
            shape = representation(item)
            g = self.module.add(Function(name, (I32, *shape), (I32,)))

            def body() -> None:
                for number in range(len(shape)):
                    g.op("local.get", 1 + number)
                self.equal(g, item)
                g.begin("if")
                g.op("i32.const", 1)
                g.op("return")
                g.end()

            self._each(g, item, body)
            g.op("i32.const", 0)
        f.call(name)


def slot_total(kind: Type) -> int:
    """The size of a tuple or record on the heap, in bytes."""
    return sum(map(slot_bytes, fields_of(kind)))
