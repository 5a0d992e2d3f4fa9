"""Private points that cannot be computed on end a score query and name who registered the model."""

import asyncio
import hashlib
from collections.abc import Callable

import msgspec
import pytest
from consortium import DEEP_SCHEMA, IDS, MODEL, OWNERS, ROWS, Consortium
from local_chain import LocalChain

from chainnode import _native
from chainnode.he.private_points import PrivateScorecard
from chainnode.he.profiles import PROFILES
from chainnode.sdk.bank import BankClient, InputFault
from chainnode.sdk.bank_keys import BankKeys
from chainnode.sdk.scoring import REFUSED, make_plan, read_query, read_table
from chainnode.testing.he_council import joint_keys
from chainnode.types.errors import ClientFault, PeerFault

SECRET = b"s" * 32
CARD = msgspec.structs.replace(MODEL, name="hidden", schema_hash=DEEP_SCHEMA.hash().hex())
BANK = "bank-a"
PLACE = 2
"""Of the ciphertext that is spoilt: the offset is at 0."""

UNREADABLE = b'\xff{,"name":"hidden",'
"""What the contract takes for a record of that name, and nobody else for any."""

Lie = Callable[[bytes], bytes]


def truncated(blob: bytes) -> bytes:
    return blob[:-8]


def too_long(blob: bytes) -> bytes:
    return blob + bytes(8)


def empty(blob: bytes) -> bytes:
    return b""


def outside_the_ring(blob: bytes) -> bytes:
    return b"\xff" * len(blob)


def of_another_profile(blob: bytes) -> bytes:
    other = PROFILES["S36"]
    key, _ = joint_keys(other.name, b"common", [_native.HeSecretKey.generate(other.name)])
    return _native.he_encrypt(other.name, key, bytes(8 * other.slots), b"\x02" * 32, other.limbs)


async def registered(
    made: Consortium, lie: Lie | None = None, *, upload: bool = True, first: str = BANK
) -> PrivateScorecard:
    """A model with one ciphertext in other bytes, approved by all; `first` registers it.

    Owners' clients look before they approve, so these are clients of their own."""
    record = await spoilt(made, lie, upload=upload)
    for owner in (first, *(name for name in OWNERS if name != first)):
        await approve(made, owner, record)
    return record


async def spoilt(
    made: Consortium, lie: Lie | None = None, *, upload: bool = True
) -> PrivateScorecard:
    """A record of points with one ciphertext in other bytes."""
    record = await made.bank.encrypt_model("firms", CARD, SECRET)
    if lie is not None:
        blob = lie(made.ledger.blobs[bytes.fromhex(record.points[PLACE])])
        points = list(record.points)
        points[PLACE] = hashlib.sha256(blob).hexdigest()
        record = msgspec.structs.replace(record, points=tuple(points))
        if upload:
            await made.bank.chain.put_blob(blob)
    return record


async def approve(made: Consortium, owner: str, record: PrivateScorecard) -> None:
    """Approve without looking."""
    call = made.client(owner).chain.call
    await call("approve_model", table="firms", name=record.name, model=record.encode())


async def refused(made: Consortium, client: BankClient, guilty: str = BANK) -> InputFault:
    """The typed refusal of a score query, found on chain as well."""
    with pytest.raises(InputFault) as raised:
        await client.score("firms", "hidden")
    fault, query = raised.value, client.last_query
    facts = await read_query(client.chain, query)
    assert (facts.status, facts.ending) == (REFUSED, "input refused")
    assert (fault.owner, fault.profile, fault.column) == (guilty, "M", "hidden")
    assert guilty in fault.message and guilty in fault.fix
    steps = await client.audit_trail(query)
    faults = {(step.organisation, step.detail) for step in steps if step.step == "fault"}
    assert faults == {(guilty, f"{fault.code}, shown by the members that refused")}
    refusers = {step.organisation for step in steps if step.step == "input refused by a member"}
    assert len(refusers) == 2
    # Nothing was opened, and the question counts.
    assert not {"share commit", "share", "released"} & {step.step for step in steps}
    assert await client.chain.view("budget", table="firms", bank=facts.bank) == (5, 1)
    return fault


@pytest.mark.timeout(180)
@pytest.mark.parametrize("lie", [truncated, too_long, empty, outside_the_ring, of_another_profile])
async def test_points_of_the_wrong_form_end_the_query_and_name_the_bank(
    deep: Consortium, lie: Lie
) -> None:
    record = await registered(deep, lie)
    fault = await refused(deep, deep.bank)
    assert (fault.code, fault.block) == ("PRIVATE_POINTS_MALFORMED", PLACE)
    assert fault.root == hashlib.sha256(record.encode()).digest()
    assert "under another name" in fault.fix


@pytest.mark.timeout(180)
async def test_points_that_nobody_has_end_the_query_and_can_be_given_again(
    deep: Consortium,
) -> None:
    record = await registered(deep)
    gone = bytes.fromhex(record.points[PLACE])
    kept = deep.ledger.blobs.pop(gone)
    fault = await refused(deep, deep.bank)
    assert (fault.code, fault.block) == ("PRIVATE_POINTS_MISSING", PLACE)
    assert "the same secret" in fault.fix
    assert await deep.bank.encrypt_model("firms", CARD, SECRET) == record
    assert deep.ledger.blobs[gone] == kept
    assert len(await deep.bank.score("firms", "hidden")) == 40


@pytest.mark.timeout(180)
async def test_points_whose_bytes_do_not_have_their_hash_are_missing(deep: Consortium) -> None:
    """A malformed one is looked for first: it shows wherever a missing one does."""
    record = await registered(deep)
    deep.ledger.blobs[bytes.fromhex(record.points[PLACE])] = b"other bytes"
    fault = await refused(deep, deep.bank)
    assert (fault.code, fault.block) == ("PRIVATE_POINTS_MISSING", PLACE)


@pytest.mark.timeout(180)
async def test_a_malformed_ciphertext_counts_before_a_missing_one(deep: Consortium) -> None:
    record = await registered(deep, truncated)
    del deep.ledger.blobs[bytes.fromhex(record.points[0])]
    fault = await refused(deep, deep.bank)
    assert (fault.code, fault.block) == ("PRIVATE_POINTS_MALFORMED", PLACE)


@pytest.mark.timeout(180)
async def test_who_registered_the_model_is_named_and_not_the_bank_that_asks(
    deep: Consortium,
) -> None:
    await registered(deep, truncated, first="statistics")
    keys = BankKeys(deep.folder / "registry" / "client", b"another bank's")
    chain = LocalChain(deep.ledger, "client", "registry", "client")
    other = BankClient(chain, "registry", keys, timeout_s=40)
    for owner in OWNERS:
        await deep.client(owner).grant("firms", "registry", 5)
    await refused(deep, other, guilty="statistics")


@pytest.mark.timeout(180)
async def test_a_worker_that_lies_about_points_is_named_and_the_scores_are_exact(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(deep)
    liar = deep.workers["guarantor"]
    honest = liar._points.__globals__["fetch_points"]

    async def lie(chain: object, table: str, record: PrivateScorecard) -> object:
        if chain is liar.chain:
            model = hashlib.sha256(record.encode()).digest()
            raise InputFault("PRIVATE_POINTS_MALFORMED", BANK, "M", model, "hidden", 1)
        return await honest(chain, table, record)

    monkeypatch.setattr("chainnode.worker.worker.fetch_points", lie)
    deep.keyholders["guarantor"]._recompute = deep.workers["registry"].recompute
    assert len(await deep.bank.score("firms", "hidden")) == 40
    faults = await deep.took("fault")
    assert ("guarantor", "refused input without cause, shown by contract") in faults
    assert BANK not in {name for name, _ in faults}


@pytest.mark.timeout(180)
async def test_others_look_for_themselves_when_one_of_a_chunks_two_workers_is_gone(
    deep: Consortium,
) -> None:
    await registered(deep, truncated)
    for name in ("guarantor", "registry"):
        deep.tasks[len(deep.keyholders) + list(deep.workers).index(name)].cancel()
    with pytest.raises(InputFault, match="PRIVATE_POINTS_MALFORMED"):
        await deep.bank.score("firms", "hidden")
    refusers = await deep.refusers()
    assert refusers == {BANK, "statistics"}


@pytest.mark.timeout(180)
async def test_a_node_that_is_silent_about_points_is_no_fault_of_the_bank(
    deep: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await registered(deep)
    wanted, silences = bytes.fromhex(record.points[PLACE]), []
    honest = deep.workers[BANK].chain.get_blob

    async def silent(digest: bytes) -> bytes:
        if digest == wanted and len(silences) < 2:
            silences.append(digest)
            raise PeerFault("NODES_UNREACHABLE", "no answer", subject=digest.hex())
        return await honest(digest)

    monkeypatch.setattr(deep.workers[BANK].chain, "get_blob", silent)
    assert len(await deep.bank.score("firms", "hidden")) == 40
    assert silences
    steps = await deep.bank.audit_trail(deep.bank.last_query)
    assert not [step for step in steps if step.step == "input refused by a member"]


async def test_an_unreadable_record_is_no_model_and_stops_no_other_query(
    consortium: Consortium,
) -> None:
    for owner in OWNERS:
        client = consortium.client(owner)
        await client.set_consent("firms", BANK, IDS[:20])
        await client.chain.call("approve_model", table="firms", name="hidden", model=UNREADABLE)
    bank = consortium.bank
    rows = await asyncio.wait_for(bank.query("firms", "SELECT COUNT(*) FROM firms"), 30)
    assert [row.values for row in rows] == [(ROWS,)]
    assert len(await asyncio.wait_for(bank.score("firms", MODEL.name), 30)) == 20
    with pytest.raises(ClientFault, match="no such model"):
        await bank.score("firms", "hidden")


async def test_a_query_of_an_unreadable_record_is_refused_at_once_with_the_reason(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed client asks all the same: every keyholder refuses what it cannot plan."""
    bank = consortium.bank
    for owner in OWNERS:
        call = consortium.client(owner).chain.call
        await call("approve_model", table="firms", name="hidden", model=UNREADABLE)
    facts = await read_table(bank.chain, "firms", 1, BANK)
    other = make_plan(facts, f"SELECT CREDIT_SCORE('{MODEL.name}') FROM firms")
    honest = bank.chain.call

    async def lying(method: str, **kwargs: object) -> object:
        return await honest(method, **kwargs | {"sql": other.sql.replace(MODEL.name, "hidden")})

    monkeypatch.setattr(bank.chain, "call", lying)
    with pytest.raises(PeerFault, match=r"QUERY_REFUSED.*SQL_UNSUPPORTED.*no such model"):
        await bank.score("firms", MODEL.name)


def test_codes_of_points_are_typed_errors() -> None:
    fault = InputFault("PRIVATE_POINTS_MALFORMED", BANK, "M", bytes(32), "hidden", 2)
    assert "ciphertext 2 of model hidden" in str(fault) and str(fault).count(BANK) >= 2
    assert InputFault.stated(fault.evidence()).evidence() == fault.evidence()
