"""What the compiler accepts, what it says about the rest, and that its output never varies."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chainnode import _native
from chainnode.contract import abi
from chainnode.contract.compiler import CompileError, compile_source
from chainnode.contract.compiler import expressions as expression_rules
from chainnode.contract.compiler import statements as statement_rules
from chainnode.contract.compiler.expressions import Expressions
from chainnode.contract.compiler.statements import FunctionChecker
from chainnode.contract.package import build

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ["asset", "credit_scoring", "encrypted_sum", "evidence"]
TEMPLATE = """
from chainnode.contract import Contract, Counter, Map, Var, call, emit, event, u8, u64, view
class C(Contract):
    m: Map[u64, u64]
    v: Var[u64]
    n: Counter
    @call
    def run(self, a: u64, b: int, t: str, d: bytes, xs: list[u64], f: bool) -> None:
"""


def refusal(body: str) -> str:
    lines = "\n".join("        " + line for line in body.splitlines())
    with pytest.raises(CompileError) as caught:
        compile_source(TEMPLATE + lines + "\n", "c.py")
    found = caught.value.diagnostics[0]
    assert found.line >= 9, found
    return str(found)


@pytest.mark.parametrize("kind", [ast.stmt, ast.expr])
def test_every_python_construct_is_handled_or_refused_in_words(kind: type) -> None:
    """A new Python version that adds syntax fails here, and the compiler refuses it."""
    prefix = "_do_" if kind is ast.stmt else "_check_"
    rules = statement_rules if kind is ast.stmt else expression_rules
    deprecated = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis"}
    silent = [
        item.__name__
        for item in kind.__subclasses__()
        if item.__name__ not in deprecated
        and not hasattr(FunctionChecker, prefix + item.__name__.lower())
        and item.__name__ not in rules.UNSUPPORTED
    ]
    assert silent == []
    assert issubclass(FunctionChecker, Expressions)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("x = a / 2", "use // (rounds down)"),
        ("x = 1.5", "use integers of smaller units"),
        ("x = [i for i in xs]", "append in a for loop"),
        ("x = lambda: 1", "write a method"),
        ("x = {1: 2}", "use a Map"),
        ("with a: pass", "contracts hold no resources"),
        ("try:\n    pass\nexcept KeyError:\n    pass", "a failure undoes the whole call"),
        ("global a", "keep state in storage fields"),
        ("x = (y := 1)", "assign in a statement"),
        ("if a: pass", "compare: len(x) > 0"),
        ("x = a + t", "do not go together"),
        ("x = f + 1", "do not go together"),
        ("x = self.m.get(a)\ny = x + 1", "test it with `is None` first"),
        ("if f:\n    x = 1\ny = x", "assign it on every path"),
        ("x = []", "annotate: items: list[u64] = []"),
        ("x = t[0]", "text has no index"),
        ("raise ValueError('x')", "declare it with @error"),
        ("self.v = 1", "use .set(value)"),
        ("m = 1\nx = self.z", "declare a storage field"),
        ("xs += [1]", "use append"),
        ("x: u8 = 256", "outside u8"),
        ("return 1", "expected None"),
        ("return\nx = 1", "never reached"),
        ("open('x')", "cannot be called here"),
        ("print(a)", "cannot be called here"),
        ("x = a ** b", "multiply in a loop"),
        ("for i in 3: pass", "iterate range"),
        ("async_x = await_y", "not defined"),
        ("a.b = 1", "replace(r, field=v)"),
        ("x = y = 1", "two assignments"),
        ("self.m.add(a)", "self.m.add(key, 1)"),
        ("self.m.add(a, t)", "expected int"),
        ("x = self.m.add(a, 1)", "the type is unknown"),
        ("self.n.add(a, 1)", "expected one argument"),
    ],
)
def test_a_refusal_says_what_to_write_instead(body: str, words: str) -> None:
    assert words in refusal(body)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os", "Import cannot stand at module level"),
        ("from os import path", "only chainnode.contract"),
        ("from chainnode.contract import Map as M", "import names as they are"),
        ("x = 1", "write one class X(Contract)"),
        ("class C(Contract):\n    x: dict[str, int]", "use Map[K, V]"),
        ("class C(Contract):\n    x: Map[list[int], int]", "use a tuple"),
        ("class C(Contract):\n    @call\n    def f(self, x) -> None:\n        pass", "no type"),
        ("class C(Contract):\n    @call\n    def f(self):\n        pass", "no result type"),
        ("class C(Contract):\n    @call\n    def f(self) -> int:\n        pass", "every path"),
        (
            "class C(Contract):\n    n: Counter\n    @view\n    def f(self) -> None:\n"
            "        self.g()\n    def g(self) -> None:\n        self.n.add(1)",
            "make it a @call",
        ),
        (
            "class C(Contract):\n    m: Map[u64, str]\n    @call\n    def f(self) -> None:\n"
            "        self.m.add(1, 1)",
            "only integers are added to",
        ),
        ("class C(Contract:\n  pass", "invalid syntax"),
    ],
)
def test_declarations_are_refused_with_a_hint(source: str, words: str) -> None:
    with pytest.raises(CompileError, match="CONTRACT_SOURCE") as caught:
        compile_source(source + "\n", "c.py")
    assert words in str(caught.value)


def test_all_problems_are_reported_with_their_places() -> None:
    source = (
        TEMPLATE + "        x = 1.5\n    @call\n    def two(self) -> None:\n        y = 1 / 2\n"
    )
    with pytest.raises(CompileError) as caught:
        compile_source(source, "c.py")
    places = [(item.file, item.line, item.column) for item in caught.value.diagnostics]
    assert places == [("c.py", 9, 13), ("c.py", 12, 13)]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_contracts_pass_the_nodes_rules(name: str) -> None:
    built = build(ROOT / "contracts" / name)
    _native.check_module(built.wasm)
    assert abi.Abi.parse(built.abi_json).name == built.name == name


def test_the_output_does_not_depend_on_the_hash_seed() -> None:
    script = (
        "import sys, hashlib; from chainnode.contract.package import build\n"
        "for p in sys.argv[1:]: print(hashlib.sha256(build(p).package()).hexdigest())"
    )
    folders = [str(ROOT / "contracts" / name) for name in SHIPPED]
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, *folders],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    ]
    assert len(runs[0].split()) == len(SHIPPED)
    assert runs[0] == runs[1] == runs[2]
