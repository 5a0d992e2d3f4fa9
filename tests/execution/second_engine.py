"""The host ABI once more, in Python over PyPI's wasmtime, with the prices of the specification."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import wasmtime

from chainnode.contract import (
    contract_address,
    paillier_add,
    paillier_add_plain,
    paillier_scalar_multiply,
)
from chainnode.contract.paillier import PaillierCiphertextInvalid, PaillierKeyInvalid

SPECIFICATION = Path(__file__).parents[2] / "docs/spec/contract-vm.md"
I32, I64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()
ABSENT = -1
MASK = 2**32 - 1
KEY_SIZE_MAX_BYTES = 1_024
CALL_TEXTS = {
    "TRAPPED": "integer division by zero",
    "OUT_OF_GAS": "gas limit reached",
    "UNKNOWN_CONTRACT": "no such contract",
    "UNKNOWN_METHOD": "the contract has no such method",
    "REENTRANT": "the contract waits for this call itself",
}
"""What a caught failure says; of traps only `c:trap` is called."""


def prices() -> dict[str, tuple[int, int]]:
    """The host functions' prices as the specification states them."""
    row = re.compile(r"^\| `(\w+)` \| .* \| (\d+) \| (\d+) \|$", re.MULTILINE)
    found = row.findall(SPECIFICATION.read_text())
    return {name: (int(base), int(per_byte)) for name, base, per_byte in found}


def wide(low: int, high: int) -> int:
    """Two words as the number they are."""
    return (high << 64) | (low & (2**64 - 1))


class OutOfGas(Exception):
    pass


class Trap(Exception):
    pass


class Revert(Exception):
    pass


@dataclass(frozen=True)
class Added:
    """A pending addition; the form is the number's size in bytes, negative with a sign."""

    delta: int
    form: int

    def to(self, stored: bytes | None) -> bytes:
        return self.encoded(self.number(stored) + self.delta)

    def encoded(self, number: int) -> bytes:
        return number.to_bytes(abs(self.form), "big", signed=self.form < 0)

    def number(self, stored: bytes | None) -> int:
        if stored is not None and len(stored) != abs(self.form):
            raise Trap
        return int.from_bytes(stored or b"", "big", signed=self.form < 0)


NOTHING = Added(0, 0)


@dataclass
class Call:
    """One call's surroundings and effects."""

    state: dict[bytes, bytes]
    prefix: bytes
    fields: list[bytes]
    numbers: list[int]
    args: bytes
    writes: dict[bytes, bytes | Added | None] = field(default_factory=dict)
    reads: set[bytes] = field(default_factory=set)
    ranges: set[tuple[bytes, bytes]] = field(default_factory=set)
    events: list[tuple[str, bytes]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """The contract of each event."""
    result: bytes = b""
    waiting: tuple[str, ...] = ()

    def value(self, key: bytes) -> bytes | None:
        written = self.writes.get(key, NOTHING)
        if not isinstance(written, Added):
            return written
        stored = self.state.get(key)
        return stored if written == NOTHING else written.to(stored)

    def read(self, key: bytes) -> bytes | None:
        if isinstance(self.writes.get(key, NOTHING), Added):
            self.reads.add(key)
        return self.value(key)

    def add(self, key: bytes, addition: Added, least: int, most: int) -> bool:
        """Whether the sum is from least to most and so was written; where not, it was read."""
        written, fits = self.writes.get(key, NOTHING), False
        if isinstance(written, Added) and written.form not in (0, addition.form):
            raise Trap
        try:
            total = addition.number(self.value(key)) + addition.delta
            fits = least <= total <= most and bool(addition.encoded(total))
        except OverflowError:
            pass
        finally:
            if not fits and isinstance(written, Added):
                self.reads.add(key)
        if not fits:
            return False
        if isinstance(written, Added):
            self.writes[key] = Added(written.delta + addition.delta, addition.form)
        else:
            self.writes[key] = addition.encoded(total)
        return fits

    def placed_events(self) -> list[tuple[str, str, bytes]]:
        """Events with the contract that emitted each."""
        pairs = zip(self.places, self.events, strict=True)
        return [(place, name, data) for place, (name, data) in pairs]

    def keys(self, start: bytes, end: bytes) -> list[bytes]:
        known = {key for key in [*self.state, *self.writes] if start <= key < end}
        return sorted(key for key in known if self.value(key) is not None)

    def access_hash(self, ok: bool) -> bytes:
        def sized(data: bytes) -> bytes:
            return len(data).to_bytes(4, "big") + data

        out = b"chainnode/access/v1" + len(self.reads).to_bytes(4, "big")
        out += b"".join(sized(key) for key in sorted(self.reads))
        out += len(self.ranges).to_bytes(4, "big")
        out += b"".join(sized(start) + sized(end) for start, end in sorted(self.ranges))
        writes = sorted(self.writes.items()) if ok else []
        out += len(writes).to_bytes(4, "big")
        for key, value in writes:
            out += sized(key)
            if value is None:
                out += b"\0"
            elif isinstance(value, Added):
                delta = (value.delta % 2**128).to_bytes(16, "big")
                out += b"\2" + value.form.to_bytes(1, "big", signed=True) + delta
            else:
                out += b"\1" + sized(value)
        return hashlib.sha256(out).digest()


class Machine:
    """A metered module in wasmtime; every run has a fresh instance.

    Args:
        contracts: names under which the module is installed; it can call itself as another.
    """

    def __init__(self, metered: bytes, contracts: tuple[str, ...] = ()) -> None:
        self.contracts = contracts
        self.reverted: tuple[int, bytes] = (0, b"")
        self.engine = wasmtime.Engine()
        self.module = wasmtime.Module(self.engine, metered)
        self.prices = prices()

    def run(self, entry: str, call: Call, gas_limit: int) -> tuple[str, int]:
        """Run an export; returns how it ended ("ok", "gas", "trap", "revert") and the gas used."""
        run = Run(self, call)
        run.gas.set_value(run.store, gas_limit)
        if entry not in [item.name for item in self.module.exports]:
            return "unknown", 0
        function = run.instance.exports(run.store)[entry]
        assert isinstance(function, wasmtime.Func)
        try:
            function(run.store)
            end = "ok"
        except (wasmtime.Trap, wasmtime.WasmtimeError, OutOfGas, Trap, Revert) as error:
            end = {OutOfGas: "gas", Trap: "trap", Revert: "revert"}.get(type(error), "trap")
            if isinstance(error, Revert):
                self.reverted = error.args
        left = run.gas.value(run.store)
        if left < 0:
            end = "gas"
        return end, gas_limit if end == "gas" else gas_limit - left


class Run:
    """One instance and the host functions bound to it."""

    def __init__(self, machine: Machine, call: Call) -> None:
        self.machine, self.call, self.prices = machine, call, machine.prices
        self.store = wasmtime.Store(machine.engine)
        self.pending = b""
        self.scans: dict[int, list[Any]] = {}
        self.opened = 0
        linker = wasmtime.Linker(machine.engine)
        for item in machine.module.imports:
            name, kind = str(item.name), item.type
            method: Callable[..., Any] = getattr(self, f"host_{name}")
            assert isinstance(kind, wasmtime.FuncType)
            linker.define(self.store, "sc1", name, wasmtime.Func(self.store, kind, method))
        self.instance = linker.instantiate(self.store, machine.module)
        exports = self.instance.exports(self.store)
        memory, gas = exports["memory"], exports["sc1:gas"]
        assert isinstance(memory, wasmtime.Memory)
        assert isinstance(gas, wasmtime.Global)
        self.memory, self.gas = memory, gas

    def charge(self, name: str, size: int, *, base: bool = True) -> None:
        fixed, per_byte = self.prices[name]
        left = self.gas.value(self.store) - fixed * base - per_byte * size
        if left < 0:
            raise OutOfGas
        self.gas.set_value(self.store, left)

    def bytes_at(self, at: int, length: int) -> bytes:
        at, length = at & MASK, length & MASK
        if at + length > self.memory.data_len(self.store):
            raise Trap
        return bytes(self.memory.read(self.store, at, at + length))

    def key(self, at: int, length: int) -> bytes:
        if length & MASK > KEY_SIZE_MAX_BYTES:
            raise Trap
        return self.call.prefix + self.bytes_at(at, length)

    def deliver(self, value: bytes, at: int, capacity: int) -> int:
        self.bytes_at(at, capacity)
        if len(value) <= capacity:
            self.memory.write(self.store, value, at & MASK)
        else:
            self.pending = value
        return len(value)

    def host_input(self, at: int, capacity: int) -> int:
        self.charge("input", len(self.call.args))
        return self.deliver(self.call.args, at, capacity)

    def host_fetch(self, at: int, capacity: int) -> int:
        self.charge("fetch", len(self.pending))
        return self.deliver(self.pending, at, capacity)

    def host_ret(self, at: int, length: int) -> None:
        self.charge("ret", length & MASK)
        self.call.result = self.bytes_at(at, length)

    def host_revert(self, code: int, at: int, length: int) -> None:
        self.charge("revert", length & MASK)
        raise Revert(code, self.bytes_at(at, length))

    def host_log(self, _level: int, at: int, length: int) -> None:
        self.charge("log", length & MASK)
        self.bytes_at(at, length)

    def host_ctx_get(self, index: int, at: int, capacity: int) -> int:
        value = self.call.fields[index]
        self.charge("ctx_get", len(value))
        return self.deliver(value, at, capacity)

    def host_ctx_i64(self, index: int) -> int:
        self.charge("ctx_i64", 0)
        return self.call.numbers[index]

    def host_db_get(self, key: int, key_length: int, at: int, capacity: int) -> int:
        self.charge("db_get", key_length & MASK)
        value = self.call.read(self.key(key, key_length))
        if value is None:
            return ABSENT
        length = self.deliver(value, at, capacity)
        self.charge("db_get", length, base=False)
        return length

    def host_db_has(self, key: int, key_length: int) -> int:
        self.charge("db_has", key_length & MASK)
        return int(self.call.read(self.key(key, key_length)) is not None)

    def host_db_put(self, key: int, key_length: int, value: int, value_length: int) -> None:
        self.charge("db_put", (key_length & MASK) + (value_length & MASK))
        self.call.writes[self.key(key, key_length)] = self.bytes_at(value, value_length)

    def host_db_del(self, key: int, key_length: int) -> None:
        self.charge("db_del", key_length & MASK)
        self.call.writes[self.key(key, key_length)] = None

    def host_db_add(self, key: int, key_length: int, low: int, high: int) -> None:
        self.charge("db_add", key_length & MASK)
        addition = Added(wide(low, high), -16)
        if not self.call.add(self.key(key, key_length), addition, -(2**127), 2**127 - 1):
            raise Trap

    def host_db_add_within(
        self, key: int, key_length: int, form: int, low: int, high: int, *ends: int
    ) -> int:
        self.charge("db_add_within", key_length & MASK)
        name, addition = self.key(key, key_length), Added(wide(low, high), form)
        if form not in {1, 2, 4, 8, -1, -2, -4, -8, -16}:
            raise Trap
        return int(self.call.add(name, addition, wide(*ends[:2]), wide(*ends[2:])))

    def host_db_read_sum(self, key: int, key_length: int, at: int) -> None:
        self.charge("db_read_sum", key_length & MASK)
        self.deliver(self.call.read(self.key(key, key_length)) or bytes(16), at, 16)

    def host_db_scan(self, sp: int, sn: int, ep: int, en: int, flags: int) -> int:
        self.charge("db_scan", (sn & MASK) + (en & MASK))
        start = self.key(sp, sn)
        prefix = self.call.prefix
        # Contract names in these tests end in a letter, so the next prefix is one letter on.
        end = self.key(ep, en) if en else prefix[:-1] + bytes([prefix[-1] + 1])
        self.call.ranges.add((start, end))
        handle = self.opened
        self.opened += 1
        self.scans[handle] = [start, end, flags]
        return handle

    def host_db_next(self, handle: int, at: int, capacity: int) -> int:
        self.charge("db_next", 0)
        start, end, reverse = self.scans[handle]
        keys = self.call.keys(start, end)
        if not keys:
            return ABSENT
        key = keys[-1] if reverse else keys[0]
        self.scans[handle] = [start, key, 1] if reverse else [key + b"\0", end, 0]
        value = self.call.read(key)
        assert value is not None
        short = key[len(self.call.prefix) :]
        length = self.deliver(len(short).to_bytes(4, "big") + short + value, at, capacity)
        self.charge("db_next", length, base=False)
        return length

    def host_db_close(self, handle: int) -> None:
        self.charge("db_close", 0)
        if self.scans.pop(handle, None) is None:
            raise Trap

    def host_emit(self, name: int, name_length: int, at: int, length: int) -> None:
        self.charge("emit", (name_length & MASK) + (length & MASK))
        text = self.bytes_at(name, name_length).decode()
        self.call.events.append((text, self.bytes_at(at, length)))
        self.call.places.append(self.call.fields[3].decode())

    def host_hash(self, _algorithm: int, at: int, length: int, out: int) -> None:
        self.charge("hash", length & MASK)
        self.deliver(hashlib.sha256(self.bytes_at(at, length)).digest(), out, 32)

    def host_paillier_add(
        self, key: int, n: int, left: int, m: int, right: int, p: int, out: int
    ) -> int:
        self.charge("paillier_add", (n & MASK) + (m & MASK) + (p & MASK))
        values = self.bytes_at(key, n), self.bytes_at(left, m), self.bytes_at(right, p)
        return self._paillier(paillier_add, out, *values)

    def host_paillier_add_plain(
        self, key: int, n: int, left: int, m: int, low: int, high: int, out: int
    ) -> int:
        self.charge("paillier_add_plain", (n & MASK) + (m & MASK))
        number = (high << 64) | (low & (2**64 - 1))
        values = self.bytes_at(key, n), self.bytes_at(left, m), number
        return self._paillier(paillier_add_plain, out, *values)

    def host_paillier_scalar_multiply(
        self, key: int, n: int, left: int, m: int, low: int, high: int, out: int
    ) -> int:
        self.charge("paillier_scalar_multiply", (n & MASK) + (m & MASK))
        number = (high << 64) | (low & (2**64 - 1))
        values = self.bytes_at(key, n), self.bytes_at(left, m), number
        return self._paillier(paillier_scalar_multiply, out, *values)

    def _paillier(self, function: Callable[..., bytes], out: int, *values: Any) -> int:
        try:
            result = function(*values)
        except PaillierKeyInvalid:
            return 1
        except PaillierCiphertextInvalid:
            return 2
        self.deliver(result, out, len(result))
        return 0

    def host_call(
        self, cp: int, cn: int, mp: int, mn: int, ap: int, an: int, gas: int, flags: int
    ) -> int:
        self.charge("call", (cn & MASK) + (mn & MASK) + (an & MASK))
        names = [self.bytes_at(cp, cn).decode(), self.bytes_at(mp, mn).decode()]
        left = self.gas.value(self.store)
        most = left - left // 64
        granted = min(gas or most, most)
        status, name, used = self._nested(names, self.bytes_at(ap, an), granted)
        self.gas.set_value(self.store, left - used)
        if status == 0:
            return 0
        code, text = self.machine.reverted if status == 1 else (0, CALL_TEXTS[name].encode())
        if not flags & 1:
            shown = f"{names[0]}.{names[1]}: {name}" + (f" {code}" if code else "")
            raise Revert(10, shown.encode() + (b" " + text if text else b""))
        parts = [item.encode() for item in [*names, name]]
        parts = [len(item).to_bytes(4, "big") + item for item in parts]
        tail = code.to_bytes(4, "big") + len(text).to_bytes(4, "big") + text
        self.pending = b"".join(parts) + tail
        return status

    def _nested(self, names: list[str], args: bytes, granted: int) -> tuple[int, str, int]:
        call, (contract, method) = self.call, names
        own = call.fields[3].decode()
        if contract in (own, *call.waiting):
            return 7, "REENTRANT", 0
        call.reads.add(b"\x03" + contract.encode())
        if contract not in self.machine.contracts:
            return 4, "UNKNOWN_CONTRACT", 0
        sender, name = bytes(contract_address(own)), contract.encode()
        about = [call.fields[4], call.fields[5], own.encode(), own.encode(), call.fields[8]]
        address = bytes(contract_address(contract))
        inner = replace(
            call,
            prefix=b"\x04" + bytes([len(name)]) + name,
            fields=[sender, b"", b"contract", name, *about, address],
            args=args,
            writes=dict(call.writes),
            events=[],
            places=[],
            result=b"",
            waiting=(*call.waiting, own),
        )
        end, used = self.machine.run(f"c:{method}", inner, granted)
        if end == "ok":
            call.writes = inner.writes
            call.events += inner.events
            call.places += inner.places
            self.pending = inner.result
            return 0, "", used
        status, shown = {
            "revert": (1, "REVERTED"),
            "trap": (2, "TRAPPED"),
            "gas": (3, "OUT_OF_GAS"),
            "unknown": (6, "UNKNOWN_METHOD"),
        }[end]
        return status, shown, used
