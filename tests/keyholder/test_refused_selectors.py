"""Selectors that cannot be computed on end a private question, and the refusal names the bank."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest
from consortium import ROWS, SECTOR, TURNOVER, Consortium

from chainnode import _native
from chainnode.he import private_constants
from chainnode.he.private_constants import SelectorRecord
from chainnode.he.profiles import PROFILES
from chainnode.sdk.bank import InputFault
from chainnode.sdk.scoring import REFUSED, read_query
from chainnode.types.errors import ChainnodeError, PeerFault

TRADE = "SELECT COUNT(*), SUM(turnover) FROM firms WHERE sector = PRIVATE(mine)"
BANK = "bank-a"


@dataclass(frozen=True)
class RawRecord:
    """Bytes in the place of a record."""

    data: bytes

    def encode(self) -> bytes:
        return self.data

    def hash(self) -> bytes:
        return hashlib.sha256(self.data).digest()


Made = tuple[SelectorRecord, list[bytes]]
Lie = Callable[[SelectorRecord, list[bytes]], tuple[SelectorRecord | RawRecord, list[bytes]]]


def replaced(record: SelectorRecord, blobs: list[bytes], blob: bytes) -> Made:
    """The second selector in other bytes."""
    digests = (record.selectors[0], hashlib.sha256(blob).hexdigest())
    return msgspec.structs.replace(record, selectors=digests), [blobs[0], blob]


def truncated(record: SelectorRecord, blobs: list[bytes]) -> Made:
    return replaced(record, blobs, blobs[1][:-8])


def too_long(record: SelectorRecord, blobs: list[bytes]) -> Made:
    return replaced(record, blobs, blobs[1] + bytes(8))


def empty(record: SelectorRecord, blobs: list[bytes]) -> Made:
    return replaced(record, blobs, b"")


def outside_the_ring(record: SelectorRecord, blobs: list[bytes]) -> Made:
    return replaced(record, blobs, b"\xff" * len(blobs[1]))


def of_another_profile(record: SelectorRecord, blobs: list[bytes]) -> Made:
    other = PROFILES["S36"]
    key = _native.HeSecretKey.generate(other.name).public_key()
    slots, seed = bytes(8 * other.slots), b"\x02" * 32
    return replaced(record, blobs, _native.he_encrypt(other.name, key, slots, seed, other.limbs))


def too_few(record: SelectorRecord, blobs: list[bytes]) -> Made:
    return msgspec.structs.replace(record, selectors=record.selectors[:1]), blobs


def for_another_column(record: SelectorRecord, blobs: list[bytes]) -> Made:
    return msgspec.structs.replace(record, column="overdue"), blobs


def of_no_hashes(record: SelectorRecord, blobs: list[bytes]) -> Made:
    return msgspec.structs.replace(record, selectors=("no hash", "zz" * 32)), blobs


def no_record(record: SelectorRecord, blobs: list[bytes]) -> tuple[RawRecord, list[bytes]]:
    return RawRecord(b"{}"), blobs


def never_uploaded(record: SelectorRecord, blobs: list[bytes]) -> Made:
    return replaced(record, blobs, b"kept back")[0], blobs[:1]


def ask_with(monkeypatch: pytest.MonkeyPatch, lie: Lie) -> None:
    """Have the bank's client submit another record and other blobs than it made."""
    honest = private_constants.encrypt_selectors

    def lying(*arguments: object) -> object:
        return lie(*honest(*arguments))  # type: ignore[arg-type]

    monkeypatch.setattr("chainnode.sdk.private_constants.encrypt_selectors", lying)


async def refused(made: Consortium) -> InputFault:
    """The typed refusal of a private question, found on chain as well."""
    with pytest.raises(InputFault) as raised:
        await made.bank.query("firms", TRADE, {"mine": "trade"})
    fault, query = raised.value, made.bank.last_query
    facts = await read_query(made.bank.chain, query)
    assert (facts.status, facts.ending) == (REFUSED, "input refused")
    assert (fault.owner, fault.profile, fault.root) == (BANK, "M", facts.plan_hash)
    assert BANK in fault.message and BANK in fault.fix
    steps = await made.bank.audit_trail(query)
    faults = {(step.organisation, step.detail) for step in steps if step.step == "fault"}
    assert faults == {(BANK, f"{fault.code}, shown by the members that refused")}
    refusers = {step.organisation for step in steps if step.step == "input refused by a member"}
    assert len(refusers) == 2
    # Nothing was opened, and the question counts.
    assert not {"counts", "share", "released"} & {step.step for step in steps}
    assert await made.bank.chain.view("budget", table="firms", bank=BANK) == (5, 1)
    return fault


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("lie", "code", "column"),
    [
        (truncated, "SELECTORS_MALFORMED", "sector"),
        (too_long, "SELECTORS_MALFORMED", "sector"),
        (empty, "SELECTORS_MALFORMED", "sector"),
        (outside_the_ring, "SELECTORS_MALFORMED", "sector"),
        (of_another_profile, "SELECTORS_MALFORMED", "sector"),
        (too_few, "SELECTORS_MALFORMED", ""),
        (for_another_column, "SELECTORS_MALFORMED", ""),
        (of_no_hashes, "SELECTORS_MALFORMED", ""),
        (no_record, "SELECTORS_MALFORMED", ""),
        (never_uploaded, "SELECTORS_MISSING", "sector"),
    ],
)
async def test_selectors_of_the_wrong_form_end_the_query_and_name_the_bank(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch, lie: Lie, code: str, column: str
) -> None:
    ask_with(monkeypatch, lie)
    fault = await refused(deep)
    assert (fault.code, fault.column, fault.block) == (code, column, 1 if column else 0)


@pytest.mark.timeout(180)
async def test_a_selector_whose_bytes_do_not_have_its_hash_is_missing(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes that give other bytes are not believed; what nobody has, the bank must give again."""

    def spoilt(record: SelectorRecord, blobs: list[bytes]) -> Made:
        deep.ledger.blobs[bytes.fromhex(record.selectors[1])] = blobs[1][:-1] + b"\x01"
        return record, blobs[:1]

    ask_with(monkeypatch, spoilt)
    fault = await refused(deep)
    assert (fault.code, fault.column, fault.block) == ("SELECTORS_MISSING", "sector", 1)


@pytest.mark.timeout(180)
async def test_a_record_that_no_node_has_is_missing_as_a_whole(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Unsent(RawRecord):
        def hash(self) -> bytes:
            return b"\x05" * 32

    ask_with(monkeypatch, lambda record, blobs: (Unsent(record.encode()), blobs))
    fault = await refused(deep)
    assert (fault.code, fault.column, fault.block) == ("SELECTORS_MISSING", "", 0)


@pytest.mark.timeout(180)
async def test_a_worker_that_lies_about_selectors_is_named_and_the_answer_is_exact(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sums of four chunks are added up by the first two of the council.
    made, liar = deep, deep.workers["guarantor"]

    async def lie(chain: object, plan: object, facts: object) -> object:
        if chain is liar.chain:
            binding = plan.hash()  # type: ignore[attr-defined]
            raise InputFault("SELECTORS_MALFORMED", BANK, "M", binding, "sector", 1)
        return await honest(chain, plan, facts)  # type: ignore[arg-type]

    honest = liar._reduce.__globals__["fetch_selectors"]
    monkeypatch.setattr("chainnode.worker.worker.fetch_selectors", lie)
    made.keyholders["guarantor"]._recompute = made.workers["registry"].recompute
    rows = await made.bank.query("firms", TRADE, {"mine": "trade"})
    chosen = [int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == "trade"]
    assert [row.values for row in rows] == [(len(chosen), sum(chosen))]
    faults = await made.took("fault")
    assert ("guarantor", "refused input without cause, shown by contract") in faults
    assert BANK not in {name for name, _ in faults}


@pytest.mark.timeout(180)
async def test_others_look_for_themselves_when_the_second_adder_is_the_banks_friend(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two that add up is gone: two others confirm what the first one found."""
    made = deep
    place = list(made.workers).index("guarantor")
    ask_with(monkeypatch, truncated)
    made.tasks[len(made.keyholders) + place].cancel()
    with pytest.raises(InputFault, match="SELECTORS_MALFORMED"):
        await made.bank.query("firms", TRADE, {"mine": "trade"})
    refusers = await made.refusers()
    assert "guarantor" not in refusers and len(refusers) == 2


@pytest.mark.timeout(180)
async def test_a_node_that_is_silent_about_a_selector_is_no_fault_of_the_bank(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may have the bytes did not answer: the worker asks again and says nothing."""
    honest, silences = deep.workers["bank-a"].chain.get_blob, []

    async def silent(digest: bytes) -> bytes:
        if digest in wanted and len(silences) < 2:
            silences.append(digest)
            raise PeerFault("NODES_UNREACHABLE", "no answer", subject=digest.hex())
        return await honest(digest)

    wanted: list[bytes] = []

    def kept(record: SelectorRecord, blobs: list[bytes]) -> Made:
        wanted.append(bytes.fromhex(record.selectors[1]))
        return record, blobs

    ask_with(monkeypatch, kept)
    monkeypatch.setattr(deep.workers["bank-a"].chain, "get_blob", silent)
    rows = await deep.bank.query("firms", TRADE, {"mine": "trade"})
    assert len(rows) == 1 and silences
    steps = await deep.bank.audit_trail(deep.bank.last_query)
    assert not [step for step in steps if step.step == "input refused by a member"]


def test_codes_of_selectors_are_typed_errors() -> None:
    fault = InputFault("SELECTORS_MALFORMED", BANK, "M", bytes(32), "sector", 2)
    assert isinstance(fault, ChainnodeError)
    assert str(fault).count(BANK) >= 2 and "selector 2 of column sector" in str(fault)
    assert InputFault.stated(fault.evidence()).evidence() == fault.evidence()
