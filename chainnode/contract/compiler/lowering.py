"""Turns checked functions into WebAssembly: statements, entry points, variables."""

from __future__ import annotations

from chainnode.contract.compiler.declarations import FunctionInfo
from chainnode.contract.compiler.ir import CALL_FAILED, Expr, Stmt, representation, slot_bytes
from chainnode.contract.compiler.layout import emit_store
from chainnode.contract.compiler.lowering_expressions import fix_range
from chainnode.contract.compiler.lowering_ranges import RangeLowering
from chainnode.contract.compiler.wasm import I32, Function
from chainnode.contract.schema import NONE, USER_ERROR, ListOf, Type


class FunctionLowering(RangeLowering):
    """Writes one function."""

    def run(self, info: FunctionInfo, body: list[Stmt]) -> None:
        """Append the code of a checked body; the function is already in the module."""
        position = 0
        for name, kind in info.params:
            shape = representation(kind)
            self.variables[name] = list(range(position, position + len(shape)))
            position += len(shape)
        self.block(body)
        if info.returns != NONE:
            self.f.op("unreachable")

    def block(self, body: list[Stmt]) -> None:
        for item in body:
            mark = len(self.taken)
            getattr(self, f"_do_{item.op}")(item)
            self.release(mark)

    def _do_assign(self, item: Stmt) -> None:
        self.expr(item.args[0])
        self.store_variable(item.value, item.args[0].type)

    def _do_expr(self, item: Stmt) -> None:
        self.expr(item.args[0])
        for _ in representation(item.args[0].type):
            self.f.op("drop")

    def _do_return(self, item: Stmt) -> None:
        if item.args:
            self.expr(item.args[0])
        self.f.op("return")

    def _do_if(self, item: Stmt) -> None:
        self.expr(item.args[0])
        self.f.begin("if")
        self.block(item.body)
        if item.other:
            self.f.op("else")
            self.block(item.other)
        self.f.end()

    def _do_try(self, item: Stmt) -> None:
        result, failed = item.value
        (invoke,) = item.args
        self.invoke(invoke, catch=True)
        self.f.op("i32.eqz")
        self.f.begin("if")
        self._decoded(invoke.type)
        self.store_variable(result, invoke.type)
        self.block(item.body)
        self.f.op("else")
        self._decoded(CALL_FAILED)
        self.store_variable(failed, CALL_FAILED)
        self.block(item.other)
        self.f.end()

    def _do_while(self, item: Stmt) -> None:
        done = self.f.begin("block")
        top = self.f.begin("loop")
        self.expr(item.args[0])
        self.f.op("i32.eqz")
        self.f.branch(done, conditional=True)
        self.loops.append((done, top))
        self.block(item.body)
        self.loops.pop()
        self.f.branch(top)
        self.f.end()
        self.f.end()

    def _do_for_range(self, item: Stmt) -> None:
        begin, end, step, kind, narrow = item.value
        done = self.f.begin("block")
        top = self.f.begin("loop")
        self.expr(Expr("local", kind, value=begin))
        self.expr(Expr("local", kind, value=end))
        self._loop_test("lt" if step > 0 else "gt", narrow)
        self.f.branch(done, conditional=True)
        again = self.f.begin("block")
        self.loops.append((done, again))
        self.block(item.body)
        self.loops.pop()
        self.f.end()
        self.expr(Expr("local", kind, value=begin))
        self.expr(Expr("int", kind, value=step))
        if narrow:
            self.f.op("i64.add")
        else:
            self.f.call("add128")
        self.store_variable(begin, kind)
        self.f.branch(top)
        self.f.end()
        self.f.end()

    def _loop_test(self, name: str, narrow: bool) -> None:
        if narrow:
            self.f.op(f"i64.{name}_s")
        else:
            self.f.call(f"{name}128")
        self.f.op("i32.eqz")

    def _do_for_items(self, item: Stmt) -> None:
        f, (index,) = self.f, self.variable(item.value, fix_range(0, 2**32 - 1))
        f.op("i64.const", 0)
        f.op("local.set", index)
        done = f.begin("block")
        top = f.begin("loop")
        f.op("local.get", index)
        self.expr(item.args[0])
        f.op("i32.load")
        f.op("i64.extend_i32_u")
        f.op("i64.ge_u")
        f.branch(done, conditional=True)
        again = f.begin("block")
        self.loops.append((done, again))
        self.block(item.body)
        self.loops.pop()
        f.end()
        f.op("local.get", index)
        f.op("i64.const", 1)
        f.op("i64.add")
        f.op("local.set", index)
        f.branch(top)
        f.end()
        f.end()

    def _do_break(self, item: Stmt) -> None:
        self.f.branch(self.loops[-1][0])

    def _do_continue(self, item: Stmt) -> None:
        self.f.branch(self.loops[-1][1])

    def _do_map_set(self, item: Stmt) -> None:
        value, key = item.args
        kept = self.kept(value)
        start = self.storage_key(item.value, key)
        end = self.mark()
        self.push(kept)
        self.layout.write(self.f, value.type)
        self.f.op("local.get", start)
        self.f.op("local.get", end)
        self.f.call("put")

    def _do_map_del(self, item: Stmt) -> None:
        start = self.storage_key(item.value, item.args[0])
        self.f.op("local.get", start)
        self.f.call("delete")

    def _do_list_set(self, item: Stmt) -> None:
        value, holder, index = item.args
        assert isinstance(holder.type, ListOf)
        kept = self.kept(value)
        self.expr(holder)
        self.expr(index)
        self.f.op("i32.const", slot_bytes(value.type))
        self.f.call("list_at")
        self.push(kept)
        emit_store(self.f, value.type)

    def _do_emit(self, item: Stmt) -> None:
        record = item.args[0]
        kept = self.kept(record)
        self.f.op("i32.const", self.constant(str(record.type).encode()))
        start = self.mark()
        self.push(kept)
        self.layout.write(self.f, record.type)
        self.f.op("local.get", start)
        self.f.call("publish")

    def _do_raise(self, item: Stmt) -> None:
        record = item.args[0]
        kept = self.kept(record)
        start = self.mark()
        self.push(kept)
        self.layout.write(self.f, record.type)
        self.f.op("i32.const", USER_ERROR + item.value)
        self.f.op("i32.const", self.constant(str(record.type).encode()))
        self.f.op("local.get", start)
        self.f.call("refuse")
        self.f.op("unreachable")

    def _do_assert(self, item: Stmt) -> None:
        test, text = item.args
        self.expr(test)
        self.f.op("i32.eqz")
        self.f.begin("if")
        self.expr(text)
        self.f.call("refuse_text")
        self.f.end()


def entry_point(lowering: FunctionLowering, info: FunctionInfo) -> None:
    """Write an exported function: decode the arguments, call the method, return its result."""
    f, layout = lowering.f, lowering.layout
    f.call("read_input")
    kept: list[tuple[list[int], Type]] = []
    for _, kind in info.params:
        layout.read(f, kind)
        kept.append((lowering.keep(kind), kind))
    f.call("get_end")
    for slots, _ in kept:
        lowering.push(slots)
    f.call(info.symbol)
    if info.returns == NONE:
        return
    result = lowering.keep(info.returns)
    start = lowering.mark()
    lowering.push(result)
    layout.write(f, info.returns)
    f.op("local.get", start)
    f.call("finish")


def new_function(info: FunctionInfo) -> Function:
    """An empty function with a method's signature."""
    params = tuple(item for _, kind in info.params for item in representation(kind))
    return Function(info.symbol, params, representation(info.returns))


__all__ = ["I32", "FunctionLowering", "entry_point", "new_function"]
