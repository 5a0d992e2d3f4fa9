"""Turns a map's `range` into WebAssembly: a scan of the host, read to its end into a list."""

from __future__ import annotations

from chainnode.contract.compiler.ir import Expr, fields_of, offset_of, slot_bytes
from chainnode.contract.compiler.layout import emit_add, emit_store, slot_total
from chainnode.contract.compiler.lowering_expressions import ExpressionLowering
from chainnode.contract.compiler.wasm import I32
from chainnode.contract.schema import FAULT_VALUE, ListOf, Type
from chainnode.types.limits import CONTRACT_SCAN_ROWS_MAX, CONTRACT_STORAGE_FIELDS_MAX


class RangeLowering(ExpressionLowering):
    """The part of a function that reads ranges."""

    def _expr_map_range(self, e: Expr) -> None:
        storage, *bounds, reverse = e.value
        assert isinstance(e.type, ListOf)
        *ends, (left,) = (self.kept(item) for item in e.args)
        kinds = [item.type for item in e.args]
        self._check_limit(left)
        start = self.mark()
        self._put_bound(storage.id, (ends[0], kinds[0]) if bounds[0] else None)
        stop = self.mark()
        if bounds[1]:
            self._put_bound(storage.id, (ends[-1], kinds[-2]))
        elif storage.id < CONTRACT_STORAGE_FIELDS_MAX:
            # One field ends where the next one begins; after the last one there is nothing.
            self._put_bound(storage.id + 1, None)
        scan = self.temporary(I32)
        self.f.op("local.get", start)
        self.f.op("local.get", stop)
        self.f.op("i32.const", int(reverse))
        self.f.call("scan")
        self.f.op("local.set", scan)
        self._rows(e.type.item, scan, left)

    def _check_limit(self, left: int) -> None:
        self.f.op("local.get", left)
        self.f.op("i64.const", CONTRACT_SCAN_ROWS_MAX)
        self.f.op("i64.gt_u")
        self.f.begin("if")
        self.f.op("i32.const", FAULT_VALUE)
        self.f.call("fault")
        self.f.end()

    def _put_bound(self, number: int, key: tuple[list[int], Type] | None) -> None:
        """Write a bound at the heap's end."""
        self.f.op("i64.const", number)
        self.f.call("put8")
        if key is not None:
            self.push(key[0])
            self.layout.key(self.f, key[1])

    def _rows(self, row: Type, scan: int, left: int) -> None:
        """Push the list of what a scan gives, at most so many rows."""
        f, holder = self.f, self.temporary(I32)
        for number in (0, slot_bytes(row)):
            f.op("i32.const", number)
        f.call("list_new")
        f.op("local.set", holder)
        done = f.begin("block")
        top = f.begin("loop")
        f.op("local.get", left)
        f.op("i64.eqz")
        f.branch(done, conditional=True)
        f.op("local.get", scan)
        f.call("row")
        f.op("i32.eqz")
        f.branch(done, conditional=True)
        address = self._row(row)
        f.op("local.get", holder)
        f.op("i32.const", slot_bytes(row))
        f.call("list_push")
        f.op("local.get", address)
        emit_store(f, row)
        f.op("local.get", left)
        f.op("i64.const", 1)
        f.op("i64.sub")
        f.op("local.set", left)
        f.branch(top)
        f.end()
        f.end()
        f.op("local.get", scan)
        f.call("db_close")
        f.op("local.get", holder)

    def _row(self, row: Type) -> int:
        """Decode the row at the reading position; returns the temporary with its address."""
        f, address = self.f, self.temporary(I32)
        f.op("i32.const", slot_total(row))
        f.call("alloc")
        f.op("local.set", address)
        reads = (self.layout.read_key, self.layout.read)
        for index, (read, kind) in enumerate(zip(reads, fields_of(row), strict=True)):
            f.op("local.get", address)
            emit_add(f, offset_of(row, index))
            read(f, kind)
            emit_store(f, kind)
        f.call("get_end")
        return address
