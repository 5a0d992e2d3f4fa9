"""A consent that cannot be read ends a score query at once and names the owner that stated it."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from consortium import IDS, MODEL, OWNERS, ROWS, Consortium
from local_chain import LocalChain
from test_replay import passed, replayed

from chainnode.sdk.bank import InputFault
from chainnode.sdk.consents import pack_consent, score_mask
from chainnode.sdk.input_faults import GONE
from chainnode.sdk.scoring import REFUSED, TableFacts, read_ids, read_query, read_table
from chainnode.types.errors import PeerFault

GUILTY = "statistics"
WHOLE = pack_consent([True] * ROWS)


async def consented(made: Consortium, bitmap: bytes, *, upload: bool = True) -> bytes:
    """Consent of all owners, one of which states this blob by a client of its own."""
    for owner in OWNERS:
        await made.client(owner).set_consent("firms", "bank-a", IDS[:20])
    chain = LocalChain(made.ledger, "client", GUILTY, "client")
    digest = await chain.put_blob(bitmap)
    if not upload:
        del made.ledger.blobs[digest]
    word = {"bitmap": digest, "until_height": 0}
    purpose = "credit scoring"
    await chain.call("set_consent", table="firms", bank="bank-a", purpose=purpose, consent=word)
    return digest


async def refused(made: Consortium) -> InputFault:
    """The typed refusal of a score query, found on chain as well."""
    with pytest.raises(InputFault) as raised:
        await asyncio.wait_for(made.bank.score("firms", MODEL.name), 30)
    fault, query = raised.value, made.bank.last_query
    facts = await read_query(made.bank.chain, query)
    assert (facts.status, facts.ending) == (REFUSED, "input refused")
    assert (fault.owner, fault.profile, fault.column) == (GUILTY, "S", "")
    assert GUILTY in fault.message and f"{GUILTY} must state its consent again" in fault.fix
    faults = await made.took("fault")
    assert faults == {(GUILTY, f"{fault.code}, shown by the members that refused")}
    assert len(await made.refusers()) == 2
    return fault


@pytest.mark.parametrize(
    "bitmap",
    [b"", WHOLE[:-1], WHOLE + b"\x00", bytes(64) * 1000],
    ids=["empty", "short", "long", "huge"],
)
async def test_a_consent_of_the_wrong_size_names_its_owner_and_can_be_stated_again(
    consortium: Consortium, bitmap: bytes, tmp_path: Path
) -> None:
    digest = await consented(consortium, bitmap)
    fault = await refused(consortium)
    assert (fault.code, fault.root) == ("CONSENT_MALFORMED", digest)
    assert "not one bit for every row" in fault.message
    checks = passed(await replayed(consortium, tmp_path))
    (refusal,) = [check for check in checks if check.what == "refused input"]
    assert refusal.who == GUILTY
    assert f"{len(bitmap)} bytes, not 8 for {ROWS} rows" in refusal.detail
    await consortium.client(GUILTY).set_consent("firms", "bank-a", IDS[:20])
    assert len(await consortium.bank.score("firms", MODEL.name)) == 20


@pytest.mark.parametrize("other", [None, b"other bytes"], ids=["none", "damaged"])
async def test_a_consent_that_no_node_has_names_its_owner(
    consortium: Consortium, other: bytes | None
) -> None:
    digest = await consented(consortium, WHOLE, upload=False)
    if other is not None:
        consortium.ledger.blobs[digest] = other
    fault = await refused(consortium)
    assert (fault.code, fault.root) == ("CONSENT_MISSING", digest)
    assert fault.code in GONE


async def test_a_malformed_consent_counts_before_a_missing_one(consortium: Consortium) -> None:
    await consented(consortium, WHOLE[:-1])
    first = await consortium.bank.chain.view(
        "consent", table="firms", bank="bank-a", owner=OWNERS[0], purpose="credit scoring"
    )
    del consortium.ledger.blobs[first["bitmap"]]
    assert (await refused(consortium)).code == "CONSENT_MALFORMED"


async def test_bits_after_the_last_row_change_nothing(consortium: Consortium) -> None:
    tail = bytes([*WHOLE[:-1], 0xFF])
    assert tail != WHOLE
    await consented(consortium, tail)
    assert len(await consortium.bank.score("firms", MODEL.name)) == 20


async def test_a_worker_that_lies_about_a_consent_is_named_and_the_scores_are_exact(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await consented(consortium, WHOLE)
    liar = consortium.workers["guarantor"]

    async def lie(chain: Any, *rest: Any) -> list[bytes]:
        if chain is liar.chain:
            raise InputFault("CONSENT_MALFORMED", GUILTY, "S", digest)
        return await score_mask(chain, *rest)

    monkeypatch.setattr("chainnode.worker.worker.score_mask", lie)
    consortium.keyholders["guarantor"]._recompute = consortium.workers["registry"].recompute
    assert len(await consortium.bank.score("firms", MODEL.name)) == 20
    faults = await consortium.faults()
    assert ("guarantor", "refused input without cause") in faults
    assert GUILTY not in {name for name, _ in faults}


async def test_an_owner_without_a_word_hides_all_rows_and_no_other_consent_is_read(
    consortium: Consortium,
) -> None:
    await consented(consortium, WHOLE[:-1])
    nothing = {"bitmap": bytes(32), "until_height": 0}
    chain = LocalChain(consortium.ledger, "client", "registry", "client")
    purpose = "credit scoring"
    await chain.call("set_consent", table="firms", bank="bank-a", purpose=purpose, consent=nothing)
    assert await consortium.bank.score("firms", MODEL.name) == {}


async def test_a_registry_that_is_no_text_is_a_typed_fault(consortium: Consortium) -> None:
    """It stopped every worker's process."""
    chain = consortium.bank.chain
    facts: TableFacts = await read_table(chain, "firms", 1)
    digest = await chain.put_blob(b"\xff" * 40)
    with pytest.raises(PeerFault, match="REGISTRY_MALFORMED"):
        await read_ids(chain, dataclasses.replace(facts, registry=digest))
