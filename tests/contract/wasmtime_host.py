"""The host ABI `sc1` on PyPI wasmtime: an oracle for the compiler, independent of the Rust core."""

import hashlib
from functools import lru_cache
from typing import Any

import wasmtime
from compiled_contract import compiled

from chainnode.contract import (
    CallFailed,
    Contract,
    contract_address,
    paillier_add,
    paillier_add_plain,
    paillier_scalar_multiply,
)
from chainnode.contract.frame import Frame
from chainnode.contract.paillier import PaillierCiphertextInvalid, PaillierKeyInvalid
from chainnode.contract.testing import Outcome

PREFIX = {"init": "i:", "call": "c:", "view": "v:"}


class _Reverted(Exception):
    def __init__(self, code: int, data: bytes) -> None:
        super().__init__(code)
        self.code = code
        self.data = data


@lru_cache(maxsize=512)
def _module(contract: type[Contract] | str) -> tuple[wasmtime.Engine, wasmtime.Module]:
    engine = wasmtime.Engine()
    return engine, wasmtime.Module(engine, compiled(contract).wasm)


class WasmtimeBackend:
    """Runs the compiled contract, a fresh instance for every call."""

    def __init__(self, contract: type[Contract] | str) -> None:
        self.engine, self.module = _module(contract)

    def run(self, frame: Frame, kind: str, method: str, args: bytes) -> Outcome:
        host = _Host(frame, args, wasmtime.Store(self.engine))
        linker = wasmtime.Linker(self.engine)
        for item in self.module.imports:
            function = getattr(host, f"sc1_{item.name}")
            linker.define_func("sc1", str(item.name), item.type, function)
        instance = linker.instantiate(host.store, self.module)
        host.memory = instance.exports(host.store)["memory"]
        entry: Any = instance.exports(host.store)[PREFIX[kind] + method]
        try:
            entry(host.store)
        except _Reverted as reverted:
            return Outcome(code=reverted.code, data=reverted.data)
        return Outcome(result=host.result)


class _Host:
    def __init__(self, frame: Frame, args: bytes, store: wasmtime.Store) -> None:
        self.frame = frame
        self.args = args
        self.store = store
        self.memory: Any = None
        self.pending = b""
        self.result = b""
        self.scans: list[list[tuple[bytes, bytes]]] = []

    def _read(self, at: int, length: int) -> bytes:
        if at < 0 or length < 0 or at + length > self.memory.data_len(self.store):
            raise IndexError("host buffer out of bounds")
        return bytes(self.memory.read(self.store, at, at + length))

    def _write(self, data: bytes, at: int, capacity: int) -> int:
        self._read(at, capacity)
        if len(data) <= capacity:
            self.memory.write(self.store, data, at)
        else:
            self.pending = data
        return len(data)

    def sc1_input(self, at: int, capacity: int) -> int:
        return self._write(self.args, at, capacity)

    def sc1_fetch(self, at: int, capacity: int) -> int:
        return self._write(self.pending, at, capacity)

    def sc1_ret(self, at: int, length: int) -> None:
        self.result = self._read(at, length)

    def sc1_revert(self, code: int, at: int, length: int) -> None:
        raise _Reverted(code, self._read(at, length))

    def sc1_ctx_get(self, number: int, at: int, capacity: int) -> int:
        frame, caller = self.frame, self.frame.caller
        fields = [
            bytes(caller.address),
            caller.organisation.encode(),
            caller.role.encode(),
            frame.contract.encode(),
            bytes(frame.tx_id),
            frame.chain_id.encode(),
            caller.name.encode(),
            frame.outer.contract.encode() if frame.outer else b"",
            bytes(frame.origin()),
            bytes(contract_address(frame.contract)),
        ]
        return self._write(fields[number], at, capacity)

    def sc1_ctx_i64(self, number: int) -> int:
        return (self.frame.height, self.frame.time_ms)[number]

    def sc1_db_get(self, key: int, key_length: int, at: int, capacity: int) -> int:
        value = self.frame.get(self._read(key, key_length))
        return -1 if value is None else self._write(value, at, capacity)

    def sc1_db_has(self, key: int, key_length: int) -> int:
        return int(self.frame.get(self._read(key, key_length)) is not None)

    def sc1_db_put(self, key: int, key_length: int, value: int, length: int) -> None:
        self.frame.put(self._read(key, key_length), self._read(value, length))

    def sc1_db_del(self, key: int, key_length: int) -> None:
        self.frame.put(self._read(key, key_length), None)

    def sc1_db_add_within(
        self, key: int, n: int, form: int, low: int, high: int, *ends: int
    ) -> int:
        name = self._read(key, n)
        numbers = zip((low, *ends[::2]), (high, *ends[1::2]), strict=True)
        delta, least, most = ((top << 64) | (rest & (2**64 - 1)) for rest, top in numbers)
        total = int.from_bytes(self.frame.get(name) or b"", "big", signed=form < 0) + delta
        if not least <= total <= most:
            return 0
        self.frame.put(name, total.to_bytes(abs(form), "big", signed=form < 0))
        return 1

    def sc1_db_read_sum(self, key: int, key_length: int, at: int) -> None:
        self._write(self.frame.get(self._read(key, key_length)) or bytes(16), at, 16)

    def sc1_db_scan(self, start: int, n: int, stop: int, m: int, flags: int) -> int:
        # An empty end is none.
        low, high = self._read(start, n), self._read(stop, m) or None
        self.scans.append(self.frame.scan(low, high, 1_000, reverse=flags == 1))
        return len(self.scans) - 1

    def sc1_db_next(self, scan: int, at: int, capacity: int) -> int:
        if not self.scans[scan]:
            return -1
        key, value = self.scans[scan].pop(0)
        return self._write(len(key).to_bytes(4, "big") + key + value, at, capacity)

    def sc1_db_close(self, scan: int) -> None:
        self.scans[scan].clear()

    def sc1_emit(self, name: int, name_length: int, data: int, length: int) -> None:
        self.frame.emit(self._read(name, name_length).decode(), self._read(data, length))

    def sc1_call(
        self,
        name: int,
        name_n: int,
        method: int,
        method_n: int,
        args: int,
        n: int,
        _gas: int,
        f: int,
    ) -> int:
        contract = self._read(name, name_n).decode()
        kind = "view" if f & 2 else "call"
        entry = self._read(method, method_n).decode()
        try:
            self.pending = self.frame.call(contract, kind, entry, self._read(args, n))
            return 0
        except CallFailed as failed:
            if not f & 1:
                raise _Reverted(10, str(failed).encode()[:1024]) from None
            texts = [failed.contract, failed.method, failed.status, failed.text]
            sized = [len(t.encode()).to_bytes(4, "big") + t.encode() for t in texts]
            sized.insert(3, failed.code.to_bytes(4, "big"))
            self.pending = b"".join(sized)
            return 1

    def sc1_hash(self, algorithm: int, data: int, length: int, at: int) -> None:
        assert algorithm == 0
        self._write(hashlib.sha256(self._read(data, length)).digest(), at, 32)

    def _paillier(self, function: Any, at: int, *values: Any) -> int:
        try:
            self._write(function(*values), at, 2 * len(values[0]))
        except PaillierKeyInvalid:
            return 1
        except PaillierCiphertextInvalid:
            return 2
        return 0

    def sc1_paillier_add(
        self, key: int, n: int, left: int, m: int, right: int, p: int, at: int
    ) -> int:
        values = self._read(key, n), self._read(left, m), self._read(right, p)
        return self._paillier(paillier_add, at, *values)

    def sc1_paillier_add_plain(
        self, key: int, n: int, left: int, m: int, low: int, high: int, at: int
    ) -> int:
        values = self._read(key, n), self._read(left, m), (high << 64) | (low & (2**64 - 1))
        return self._paillier(paillier_add_plain, at, *values)

    def sc1_paillier_scalar_multiply(
        self, key: int, n: int, left: int, m: int, low: int, high: int, at: int
    ) -> int:
        values = self._read(key, n), self._read(left, m), (high << 64) | (low & (2**64 - 1))
        return self._paillier(paillier_scalar_multiply, at, *values)
