"""A contract in several files: the same as in one, and what is refused about its files."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from executor_backend import ExecutorBackend
from hinted_backend import HintedBackend
from wasmtime_host import WasmtimeBackend

from chainnode.contract import abi
from chainnode.contract.codec import CodecError
from chainnode.contract.compiler import CompileError, compile_path, compile_source
from chainnode.contract.describe import describe
from chainnode.contract.package import build
from chainnode.contract.testing import NativeBackend, Reverted, deploy, load_contract, member
from chainnode.types.errors import ClientFault

ROOT = Path(__file__).resolve().parents[2]
DATACLASS = "from dataclasses import dataclass\n"
SDK = (
    "from chainnode.contract import (\n"
    "    Contract, Counter, Error, Map, Var, call, ctx, emit, error, event, init, u8, u64, view)\n"
)
LIMITS = """
LIMIT = 10 ** 3
STEP = LIMIT // 100

def doubled(value: u64, times: int = STEP) -> int:
    return 2 * value * times
"""
RECORDS = """
@dataclass(frozen=True)
class Entry:
    owner: str
    amount: u8 = STEP

@error
class TooLarge(Error):
    amount: int

@error
class Closed(Error):
    at: u64

@event
class Stored:
    entry: u64
    amount: int
"""
LEDGER_BODY = """
    entries: Map[u64, Entry]
    total: Counter
    closed: Var[bool]

    @init
    def setup(self) -> None:
        self.closed.set(False)

    @call
    def put(self, place: u64, amount: int) -> int:
        self._open(place)
        if amount > LIMIT:
            raise TooLarge(amount)
        entry = Entry(ctx.sender_org) if amount == 0 else Entry(ctx.sender_org, amount)
        self.entries[place] = entry
        self.total.add(entry.amount)
        emit(Stored(place, entry.amount))
        return doubled(place)

    def _open(self, place: u64) -> None:
        if self.closed.get():
            raise Closed(place)
"""
BOOK_BODY = """
    notes: Map[str, bytes]

    @call
    def close(self, note: bytes) -> None:
        self._open(LIMIT)
        self.closed.set(True)
        self.notes[ctx.sender_org] = note

    @view
    def sum(self) -> int:
        return self.total.read() + doubled(1, 0)

    @view
    def entry(self, place: u64) -> tuple[Entry, bytes]:
        return (self.entries[place], self.notes.get(ctx.sender_org, b""))
"""
BOOK = 'class Book({base}, version="2.1", name="book"):\n    """Docs."""\n'
ONE = DATACLASS + SDK + LIMITS + RECORDS + BOOK.format(base="Contract") + LEDGER_BODY + BOOK_BODY
PARTS = {
    "limits": SDK + LIMITS,
    "records": DATACLASS + SDK + "from .limits import STEP\n" + RECORDS,
    "ledger": SDK
    + "from .records import Closed, Entry, Stored, TooLarge\nfrom .limits import LIMIT, doubled\n"
    + "class Ledger(Contract):"
    + LEDGER_BODY,
    "contract": SDK
    + "from .limits import LIMIT, doubled\n"
    + "from .ledger import Ledger\nfrom .records import Entry\n"
    + BOOK.format(base="Ledger")
    + BOOK_BODY,
}


def folder(at: Path, parts: dict[str, str]) -> Path:
    at.mkdir(exist_ok=True)
    for name, text in parts.items():
        (at / f"{name}.py").write_text(text)
    return at


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return folder(tmp_path / "book", PARTS)


def refusals(at: Path) -> list[str]:
    """Diagnostics as `file:line: message. Hint: hint.`, the folder and columns left out."""
    with pytest.raises(CompileError) as caught:
        compile_path(at)
    return [
        f"{Path(item.file).name}:{item.line}: {item.message}. Hint: {item.hint}."
        for item in caught.value.diagnostics
        if Path(item.file).parent == at
    ]


def test_files_give_the_bytes_one_file_gives(parts: Path) -> None:
    split, whole = compile_path(parts), compile_source(ONE)
    assert split.wasm == whole.wasm
    assert (split.name, split.version) == ("book", "2.1")
    documents = [json.loads(made.abi) for made in (split, whole)]
    hashes = [document.pop("source_sha256") for document in documents]
    assert documents[0] == documents[1]
    assert hashes[0] != hashes[1]
    assert [item["name"] for item in documents[0]["errors"]] == ["TooLarge", "Closed"]
    assert [item["field"] for item in documents[0]["storage"]] == [
        "entries", "total", "closed", "notes",
    ]  # fmt: skip


def test_python_sees_the_contract_the_compiler_sees(parts: Path) -> None:
    contract = load_contract(parts).Book
    assert load_contract(parts / "contract.py").Book is contract
    compiled = json.loads(compile_path(parts).abi)
    for key in ("access", "compiler", "source_sha256", "wasm_sha256"):
        del compiled[key]
    assert compiled == json.loads(abi.dump(describe(contract)))


@pytest.mark.parametrize(
    "backend", [NativeBackend, HintedBackend, WasmtimeBackend, ExecutorBackend]
)
def test_every_backend_runs_the_files_alike(parts: Path, backend: Any) -> None:
    book = deploy(load_contract(parts).Book, sender=member("alice", role="admin"), backend=backend)
    assert book.call("put", place=3, amount=200) == 60
    assert book.call("put", place=4, amount=0) == 80
    assert book.events == [
        ("Stored", {"entry": 3, "amount": 200}),
        ("Stored", {"entry": 4, "amount": 10}),
    ]
    with pytest.raises(Reverted) as caught:
        book.call("put", place=3, amount=1_001)
    assert (caught.value.error, caught.value.fields) == ("TooLarge", {"amount": 1_001})
    # A range broken in a base of another file reverts under CPython too.
    with pytest.raises(Reverted, match="Overflow"):
        book.call("put", place=3, amount=256)
    book.call("close", note=b"end")
    with pytest.raises(Reverted) as caught:
        book.call("close", note=b"again")
    assert (caught.value.error, caught.value.code) == ("Closed", 101)
    assert book.view("sum") == 210
    entry, note = book.view("entry", place=4)
    assert (entry.owner, entry.amount, note) == ("bank-a", 10, b"end")
    assert sorted({key[0] for key in book.storage}) == [1, 2, 3, 4]


def test_the_order_of_import_lines_is_no_matter(parts: Path, tmp_path: Path) -> None:
    lines = PARTS["contract"].splitlines()
    turned = [line for line in lines if not line.startswith("from .")]
    turned[2:2] = reversed([line for line in lines if line.startswith("from .")])
    other = folder(tmp_path / "other", {**PARTS, "contract": "\n".join(turned) + "\n"})
    assert compile_path(other).wasm == compile_path(parts).wasm


def test_bytes_do_not_depend_on_hash_seed_or_place(parts: Path, tmp_path: Path) -> None:
    other = folder(tmp_path / "elsewhere", {**PARTS, "unused": "import os\n"})
    script = (
        "import sys, hashlib; from chainnode.contract.package import build\n"
        "for p in sys.argv[1:]: print(hashlib.sha256(build(p).package()).hexdigest())"
    )
    for seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(parts), str(other)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        expected = hashlib.sha256(build(parts).package()).hexdigest()
        assert done.stdout.split() == [expected, expected]


def test_the_source_hash_covers_every_file(parts: Path, tmp_path: Path) -> None:
    state = hashlib.sha256(b"chainnode/contract-source/v1")
    for name in ("limits", "records", "ledger", "contract"):
        for item in (f"{name}.py".encode(), PARTS[name].encode()):
            state.update(len(item).to_bytes(4, "big") + item)
    assert compile_path(parts).source_sha256 == state.digest()
    single = folder(tmp_path / "single", {"contract": ONE})
    assert compile_path(single).source_sha256 == hashlib.sha256(ONE.encode()).digest()
    (parts / "limits.py").write_text(PARTS["limits"] + "# changed\n")
    assert compile_path(parts).source_sha256 != state.digest()


FINAL = SDK + "{imports}\nclass Book({base}):\n    a: Var[u64]\n"
BASE = SDK + "class Base(Contract):\n    b: Var[u64]\n    def f(self) -> None:\n        pass\n"


@pytest.mark.parametrize(
    ("imports", "files", "expected"),
    [
        (
            "from .one import A",
            {"one": "from .two import B\nA = 1\n", "two": "\nfrom .one import A\nB = 2\n"},
            "two.py:2: files import each other in a circle: one, two, one. Hint: move what both "
            "need into a third file.",
        ),
        (
            "from .contract import Book",
            {},
            "contract.py:3: files import each other in a circle: contract, contract. Hint: move "
            "what both need into a third file.",
        ),
        (
            "from .one import *",
            {"one": "A = 1\n"},
            "contract.py:3: everything is imported from .one. Hint: list the names.",
        ),
        (
            "from .one import A as B",
            {"one": "A = 1\n"},
            "contract.py:3: A is renamed. Hint: import names as they are.",
        ),
        (
            "from .one import B",
            {"one": "A = 1\n"},
            "contract.py:3: one.py does not declare B. Hint: correct the name.",
        ),
        (
            "from .one import B",
            {"one": "from .two import B\n", "two": "B = 1\n"},
            "contract.py:3: one.py does not declare B. Hint: write from .two import B.",
        ),
        (
            "from ..other import A",
            {},
            "contract.py:3: an import leaves the contract's folder. Hint: move the file into the "
            "folder: from .name import Thing.",
        ),
        (
            "from .deep.one import A",
            {},
            "contract.py:3: .deep.one is in a folder of the folder. Hint: keep all files in one "
            "folder.",
        ),
        (
            "from . import one",
            {"one": "A = 1\n"},
            "contract.py:3: a file is imported whole. Hint: name things: from .file import Thing.",
        ),
        (
            "from .missing import A",
            {},
            "contract.py:3: missing.py is not in the contract's folder. Hint: add it, or correct "
            "the name.",
        ),
        (
            "from .one import A",
            {"one": "A = 1\nimport os\n"},
            "one.py:2: Import cannot stand at module level. Hint: a module holds imports, "
            "constants, records, functions and one contract.",
        ),
        ("from .one import A", {"one": "\nA = (1\n"}, "one.py:2: '(' was never closed. Hint: ."),
        (
            "from .one import A\nA = 2",
            {"one": "\nA = 1\n"},
            "contract.py:4: A is already declared at one.py:2. Hint: import it, from .one import "
            "A, or rename this one.",
        ),
        (
            "from .one import f",
            {"one": "B = 1.5\n\ndef f() -> int:\n    return 1 / 2\n"},
            "one.py:1: not a constant. Hint: constants are literals and arithmetic on them.",
        ),
        (
            "from .one import f",
            {"one": "def f() -> int:\n    return 1 / 2\n"},
            "one.py:2: / gives a fraction. Hint: use // (rounds down) or scale first.",
        ),
        (
            "from .one import Base",
            {"one": BASE},
            "one.py:3: Base is no part of the contract Book. Hint: derive from it, or remove it.",
        ),
    ],
)
def test_imports_are_refused_in_words(
    tmp_path: Path, imports: str, files: dict[str, str], expected: str
) -> None:
    text = FINAL.format(imports=imports, base="Contract")
    at = folder(tmp_path / "refused", {"contract": text, **files})
    found = [item.replace(f"{at}{os.sep}", "") for item in refusals(at)]
    assert found == [expected]


@pytest.mark.parametrize(
    ("base", "body", "expected"),
    [
        (
            "Base",
            "    b: Var[u64]\n",
            "contract.py:6: b is already declared at one.py:4. Hint: a derived class adds names; "
            "choose another.",
        ),
        (
            "Base",
            "    @call\n    def f(self) -> None:\n        pass\n",
            "contract.py:7: f is already declared at one.py:5. Hint: a derived class adds names; "
            "choose another.",
        ),
        (
            "Base, Contract",
            "",
            "contract.py:4: Book has several bases. Hint: derive from one class.",
        ),
        (
            "Base",
            "    @call\n    def run(self) -> None:\n        x = self.missing()\n",
            "contract.py:8: self.missing is no method. Hint: declare it in the class.",
        ),
    ],
)
def test_classes_are_refused_in_words(tmp_path: Path, base: str, body: str, expected: str) -> None:
    text = FINAL.format(imports="from .one import Base", base=base) + body
    at = folder(tmp_path / "refused", {"contract": text, "one": BASE})
    found = [item.replace(f"{at}{os.sep}", "") for item in refusals(at)]
    assert expected in found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "class Base(Contract)",
            'class Base(Contract, version="1")',
            "one.py:3: Base is a base: it has no version and no name. Hint: give them to the class "
            "that is installed.",
        ),
        # What only a derived class has, its base does not know: as for a type checker.
        (
            "        pass",
            "        self.a.set(1)",
            "one.py:6: self.a is not declared. Hint: declare a storage field.",
        ),
        (
            "class Base(Contract)",
            "class First(Contract):\n    pass\n\nclass Base(First)",
            "one.py:6: found 2 contracts. Hint: write one class a file.",
        ),
        (
            "        pass",
            "        x = CONTRACT_CONSTANT",
            "one.py:6: CONTRACT_CONSTANT is not defined. Hint: storage and methods are reached "
            "through self.",
        ),
    ],
)
def test_bases_are_refused_in_words(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = FINAL.format(imports="from .one import Base", base="Base") + "\nCONTRACT_CONSTANT = 1\n"
    at = folder(tmp_path / "refused", {"contract": text, "one": BASE.replace(old, new)})
    assert expected in refusals(at)


def test_a_name_that_is_not_imported_is_not_known(parts: Path) -> None:
    text = PARTS["ledger"].replace("Closed, Entry,", "Entry,")
    (parts / "ledger.py").write_text(text)
    line = text.splitlines().index("            raise Closed(place)") + 1
    expected = (
        f"ledger.py:{line}: only declared errors can be raised. Hint: declare it with @error."
    )
    assert refusals(parts) == [expected]


def test_a_fault_in_a_default_is_named_where_it_stands(parts: Path) -> None:
    text = PARTS["limits"].replace("times: int = STEP", "times: int = b'x'")
    (parts / "limits.py").write_text(text)
    line = 1 + next(i for i, item in enumerate(text.splitlines()) if item.startswith("def doubled"))
    assert all(item.startswith(f"limits.py:{line}: ") for item in refusals(parts))


def test_one_text_has_no_files_beside_it() -> None:
    with pytest.raises(CompileError, match=r"c.py:3:1: one.py is not in the contract's folder"):
        compile_source(FINAL.format(imports="from .one import A", base="Contract"), "c.py")


def test_python_refuses_what_the_compiler_refuses(tmp_path: Path) -> None:
    text = FINAL.format(imports="from .one import Base", base="Base") + "    b: Var[u64]\n"
    at = folder(tmp_path / "refused", {"contract": text, "one": BASE})
    with pytest.raises(CodecError, match="Book declares again what Base does"):
        load_contract(at)


@pytest.mark.parametrize("read", [build, load_contract])
def test_a_folder_without_a_contract_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(ClientFault, match=r"contract\.py") as caught:
        read(tmp_path)
    assert caught.value.code == "CONTRACT_NOT_FOUND"


def test_type_checkers_read_the_folder_as_a_package(parts: Path) -> None:
    """As an editor sees it: relative imports and inheritance resolve, nothing is `Any`."""
    (parts / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(parts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
