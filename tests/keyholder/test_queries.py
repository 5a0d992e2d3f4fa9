"""Encrypted queries end to end, in one process, on the real contract, engine and proofs."""

import msgspec
import pytest
from consortium import IDS, MODEL, OWNERS, ROWS, SECTOR, TURNOVER, Consortium, build, plain_score
from local_chain import ORGANISATIONS

from chainnode.he.council import PieceSecret
from chainnode.he.threshold import Sharing
from chainnode.keyholder.keyholder import Keyholder
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.worker.worker import Job


async def test_sums_and_counts_equal_the_plaintext(fresh_consortium: Consortium) -> None:
    consortium = fresh_consortium
    sql = "SELECT COUNT(*), SUM(turnover) FROM firms WHERE sector = 'trade'"
    rows = await consortium.bank.query("firms", sql)
    expected = [int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == "trade"]
    assert [row.values for row in rows] == [(len(expected), sum(expected))]
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    assert [steps[0].step, steps[-1].step, steps[-1].detail] == ["submitted", "ended", "answered"]
    assert {"finalised", "counts", "group check", "approved", "share", "released"} <= {
        step.step for step in steps
    }
    assert all(len(step.tx_id) == 32 and step.height > 0 for step in steps)


async def test_the_same_question_asked_again_gets_the_same_answer(consortium: Consortium) -> None:
    # The result has the same bytes, and so has every share of it.
    for _ in range(2):
        rows = await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms")
        assert [row.values for row in rows] == [(ROWS,)]
        steps = await consortium.bank.audit_trail(consortium.bank.last_query)
        assert "fault" not in {step.step for step in steps}


async def test_scores_reach_the_bank_for_consenting_enterprises_only(
    consortium: Consortium,
) -> None:
    for owner in ("bank-a", "registry", "statistics"):
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:40])
    scores = await consortium.bank.score("firms", MODEL.name, [IDS[3], IDS[17], IDS[50]])
    assert scores == {IDS[3]: plain_score(3), IDS[17]: plain_score(17)}
    bands = "SELECT SCORE_BAND('m1', 480, 520) AS band, COUNT(*) FROM firms GROUP BY band"
    rows = await consortium.bank.query("firms", bands)
    plain = [plain_score(row) for row in range(40)]
    counts = [
        ("..<480", sum(score < 480 for score in plain)),
        ("480..<520", sum(480 <= score < 520 for score in plain)),
        ("520..", sum(score >= 520 for score in plain)),
    ]
    assert [row.values for row in rows] == [item for item in counts if item[1]]


async def test_two_models_are_scored_by_one_query(consortium: Consortium) -> None:
    flat = msgspec.structs.replace(MODEL, name="flat", offset=7, features=MODEL.features[:1])
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:40])
        await consortium.client(owner).approve_model("firms", flat)
    scores = await consortium.bank.score_models("firms", [MODEL.name, "flat"])
    by_sector = {"farming": 19, "trade": 0}
    assert scores == {
        MODEL.name: {IDS[row]: plain_score(row) for row in range(40)},
        "flat": {IDS[row]: by_sector[str(SECTOR[row])] for row in range(40)},
    }
    assert await consortium.bank.chain.view("budget", table="firms", bank="bank-a") == (5, 1)


async def test_a_small_group_is_refused_and_costs_budget(consortium: Consortium) -> None:
    sql = "SELECT COUNT(*) FROM firms WHERE overdue >= 4 AND sector = 'trade'"
    with pytest.raises(ClientFault) as refused:
        await consortium.bank.query("firms", sql)
    assert refused.value.code == "GROUP_TOO_SMALL"
    assert await consortium.bank.chain.view("budget", table="firms", bank="bank-a") == (5, 1)


async def test_two_questions_a_few_rows_apart_are_refused(consortium: Consortium) -> None:
    # Of 60 firms 54 have no more than 3 overdue or are in farming: 6 rows lie between.
    sql = "SELECT COUNT(*) FROM firms"
    await consortium.bank.query("firms", sql)
    near = f"{sql} WHERE overdue < 4 OR sector = 'farming'"
    with pytest.raises(ClientFault, match="GROUPS_TOO_CLOSE") as refused:
        await consortium.bank.query("firms", near)
    assert "fewer than 10 rows apart" in refused.value.message
    rows = await consortium.bank.query("firms", f"{sql} WHERE sector = 'farming'")
    assert rows[0].values[0] == ROWS // 2


async def test_a_member_that_was_late_learns_earlier_counts_and_does_not_refuse(
    consortium: Consortium,
) -> None:
    late = consortium.keyholders["statistics"]
    honest = late.advance_query

    async def away(query: bytes) -> bool:
        return True

    late.advance_query = away  # type: ignore[method-assign]
    await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms")
    first = consortium.bank.last_query
    late.advance_query = honest  # type: ignore[method-assign]
    assert late._store.counts_of(first) is None
    sql = "SELECT COUNT(*) FROM firms WHERE sector = 'farming'"
    rows = await consortium.bank.query("firms", sql)
    assert [row.values for row in rows] == [(ROWS // 2,)]
    assert [group.count for group in (await late._groups_of(first))[1]] == [ROWS]
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    assert "refused by a member" not in {step.step for step in steps}


async def test_no_secret_leaves_the_keyholders(consortium: Consortium) -> None:
    await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms")
    secret: list[bytes] = []
    for holder in consortium.keyholders.values():
        store = holder._store
        secret += [store.sealing_key.private_bytes_raw()]
        secret += [piece.flood_key for piece in (pieces_of(holder) or {}).values()]
    seen = list(consortium.ledger.blobs.values())
    seen += list(consortium.ledger.deployed.storage.values())
    seen += [receipt.encode() for receipt in consortium.ledger.receipts]
    for name in consortium.workers:
        folder = consortium.folder / name / "worker"
        seen += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert len(seen) > 100
    assert not any(part in data for part in secret for data in seen)


def pieces_of(holder: Keyholder) -> dict[int, PieceSecret]:
    held = Sharing.of(ORGANISATIONS, 3).held_by(holder.organisation)
    found = holder._store.pieces(1, held)
    assert found is not None and len(found) == 3
    return found


async def test_keyholders_whose_workers_disagree_refuse(consortium: Consortium) -> None:
    async def other(query: bytes, index: int, plan: bytes) -> bytes:
        return bytes(32)

    consortium.keyholders["statistics"]._recompute = other
    rows = await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms")
    assert [row.values for row in rows] == [(ROWS,)]
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    assert ("refused by a member", "statistics") in {(s.step, s.organisation) for s in steps}
    consortium.keyholders["registry"]._recompute = other
    with pytest.raises(PeerFault, match="worker computed another result"):
        await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms")


async def test_a_worker_that_lies_is_outvoted(consortium: Consortium) -> None:
    # Chunk 0 belongs to bank-a and guarantor; registry is its reserve.
    liar = consortium.workers["guarantor"]
    honest = liar._chunk

    async def lie(job: Job, index: int) -> bytes:
        return (await honest(job, index))[:-8] + bytes(8)

    liar._chunk = lie  # type: ignore[method-assign]
    liar.recompute = consortium.workers["bank-a"].recompute  # type: ignore[method-assign]
    consortium.keyholders["guarantor"]._recompute = consortium.workers["bank-a"].recompute
    rows = await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms")
    assert [row.values for row in rows] == [(ROWS,)]
    steps = await consortium.bank.audit_trail(consortium.bank.last_query)
    assert "reserve: results differ" in {step.step for step in steps}
    faults = [(step.organisation, step.detail) for step in steps if step.step == "fault"]
    assert faults == [("guarantor", "worker gave a wrong result, shown by contract")]


async def test_a_spent_budget_and_an_unknown_id_are_typed_errors(consortium: Consortium) -> None:
    with pytest.raises(ClientFault, match="ID_UNKNOWN"):
        await consortium.bank.score("firms", MODEL.name, ["nobody"])
    for owner in OWNERS:
        await consortium.client(owner).grant("firms", "bank-a", 0)
    with pytest.raises(ClientFault, match="BUDGET_EXCEEDED"):
        await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms")
    with pytest.raises(ClientFault, match="SQL_UNSUPPORTED"):
        await consortium.bank.query("firms", "SELECT turnover FROM firms")


async def test_restarted_processes_answer_with_their_stored_keys(consortium: Consortium) -> None:
    await consortium.stop()
    again = build(consortium.ledger, consortium.folder)
    try:
        rows = await again.bank.query("firms", "SELECT COUNT(*) FROM firms")
        assert [row.values for row in rows] == [(ROWS,)]
    finally:
        await again.stop()
