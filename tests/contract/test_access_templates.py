"""Access templates: right for the shipped contracts, unknown where nothing can be known."""

import contextlib
import hashlib
import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from executor_backend import ExecutorBackend
from hinted_backend import EXACT, HintedBackend

from chainnode import _native
from chainnode._proto import types_pb2
from chainnode.contract.compiler import compile_path, compile_source
from chainnode.contract.frame import Frame
from chainnode.contract.testing import Deployed, Outcome, Reverted, deploy, load_contract, member

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
PEOPLE = [member(f"person {number}") for number in range(5)]
ISSUER = member("issuer", role="admin")


def shipped(name: str) -> ModuleType:
    return load_contract(CONTRACTS / name)


class TwoBackends(HintedBackend):
    """CPython with templates checked; each call again on the executor, by its access hash."""

    def __init__(self, contract: Any) -> None:
        super().__init__(contract)
        self.machine = ExecutorBackend(contract)
        self.compared = 0

    def run(self, frame: Frame, kind: str, method: str, args: bytes) -> Outcome:
        if kind != "call":
            return super().run(frame, kind, method, args)
        committed, fresh = dict(frame.committed), dict(frame.writes)
        before = EXACT[method]
        outcome = super().run(frame, kind, method, args)
        again = Frame(
            frame.caller, frame.contract, frame.chain_id, frame.tx_id, frame.height,
            frame.time_ms, committed, fresh,
        )  # fmt: skip
        assert self.machine.run(again, kind, method, args).ok == outcome.ok
        if EXACT[method] > before:
            receipt = types_pb2.Receipt.FromString(self.machine.receipts[-1])
            assert receipt.access_hash == self.foretold(frame, method, args)
            self.compared += 1
        return outcome

    def foretold(self, frame: Frame, method: str, args: bytes) -> bytes:
        """The access hash of docs/spec/contract-vm.md over the predicted keys."""
        found = self.templates.predict(self.name, method, args, sender=bytes(frame.caller.address))
        assert found is not None and not found[3] and not found[4]
        prefix = b"\x04" + bytes([len(self.name)]) + self.name.encode()
        reads, writes, adds = (sorted(keys) for keys in found[:3])
        digest = hashlib.sha256(b"chainnode/access/v1" + len(reads).to_bytes(4, "big"))
        for key in reads:
            digest.update(counted(key))
        digest.update(bytes(4) + (len(writes) + len(adds)).to_bytes(4, "big"))
        for key in sorted(writes + adds):
            new = frame.writes[key.removeprefix(prefix)]
            old = frame.committed.get(key.removeprefix(prefix), b"")
            if new is None:
                digest.update(counted(key) + b"\0")
            elif key in adds:
                delta = int.from_bytes(new, "big") - int.from_bytes(old, "big")
                form = {8: b"\x08", 16: b"\xf0"}[len(new)]
                digest.update(counted(key) + b"\2" + form + delta.to_bytes(16, "big"))
            else:
                digest.update(counted(key) + b"\1" + counted(new))
        return digest.digest()


def counted(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def attempt(contract: Deployed, method: str, sender: Any, **arguments: Any) -> None:
    """A call that may fail; the backend checks it either way."""
    with contextlib.suppress(Reverted):
        contract.call(method, sender=sender, **arguments)


@pytest.mark.parametrize("seed", range(3))
def test_random_asset_calls_touch_what_was_foretold(seed: int) -> None:
    draw = random.Random(seed)
    contract = deploy(
        shipped("asset").Asset, sender=ISSUER, backend=TwoBackends, name="x", decimals=2
    )
    for _ in range(60):
        source, to, sender = draw.choices(PEOPLE, k=3)
        amount = draw.randrange(100)
        match draw.randrange(4):
            case 0:
                attempt(contract, "issue", ISSUER, to=to.address, amount=amount)
            case 1:
                attempt(contract, "transfer", sender, to=to.address, amount=amount)
            case 2:
                attempt(contract, "approve", source, spender=sender.address, amount=amount)
            case _:
                arguments = {"source": source.address, "to": to.address, "amount": amount // 4}
                attempt(contract, "transfer_from", sender, **arguments)
    assert isinstance(contract.backend, TwoBackends)
    assert contract.backend.compared > 20


def test_random_evidence_calls_touch_what_was_foretold() -> None:
    draw = random.Random(7)
    contract = deploy(shipped("evidence").Evidence, sender=ISSUER, backend=TwoBackends)
    for _ in range(40):
        digest = hashlib.sha256(bytes([draw.randrange(25)])).digest()
        attempt(contract, "put", draw.choice(PEOPLE), digest=digest, metadata="text")
    assert isinstance(contract.backend, TwoBackends)
    assert contract.backend.compared > 10


SAMPLE = """
from dataclasses import dataclass

from chainnode.contract import (
    Address, Bytes32, Contract, Counter, Map, call, ctx, i64, sha256, u8, u64, u128,
)

PREFIX = "fixed"


@dataclass(frozen=True)
class Inner:
    text: str
    level: i64


@dataclass(frozen=True)
class Outer:
    items: list[u8]
    inner: Inner


class Sample(Contract):
    keyed: Map[tuple[str, int, i64, u128, bool, bytes], u64]
    texts: Map[tuple[str, str], u64]
    numbers: Map[u64, u64]
    raw: Map[bytes, u64]
    hits: Counter

    @call
    def every_type(
        self, outer: Outer, number: int, wide: u128, flag: bool, data: bytes, digest: Bytes32
    ) -> None:
        self.keyed[(outer.inner.text, number, outer.inner.level, wide, flag, data)] = 1
        self.raw[digest] = 1
        self.texts[(PREFIX, ctx.sender_name)] = 1
        self.numbers[ctx.height] = 1

    @call
    def computed(self, text: str, number: u64) -> None:
        self.raw[sha256(text.encode())] = 1
        self.texts[(text, str(number))] = 1
        key = number
        if number > 5:
            key = number + 1
        self.numbers[key] = 1

    @call
    def looped(self, first: u64, count: u8) -> None:
        at = first
        for step in range(count):
            self.numbers[at] = step
            at += 1

    @call
    def recursive(self, number: u64) -> None:
        self._down(number)

    @call
    def helped(self, number: u64) -> None:
        key = self._pair(number)
        self.texts[key] = 1
        self.hits.add(1)

    def _down(self, number: u64) -> None:
        self.numbers[number] = 1
        if number > 0:
            self._down(number - 1)

    def _pair(self, number: u64) -> tuple[str, str]:
        if number in self.numbers:
            return ("a", ctx.sender_org)
        return ("a", ctx.sender_org)
"""


@pytest.fixture
def sample(tmp_path: Path) -> Deployed:
    path = tmp_path / "sample.py"
    path.write_text(SAMPLE)
    sys.modules.pop("templates_sample", None)
    return deploy(load_contract(path).Sample, sender=PEOPLE[0], backend=HintedBackend)


@pytest.mark.parametrize("seed", range(20))
def test_keys_of_every_type_are_those_the_contract_uses(sample: Deployed, seed: int) -> None:
    draw = random.Random(seed)
    before = EXACT["every_type"]
    text = "".join(draw.choices("a\0ü€", k=draw.randrange(6)))
    level = draw.choice([-(2**63), -1, 0, 1, 2**63 - 1])
    sample.call(
        "every_type",
        outer={"items": [1] * draw.randrange(4), "inner": {"text": text, "level": level}},
        number=draw.choice([-(2**127), -1, 0, 5, 2**127 - 1]),
        wide=draw.choice([0, 1, 2**127 - 1]),
        flag=draw.random() < 0.5,
        data=draw.randbytes(draw.randrange(5)) + b"\0" * draw.randrange(3),
        digest=draw.randbytes(32),
    )
    assert EXACT["every_type"] == before + 1


def test_what_cannot_be_known_is_a_beginning_or_the_whole_field(sample: Deployed) -> None:
    sample.call("computed", text="x", number=9)
    sample.call("looped", first=3, count=4)
    sample.call("recursive", number=2)
    access = {entry["method"]: entry for entry in section(SAMPLE)}
    unknown = {"unknown": True}
    text = {"argument": 0, "path": [], "as": "str"}
    assert access["computed"]["writes"] == [
        {"storage": 4, "key": [unknown]},
        {"storage": 2, "key": [text, unknown]},
        {"storage": 3, "key": [unknown]},
    ]
    assert access["looped"]["writes"] == [{"storage": 3, "key": [unknown]}]
    assert [key["storage"] for key in access["recursive"]["writes"]] == [1, 2, 3, 4, 5]


def test_own_methods_are_followed_with_their_arguments(sample: Deployed) -> None:
    before = EXACT["helped"]
    sample.call("helped", number=4)
    assert EXACT["helped"] == before + 1
    (found,) = (entry for entry in section(SAMPLE) if entry["method"] == "helped")
    number = {"argument": 0, "path": [], "as": "u64"}
    assert found["reads"] == [{"storage": 3, "key": [number]}]
    organisation = {"context": "sender_org", "as": "str"}
    constant = {"constant": b"a\0\0".hex()}
    assert found["writes"] == [{"storage": 2, "key": [constant, organisation]}]
    assert found["adds"] == [{"storage": 5, "key": []}]


def section(source: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(compile_source(source).abi)["access"]
    return found


def test_the_section_is_the_same_bytes_every_time() -> None:
    for path in sorted(CONTRACTS.glob("*/contract.py")):
        made = json.loads(compile_path(path).abi)
        assert made == json.loads(compile_path(path.parent).abi)
        calls = [method["name"] for method in made["methods"] if method["kind"] == "call"]
        assert [entry["method"] for entry in made["access"]] == calls


def test_arguments_that_do_not_fit_are_not_predicted() -> None:
    abi = compile_path(CONTRACTS / "asset").abi
    templates, sender = _native.AccessTemplates(abi), bytes(range(32))
    args = bytes(32) + (5).to_bytes(8, "big")
    found = templates.predict("asset", "transfer", args, sender=sender)
    key = b"\x04\x05asset\x04"
    assert found == ([key + sender], [key + sender], [key + bytes(32)], [], [])
    assert templates.predict("asset", "transfer", args[:-1], sender=sender) is None
    assert templates.predict("asset", "transfer", args + b"\0", sender=sender) is None
    assert templates.predict("asset", "transfer", args, sender=b"short") is None
    assert templates.predict("asset", "unknown", args, sender=sender) is None
    assert templates.predict("asset", "balance_of", bytes(32), sender=sender) is None


@pytest.mark.parametrize(
    "abi",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"types":{"structs":[]},"methods":[{"name":"m","args":[{"type":"list[none]"}]}],'
        b'"access":[{"method":"m","reads":[],"writes":[],"adds":[]}]}',
        b'{"types":{"structs":[{"name":"S","fields":[{"type":"S"}]}]},"methods":[],"access":[]}',
        b'{"types":{"structs":[]},"methods":[{"name":"m","args":[{"type":"'
        + b"list[" * 5000
        + b'"}]}],"access":[{"method":"m","reads":[],"writes":[],"adds":[]}]}',
        b'{"types":{"structs":[]},"methods":[{"name":"m","args":[]}],"access":[{"method":"m",'
        b'"reads":[{"storage":1,"key":[{"argument":7,"path":[9],"as":"u8"}]}],"writes":[],'
        b'"adds":[]}]}',
    ],
)
def test_a_hostile_abi_predicts_nothing(abi: bytes) -> None:
    args = (2**32 - 1).to_bytes(4, "big")
    assert _native.AccessTemplates(abi).predict("c", "m", args, sender=bytes(32)) is None
