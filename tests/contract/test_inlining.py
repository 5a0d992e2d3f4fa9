"""Inlined functions mean what calls meant."""

import random

import pytest
import wasmtime

from chainnode.contract.compiler.inlining import flattened, inlined
from chainnode.contract.compiler.wasm import I32, I64, Function, Module

KINDS = {I32: "i32", I64: "i64"}


def expression(
    f: Function, kind: int, others: list[Function], rand: random.Random, depth: int
) -> None:
    """Push a random value of one kind: locals, constants, assignments, branches and calls."""
    kinds = [*f.params, *f.locals]
    mine = [index for index, item in enumerate(kinds) if item == kind]
    callees = [item for item in others if item.results == (kind,)]
    choice = rand.randrange(7) if depth else rand.randrange(2)
    if choice == 1 and mine:
        f.op("local.get", rand.choice(mine))
    elif choice == 2 and mine:
        expression(f, kind, others, rand, depth - 1)
        f.op("local.tee", rand.choice(mine))
    elif choice == 3:
        expression(f, I32, others, rand, depth - 1)
        f.begin("if", kind)
        expression(f, kind, others, rand, depth - 1)
        f.op("else")
        expression(f, kind, others, rand, depth - 1)
        f.end()
    elif choice >= 4 and callees:
        callee = rand.choice(callees)
        for item in callee.params:
            expression(f, item, others, rand, depth - 1)
        f.call(callee.name)
    elif choice >= 2:
        expression(f, kind, others, rand, depth - 1)
        expression(f, kind, others, rand, depth - 1)
        f.op(f"{KINDS[kind]}.{rand.choice(['add', 'sub', 'mul', 'xor'])}")
    else:
        f.op(f"{KINDS[kind]}.const", rand.randrange(-(2**31), 2**31))


def program(seed: int) -> list[Function]:
    rand = random.Random(seed)
    made: list[Function] = []
    for number in range(6):
        params = tuple(rand.choice([I32, I64]) for _ in range(rand.randrange(4)))
        result = rand.choice([I32, I64])
        f = Function(f"f{number}", params, (result,))
        for _ in range(rand.randrange(3)):
            f.local(rand.choice([I32, I64]))
        expression(f, result, made, rand, 3)
        made.append(f)
    main = Function("main", (I32, I64), (I64,))
    main.local(I64)
    for _ in range(4):
        expression(main, I64, made, rand, 4)
        main.op("local.get", 2)
        main.op("i64.add")
        main.op("local.set", 2)
    main.op("local.get", 2)
    return [*made, main]


def run(functions: list[Function]) -> list[int]:
    module = Module("sc1")
    for function in functions:
        module.add(function)
    module.exports.append(("main", "main"))
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, module.encode()), [])
    main = instance.exports(store)["main"]
    return [main(store, small, large) for small, large in [(0, 0), (1, -1), (-7, 2**40)]]


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_random_functions_give_the_same_values(first: int) -> None:
    calls = left = 0
    for seed in range(first, first + 100):
        *small, main = program(seed)
        done, templates = flattened(small)
        whole = inlined(main, templates)
        assert run([*done.values(), whole]) == run([*small, main]), seed
        calls += sum(isinstance(item, str) for item in main.code)
        left += sum(isinstance(item, str) for item in whole.code)
    assert left < calls / 4


def test_a_function_that_leaves_early_loops_or_is_large_stays_a_call() -> None:
    early = Function("early", (I32,), ())
    early.op("local.get", 0)
    early.begin("if")
    early.op("return")
    early.end()
    loop = Function("loop", (), ())
    loop.begin("loop")
    loop.end()
    large = Function("large", (), ())
    for _ in range(30):
        large.op("i32.const", 1)
        large.op("drop")
    small = Function("small", (), ())
    _, templates = flattened([early, loop, large, small])
    assert list(templates) == ["small"]


def test_a_function_in_a_cycle_is_not_inlined_into_itself() -> None:
    one, other = Function("one", (), ()), Function("other", (), ())
    one.call("other")
    other.call("one")
    done, _ = flattened([one, other])
    assert any(isinstance(item, str) for function in done.values() for item in function.code)


def test_a_result_kept_in_a_local_is_not_overwritten_by_the_next_function() -> None:
    more = Function("more", (I64,), (I64,))
    for name, value in [("local.get", 0), ("i64.const", 1), ("i64.add", 0)]:
        more.op(name, value)
    more.op("local.set", 0)
    more.op("local.get", 0)
    less = Function("less", (I64,), (I64,))
    five = less.local(I64)
    less.op("i64.const", 5)
    less.op("local.set", five)
    less.op("local.get", 0)
    less.op("local.get", five)
    less.op("i64.sub")
    main = Function("main", (I32, I64), (I64,))
    main.op("i64.const", 9)
    main.call("more")
    main.call("less")
    done, templates = flattened([more, less])
    whole = inlined(main, templates)
    assert not any(isinstance(item, str) for item in whole.code)
    assert run([*done.values(), whole]) == run([more, less, main]) == [5, 5, 5]
