"""Puts small runtime functions in the place of their calls, which cost more than most of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from chainnode.contract.compiler.wasm import I32, I64, Function, unsigned

INLINE_SIZE_MAX: Final = 48
"""Instructions of a function that is put in the place of its calls."""
CODE_SIZE_MAX: Final = 4_000
"""Instructions of a function that still takes others in: bodies end at 64 KiB."""
LOCALS_MAX: Final = 120
"""Locals of a function that still takes others in: there may be 256."""

_GET: Final = 0x20
_SET: Final = 0x21
_TEE: Final = 0x22
_CONSTANTS: Final = {0x41, 0x42}
_OPENING: Final = {0x02, 0x03, 0x04}
_UNREACHABLE: Final = b"\x00"
_RETURN: Final = b"\x0f"
_END: Final = b"\x0b"
_ZERO: Final = {I32: b"\x41\x00", I64: b"\x42\x00"}

Local = tuple[int, int]
"""An instruction on a local: its opcode and the local's index."""


@dataclass(frozen=True, slots=True)
class Template:
    """A function's code with its locals open."""

    params: tuple[int, ...]
    locals: tuple[int, ...]
    fixed: tuple[bool, ...]
    """Per parameter: whether the function never assigns it."""
    zeroed: tuple[int, ...]
    """Locals that are read before the first assignment in every run."""
    code: tuple[bytes | str | Local, ...]


def _local(item: bytes | str) -> Local | None:
    if isinstance(item, str) or not _GET <= item[0] <= _TEE:
        return None
    index = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(item[1:]))
    return item[0], index


def template(function: Function) -> Template | None:
    """Return the function as something to inline, or none when it is large or leaves early."""
    if len(function.code) > INLINE_SIZE_MAX:
        return None
    code = [_local(item) or item for item in function.code]
    depth = 0
    assigned: set[int] = set()
    sure: set[int] = set()
    zeroed: dict[int, None] = {}
    for item in code:
        if isinstance(item, tuple):
            opcode, index = item
            if opcode == _GET:
                if index not in sure:
                    zeroed[index] = None
            else:
                assigned.add(index)
                if depth == 0:
                    sure.add(index)
        elif isinstance(item, bytes):
            if item == _RETURN or (item == _UNREACHABLE and depth == 0) or item[0] == 0x03:
                return None
            depth += (item[0] in _OPENING) - (item == _END)
    count = len(function.params)
    return Template(
        function.params,
        tuple(function.locals),
        tuple(index not in assigned for index in range(count)),
        tuple(index - count for index in zeroed if index >= count),
        tuple(code),
    )


class _Caller:
    def __init__(self, function: Function, templates: Mapping[str, Template]) -> None:
        self.function, self.templates = function, templates
        self.out: list[bytes | str] = []
        self.locals = list(function.locals)
        self.free: dict[int, list[int]] = {I32: [], I64: []}

    def run(self) -> Function:
        function = self.function
        for item in function.code:
            found = self.templates.get(item) if isinstance(item, str) else None
            if found is None or len(self.out) > CODE_SIZE_MAX or len(self.locals) > LOCALS_MAX:
                self.out.append(item)
            else:
                self.expand(found)
        return Function(
            function.name, function.params, function.results, self.locals, self.out, function.depth
        )

    def expand(self, found: Template) -> None:
        out, count = self.out, len(found.params)
        held: dict[int, bytes] = {}
        # A constant or a local as the last arguments is pushed where it is used.
        while count and found.fixed[count - 1] and out and _is_push(out[-1]):
            count -= 1
            last = out.pop()
            assert isinstance(last, bytes)
            held[count] = last
        busy = {pair[1] for pair in map(_local, held.values()) if pair is not None}
        kinds = [*found.params, *found.locals]
        places = {
            index: self.place(kind, busy) for index, kind in enumerate(kinds) if index not in held
        }
        for index in reversed(range(count)):
            out.append(_encoded(_SET, places[index]))
        for index in found.zeroed:
            out.append(_ZERO[found.locals[index]])
            out.append(_encoded(_SET, places[len(found.params) + index]))
        for item in found.code:
            if not isinstance(item, tuple):
                out.append(item)
            elif item[1] in held:
                out.append(held[item[1]])
            else:
                out.append(_encoded(item[0], places[item[1]]))
        for index, place in places.items():
            self.free[kinds[index]].append(place)

    def place(self, kind: int, busy: set[int]) -> int:
        """A local that nothing else uses until the inlined code ends."""
        free = self.free[kind]
        for at in range(len(free) - 1, -1, -1):
            if free[at] not in busy:
                return free.pop(at)
        self.locals.append(kind)
        return len(self.function.params) + len(self.locals) - 1


def _encoded(opcode: int, index: int) -> bytes:
    return bytes([opcode]) + unsigned(index)


def _is_push(item: bytes | str) -> bool:
    return isinstance(item, bytes) and (item[0] == _GET or item[0] in _CONSTANTS)


def inlined(function: Function, templates: Mapping[str, Template]) -> Function:
    """Return the function with calls replaced; it means the same and costs less gas."""
    return _Caller(function, templates).run()


def flattened(functions: Iterable[Function]) -> tuple[dict[str, Function], dict[str, Template]]:
    """Inline functions into each other, callees first; returns them and what may be inlined."""
    known = {function.name: function for function in functions}
    done: dict[str, Function] = {}
    templates: dict[str, Template] = {}
    open_names: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in done or name in open_names or name not in known:
            return
        open_names[name] = None
        for item in known[name].code:
            if isinstance(item, str):
                visit(item)
        made = inlined(known[name], templates)
        done[name] = made
        found = template(made)
        if found is not None:
            templates[name] = found

    for name in known:
        visit(name)
    return {name: done[name] for name in known}, templates
