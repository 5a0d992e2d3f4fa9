"""A WebAssembly binary encoder: functions with symbolic calls, only reachable ones written."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

I32: Final = 0x7F
I64: Final = 0x7E
PAGE_SIZE_BYTES: Final = 65_536
_EMPTY_BLOCK: Final = 0x40

_PLAIN: Final = {
    "unreachable": 0x00, "end": 0x0B, "else": 0x05, "return": 0x0F, "drop": 0x1A, "select": 0x1B,
    "i32.eqz": 0x45, "i32.eq": 0x46, "i32.ne": 0x47, "i32.lt_s": 0x48, "i32.lt_u": 0x49,
    "i32.gt_s": 0x4A, "i32.gt_u": 0x4B, "i32.le_s": 0x4C, "i32.le_u": 0x4D, "i32.ge_s": 0x4E,
    "i32.ge_u": 0x4F,
    "i64.eqz": 0x50, "i64.eq": 0x51, "i64.ne": 0x52, "i64.lt_s": 0x53, "i64.lt_u": 0x54,
    "i64.gt_s": 0x55, "i64.gt_u": 0x56, "i64.le_s": 0x57, "i64.le_u": 0x58, "i64.ge_s": 0x59,
    "i64.ge_u": 0x5A,
    "i32.add": 0x6A, "i32.sub": 0x6B, "i32.mul": 0x6C, "i32.and": 0x71, "i32.or": 0x72,
    "i32.xor": 0x73, "i32.shl": 0x74, "i32.shr_s": 0x75, "i32.shr_u": 0x76,
    "i64.clz": 0x79, "i64.ctz": 0x7A, "i64.add": 0x7C, "i64.sub": 0x7D, "i64.mul": 0x7E,
    "i64.div_s": 0x7F, "i64.div_u": 0x80, "i64.rem_s": 0x81, "i64.rem_u": 0x82, "i64.and": 0x83,
    "i64.or": 0x84, "i64.xor": 0x85, "i64.shl": 0x86, "i64.shr_s": 0x87, "i64.shr_u": 0x88,
    "i32.wrap_i64": 0xA7, "i64.extend_i32_s": 0xAC, "i64.extend_i32_u": 0xAD,
}  # fmt: skip
_MEMORY: Final = {
    "i32.load": 0x28, "i64.load": 0x29, "i32.load8_u": 0x2D, "i64.load8_u": 0x31,
    "i64.load32_u": 0x35, "i32.store": 0x36, "i64.store": 0x37, "i32.store8": 0x3A,
    "i64.store8": 0x3C, "i64.store16": 0x3D, "i64.store32": 0x3E,
}  # fmt: skip
_INDEXED: Final = {
    "local.get": 0x20, "local.set": 0x21, "local.tee": 0x22, "global.get": 0x23,
    "global.set": 0x24,
}  # fmt: skip
_SPECIAL: Final = {
    "memory.size": b"\x3f\x00",
    "memory.grow": b"\x40\x00",
    "memory.copy": b"\xfc\x0a\x00\x00",
}


def unsigned(value: int) -> bytes:
    """LEB128 of a non-negative integer."""
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def signed(value: int) -> bytes:
    """Signed LEB128."""
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        done = (value == 0 and not byte & 0x40) or (value == -1 and bool(byte & 0x40))
        out.append(byte | (0 if done else 0x80))
        if done:
            return bytes(out)


def wrap(value: int, bits: int) -> int:
    """The signed integer with the same low bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


@lru_cache(maxsize=4096)
def _instruction(name: str, value: int) -> bytes:
    if name in _PLAIN:
        return bytes([_PLAIN[name]])
    if name in _INDEXED:
        return bytes([_INDEXED[name]]) + unsigned(value)
    if name in _MEMORY:
        return bytes([_MEMORY[name], 0]) + unsigned(value)
    if name == "i32.const":
        return b"\x41" + signed(wrap(value, 32))
    if name == "i64.const":
        return b"\x42" + signed(wrap(value, 64))
    return _SPECIAL[name]


@dataclass(slots=True)
class Function:
    """A function under construction; `op` appends an instruction."""

    name: str
    params: tuple[int, ...]
    results: tuple[int, ...]
    locals: list[int] = field(default_factory=list)
    code: list[bytes | str] = field(default_factory=list)
    depth: int = 0

    def local(self, kind: int) -> int:
        """Add a local and return its index."""
        self.locals.append(kind)
        return len(self.params) + len(self.locals) - 1

    def op(self, name: str, value: int = 0) -> None:
        """Append an instruction without control flow."""
        self.code.append(_instruction(name, value))

    def call(self, name: str) -> None:
        self.code.append(name)

    def begin(self, kind: str, result: int = _EMPTY_BLOCK) -> int:
        """Open `block`, `loop` or `if`; returns the label for `branch`."""
        self.code.append(bytes([{"block": 2, "loop": 3, "if": 4}[kind], result]))
        self.depth += 1
        return self.depth

    def end(self) -> None:
        self.depth -= 1
        self.op("end")

    def branch(self, label: int, *, conditional: bool = False) -> None:
        self.code.append(bytes([13 if conditional else 12]) + unsigned(self.depth - label))


@dataclass(frozen=True, slots=True)
class Import:
    name: str
    params: tuple[int, ...]
    results: tuple[int, ...]


@dataclass(slots=True)
class Module:
    """Functions, host imports, globals, data; `encode` writes what the exports reach."""

    host: str
    imports: dict[str, Import] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    globals: list[tuple[int, int]] = field(default_factory=list)
    exports: list[tuple[str, str]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    data_start: int = 16
    pages_max: int = 256
    constants: dict[bytes, int] = field(default_factory=dict)

    def add(self, function: Function) -> Function:
        self.functions[function.name] = function
        return function

    def pages(self) -> int:
        """The initial memory in pages."""
        return max(1, -(-(self.data_start + len(self.data)) // PAGE_SIZE_BYTES))

    def _reachable(self) -> tuple[list[Import], list[Function]]:
        names: dict[str, None] = {}
        pending = [name for _, name in reversed(self.exports)]
        while pending:
            name = pending.pop()
            if name in names:
                continue
            names[name] = None
            if name in self.functions:
                calls = [item for item in self.functions[name].code if isinstance(item, str)]
                pending += reversed(calls)
        used = [item for name, item in self.imports.items() if name in names]
        return used, [self.functions[name] for name in names if name in self.functions]

    def encode(self) -> bytes:
        """Return the module's bytes; the same input gives the same bytes."""
        imports, functions = self._reachable()
        kinds: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        callables: list[Import | Function] = [*imports, *functions]
        for item in callables:
            kinds.setdefault((item.params, item.results), len(kinds))
        index = {item.name: number for number, item in enumerate(callables)}
        sections = [
            (1, [b"\x60" + _types(p) + _types(r) for p, r in kinds]),
            (2, [self._import(item, kinds[item.params, item.results]) for item in imports]),
            (3, [unsigned(kinds[item.params, item.results]) for item in functions]),
            (5, [b"\x01" + unsigned(self.pages()) + unsigned(self.pages_max)]),
            (6, [_global(kind, value) for kind, value in self.globals]),
            (7, [_text("memory") + b"\x02\x00"]
             + [_text(name) + b"\x00" + unsigned(index[target]) for name, target in self.exports]),
            (10, [_body(item, index) for item in functions]),
        ]  # fmt: skip
        if self.data:
            start = b"\x00\x41" + signed(self.data_start) + b"\x0b"
            sections.append((11, [start + unsigned(len(self.data)) + bytes(self.data)]))
        out = bytearray(b"\x00asm\x01\x00\x00\x00")
        for number, entries in sections:
            if entries:
                payload = unsigned(len(entries)) + b"".join(entries)
                out += bytes([number]) + unsigned(len(payload)) + payload
        return bytes(out)

    def _import(self, item: Import, kind: int) -> bytes:
        return _text(self.host) + _text(item.name) + b"\x00" + unsigned(kind)


def _types(kinds: tuple[int, ...]) -> bytes:
    return unsigned(len(kinds)) + bytes(kinds)


def _text(text: str) -> bytes:
    data = text.encode()
    return unsigned(len(data)) + data


def _global(kind: int, value: int) -> bytes:
    op = b"\x41" if kind == I32 else b"\x42"
    return bytes([kind, 1]) + op + signed(value) + b"\x0b"


def _body(function: Function, index: dict[str, int]) -> bytes:
    runs: list[tuple[int, int]] = []
    for kind in function.locals:
        if runs and runs[-1][1] == kind:
            runs[-1] = (runs[-1][0] + 1, kind)
        else:
            runs.append((1, kind))
    out = bytearray(unsigned(len(runs)))
    for count, kind in runs:
        out += unsigned(count) + bytes([kind])
    for item in function.code:
        out += item if isinstance(item, bytes) else b"\x10" + unsigned(index[item])
    out += b"\x0b"
    return unsigned(len(out)) + bytes(out)
