"""Turns typed expressions into WebAssembly that leaves their value on the stack."""

from __future__ import annotations

from typing import Final

from chainnode.contract.compiler.ir import (
    Expr,
    Storage,
    fits64,
    offset_of,
    representation,
    slot_bytes,
    span,
)
from chainnode.contract.compiler.layout import (
    Layout,
    emit_add,
    emit_load,
    emit_store,
    slot_total,
)
from chainnode.contract.compiler.wasm import I32, I64, Function
from chainnode.contract.schema import INT, INT_MAX, NONE, Int, ListOf, OptionalOf, Type

_INLINE64: Final = {"add", "sub", "mul", "and", "or", "xor"}
_SIMPLE: Final = {
    "bit_and": ["i32.and"],
    "bit_or": ["i32.or"],
    "bit_xor": ["i32.xor"],
    "not": ["i32.eqz"],
    "is_none": ["i32.eqz"],
    "length": ["i32.load", "i64.extend_i32_u"],
    "same": [],
}
# Expressions that are one call into the runtime, with what follows it.
_CALLS: Final = {
    "concat": ("bytes_concat", []),
    "near64": ("near64", []),
    "bytes_at": ("bytes_at", []),
    "slice": ("bytes_slice", []),
    "sha256": ("sha256", []),
    "paillier_add": ("paillier_sum", []),
    "paillier_add_plain": ("paillier_sum_plain", []),
    "paillier_scalar_multiply": ("paillier_product", []),
    "fixed32": ("fixed32", []),
    "to_bytes": ("to_bytes", []),
    "from_bytes": ("from_bytes", []),
    "int_str": ("int_str", []),
    "abs": ("abs128", []),
    "str_len": ("str_len", ["i64.extend_i32_u"]),
}


def fix_range(low: int, high: int) -> Int:
    """The type of an internal counter."""
    return span(low, high)


class ExpressionLowering:
    """Expressions, variables and temporaries of one function."""

    def __init__(self, function: Function, layout: Layout) -> None:
        self.f = function
        self.layout = layout
        self.variables: dict[str, list[int]] = {}
        self.loops: list[tuple[int, int]] = []
        self.free: dict[int, list[int]] = {I32: [], I64: []}
        self.taken: list[tuple[int, int]] = []
        self.hole = 0

    # --- locals

    def variable(self, name: str, kind: Type) -> list[int]:
        """The locals of a variable, made at first use."""
        if name not in self.variables:
            self.variables[name] = [self.f.local(item) for item in representation(kind)]
        return self.variables[name]

    def store_variable(self, name: str, kind: Type) -> None:
        for index in reversed(self.variable(name, kind)):
            self.f.op("local.set", index)

    def temporary(self, kind: int) -> int:
        """A local that is free again after the statement."""
        index = self.free[kind].pop() if self.free[kind] else self.f.local(kind)
        self.taken.append((kind, index))
        return index

    def release(self, mark: int) -> None:
        """Free the temporaries taken since the mark."""
        while len(self.taken) > mark:
            kind, index = self.taken.pop()
            self.free[kind].append(index)

    def keep(self, kind: Type) -> list[int]:
        """Move the value on the stack into temporaries."""
        slots = [self.temporary(item) for item in representation(kind)]
        for index in reversed(slots):
            self.f.op("local.set", index)
        return slots

    def kept(self, value: Expr) -> list[int]:
        """Evaluate into temporaries."""
        self.expr(value)
        return self.keep(value.type)

    def push(self, slots: list[int]) -> None:
        for index in slots:
            self.f.op("local.get", index)

    def mark(self) -> int:
        """A temporary holding the heap's end."""
        index = self.temporary(I32)
        self.f.op("global.get", self.layout.heap)
        self.f.op("local.set", index)
        return index

    def constant(self, data: bytes) -> int:
        """The address of constant bytes in the data segment."""
        module = self.layout.module
        found = module.constants.get(data)
        if found is None:
            found = module.data_start + len(module.data)
            module.data += len(data).to_bytes(4, "little") + data
            module.data += bytes(-len(module.data) % 8)
            module.constants[data] = found
        return found

    # --- expressions

    def expr(self, e: Expr) -> None:
        """Evaluate onto the stack."""
        if e.op in _SIMPLE:
            self._all(e)
            for op in _SIMPLE[e.op]:
                self.f.op(op)
        elif e.op in _CALLS:
            self._all(e)
            name, after = _CALLS[e.op]
            self.f.call(name)
            for op in after:
                self.f.op(op)
        else:
            getattr(self, f"_expr_{e.op}")(e)

    def _all(self, e: Expr) -> None:
        for item in e.args:
            self.expr(item)

    def _expr_int(self, e: Expr) -> None:
        self.f.op("i64.const", e.value)
        if not fits64(e.type):
            self.f.op("i64.const", e.value >> 64)

    def _expr_bool(self, e: Expr) -> None:
        self.f.op("i32.const", int(e.value))

    def _expr_none(self, e: Expr) -> None:
        self.f.op("i32.const", 0)

    def _expr_bytes(self, e: Expr) -> None:
        self.f.op("i32.const", self.constant(e.value))

    def _expr_local(self, e: Expr) -> None:
        self.push(self.variable(e.value, e.type))

    def _expr_bind(self, e: Expr) -> None:
        self.expr(e.args[0])
        self.store_variable(e.value, e.type)
        self.push(self.variable(e.value, e.type))

    def _expr_hole(self, e: Expr) -> None:
        self.f.op("local.get", self.hole)

    def _expr_box(self, e: Expr) -> None:
        self.expr(e.args[0])
        self.layout.box(self.f, e.args[0].type)

    def _expr_unbox(self, e: Expr) -> None:
        self.expr(e.args[0])
        self.layout.unbox(self.f, e.type)

    def _expr_int_to(self, e: Expr) -> None:
        source, target = e.args[0].type, e.type
        assert isinstance(source, Int) and isinstance(target, Int)
        self.expr(e.args[0])
        if fits64(source):
            if e.value:
                self.f.op("i64.const", max(target.low, -(2**63)))
                self.f.op("i64.const", min(target.high, 2**63 - 1))
                self.f.call("fit64_64")
            if not fits64(target):
                self._extend()
        elif fits64(target):
            if e.value:
                self.f.op("i64.const", target.low)
                self.f.op("i64.const", target.high)
                self.f.call("fit_64")
            else:
                self.f.op("drop")
        elif e.value:
            assert target.low == 0 and target.high in {2**64 - 1, INT_MAX}, target
            self.f.call("fit_u64" if target.high < INT_MAX else "fit_u128")

    def _extend(self) -> None:
        low = self.temporary(I64)
        self.f.op("local.tee", low)
        self.f.op("local.get", low)
        self.f.op("i64.const", 63)
        self.f.op("i64.shr_s")

    def _expr_arith64(self, e: Expr) -> None:
        self._all(e)
        if e.value in _INLINE64:
            self.f.op(f"i64.{e.value}")
        else:
            self.f.call(f"{e.value}64")

    def _expr_arith128(self, e: Expr) -> None:
        self._all(e)
        self.f.call(f"{e.value}128")

    def _expr_compare64(self, e: Expr) -> None:
        self._all(e)
        self.f.op(f"i64.{e.value}" if e.value in {"eq", "ne"} else f"i64.{e.value}_s")

    def _expr_compare128(self, e: Expr) -> None:
        self._all(e)
        self.f.call("eq128" if e.value == "ne" else f"{e.value}128")
        if e.value == "ne":
            self.f.op("i32.eqz")

    def _expr_order(self, e: Expr) -> None:
        self._all(e)
        self.f.call("bytes_cmp")
        self.f.op("i32.const", 0)
        self.f.op(f"i32.{e.value}_s")

    def _expr_equal(self, e: Expr) -> None:
        self._all(e)
        self.layout.equal(self.f, e.value)

    def _expr_and_then(self, e: Expr) -> None:
        self.expr(e.args[0])
        self.f.begin("if", I32)
        self.expr(e.args[1])
        self.f.op("else")
        self.f.op("i32.const", 0)
        self.f.end()

    def _expr_or_else(self, e: Expr) -> None:
        self.expr(e.args[0])
        self.f.begin("if", I32)
        self.f.op("i32.const", 1)
        self.f.op("else")
        self.expr(e.args[1])
        self.f.end()

    def _expr_if(self, e: Expr) -> None:
        test, left, right = e.args
        slots = [self.temporary(item) for item in representation(e.type)]
        self.expr(test)
        self.f.begin("if")
        for arm in (left, right):
            self.expr(arm)
            for index in reversed(slots):
                self.f.op("local.set", index)
            if arm is left:
                self.f.op("else")
        self.f.end()
        self.push(slots)

    def _expr_call(self, e: Expr) -> None:
        self._all(e)
        self.f.call(e.value.symbol)

    def _expr_context(self, e: Expr) -> None:
        self.f.op("i32.const", e.value)
        if isinstance(e.type, Int):
            self.f.call("ctx_i64")
            self.f.op("i64.const", 0)
        else:
            self.f.call("context")

    def _expr_invoke(self, e: Expr) -> None:
        self.invoke(e, catch=False)
        self.f.op("drop")
        self._decoded(e.type)

    def invoke(self, e: Expr, *, catch: bool) -> None:
        """Call another contract; leaves the status, with the result or failure to be read."""
        contract, gas, *args = (self.kept(item) for item in e.args)
        start = self.mark()
        for item, slots in zip(e.args[2:], args, strict=True):
            self.push(slots)
            self.layout.write(self.f, item.type)
        self.push(contract)
        self.f.op("i32.const", self.constant(e.value.name.encode()))
        self.f.op("local.get", start)
        self.f.op("local.get", gas[0])
        self.f.op("i32.const", (1 if catch else 0) | (2 if e.value.kind == "view" else 0))
        self.f.call("invoke")

    # --- records and lists

    def _make(self, kind: Type, parts: tuple[Expr, ...]) -> None:
        values = [self.kept(item) for item in parts]
        address = self.temporary(I32)
        self.f.op("i32.const", slot_total(kind))
        self.f.call("alloc")
        self.f.op("local.set", address)
        for index, (item, slots) in enumerate(zip(parts, values, strict=True)):
            self.f.op("local.get", address)
            emit_add(self.f, offset_of(kind, index))
            self.push(slots)
            emit_store(self.f, item.type)
        self.f.op("local.get", address)

    def _expr_record(self, e: Expr) -> None:
        self._make(e.type, e.args)

    def _expr_rebuild(self, e: Expr) -> None:
        (whole,) = self.kept(e.args[0])
        outer, self.hole = self.hole, whole
        self._make(e.type, e.args[1:])
        self.hole = outer

    def _expr_replace(self, e: Expr) -> None:
        (old,) = self.kept(e.args[0])
        values = [self.kept(item) for item in e.args[1:]]
        address = self.temporary(I32)
        self.f.op("i32.const", slot_total(e.type))
        self.f.call("alloc")
        self.f.op("local.tee", address)
        self.f.op("local.get", old)
        self.f.op("i32.const", slot_total(e.type))
        self.f.op("memory.copy")
        for index, slots, item in zip(e.value, values, e.args[1:], strict=True):
            self.f.op("local.get", address)
            emit_add(self.f, offset_of(e.type, index))
            self.push(slots)
            emit_store(self.f, item.type)
        self.f.op("local.get", address)

    def _expr_field(self, e: Expr) -> None:
        self.expr(e.args[0])
        kind, index = e.value
        emit_load(self.f, e.type, offset_of(kind, index))

    def _expr_list(self, e: Expr) -> None:
        assert isinstance(e.type, ListOf)
        size = slot_bytes(e.type.item)
        values = [self.kept(item) for item in e.args]
        holder = self.temporary(I32)
        self.f.op("i32.const", len(values))
        self.f.op("i32.const", size)
        self.f.call("list_new")
        self.f.op("local.set", holder)
        for index, slots in enumerate(values):
            self.f.op("local.get", holder)
            self.f.op("i32.load", 8)
            emit_add(self.f, index * size)
            self.push(slots)
            emit_store(self.f, e.type.item)
        self.f.op("local.get", holder)

    def _expr_list_at(self, e: Expr) -> None:
        self._all(e)
        self.f.op("i32.const", slot_bytes(e.type))
        self.f.call("list_at")
        emit_load(self.f, e.type, 0)

    def _expr_list_has(self, e: Expr) -> None:
        value, holder = e.args
        slots = self.kept(value)
        self.expr(holder)
        self.push(slots)
        self.layout.has(self.f, value.type)

    def _expr_append(self, e: Expr) -> None:
        holder, value = e.args
        (address,) = self.kept(holder)
        slots = self.kept(value)
        self.f.op("local.get", address)
        self.f.op("i32.const", slot_bytes(value.type))
        self.f.call("list_push")
        self.push(slots)
        emit_store(self.f, value.type)

    def _expr_pop(self, e: Expr) -> None:
        self._all(e)
        self.f.op("i32.const", slot_bytes(e.type))
        self.f.call("list_pop")
        emit_load(self.f, e.type, 0)

    # --- storage

    def storage_key(self, storage: Storage, key: Expr | None) -> int:
        """Write a storage key at the heap's end; returns the temporary with its start."""
        keys = [key] if key is not None else []
        return self.kept_key(storage, keys, [self.kept(item) for item in keys])

    def kept_key(self, storage: Storage, key: list[Expr], parts: list[list[int]]) -> int:
        """The same of a key, if there is one, that was evaluated into temporaries."""
        start = self.mark()
        self.f.op("i64.const", storage.id)
        self.f.call("put8")
        for item, held in zip(key, parts, strict=True):
            self.push(held)
            self.layout.key(self.f, item.type)
        return start

    def _key_of(self, e: Expr) -> int:
        return self.storage_key(e.value, e.args[0] if e.args else None)

    def _decoded(self, kind: Type) -> None:
        if kind != NONE:
            self.layout.read(self.f, kind)
        self.f.call("get_end")

    def _expr_map_get(self, e: Expr) -> None:
        start = self._key_of(e)
        self.f.op("local.get", start)
        self.f.call("find_or_fault")
        self._decoded(e.type)

    def _expr_map_find(self, e: Expr) -> None:
        assert isinstance(e.type, OptionalOf)
        start = self._key_of(e)
        self.f.op("local.get", start)
        self.f.call("find")
        self.f.begin("if", I32)
        self._decoded(e.type.item)
        self.layout.box(self.f, e.type.item)
        self.f.op("else")
        self.f.op("i32.const", 0)
        self.f.end()

    def _expr_map_default(self, e: Expr) -> None:
        *key, default = e.args
        parts = [self.kept(item) for item in key]
        slots = self.kept(default)
        start = self.kept_key(e.value, key, parts)
        self.f.op("local.get", start)
        self.f.call("find")
        self.f.begin("if")
        self._decoded(e.type)
        for index in reversed(slots):
            self.f.op("local.set", index)
        self.f.end()
        self.push(slots)

    def _expr_map_has(self, e: Expr) -> None:
        start = self._key_of(e)
        self.f.op("local.get", start)
        self.f.call("has")

    def _expr_var_set(self, e: Expr) -> None:
        slots = self.kept(e.args[0])
        start = self.storage_key(e.value, None)
        end = self.mark()
        self.push(slots)
        self.layout.write(self.f, e.args[0].type)
        self.f.op("local.get", start)
        self.f.op("local.get", end)
        self.f.call("put")

    def _expr_add(self, e: Expr) -> None:
        *key, amount = e.args
        parts = [self.kept(item) for item in key]
        slots = self.kept(amount)
        start = self.kept_key(e.value, key, parts)
        kind = e.value.types[1] if key else INT
        assert isinstance(kind, Int)
        unsigned = kind.low == 0 and kind.size_bytes < 16
        self.push(slots)
        self.f.op("i32.const", kind.size_bytes if unsigned else -kind.size_bytes)
        for bound in (kind.low, kind.high):
            self.f.op("i64.const", bound)
            self.f.op("i64.const", bound >> 64)
        self.f.op("local.get", start)
        self.f.call("add_within")

    def _expr_counter_read(self, e: Expr) -> None:
        start = self.storage_key(e.value, None)
        self.f.op("local.get", start)
        self.f.call("counted")
