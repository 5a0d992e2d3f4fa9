"""One test per way a council member can lie or fail: each ends typed, and names it on chain."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from consortium import (
    DEADLINE_S,
    HALF_DEADLINE_S,
    IDS,
    MODEL,
    OWNERS,
    ROWS,
    Clock,
    Consortium,
    build,
    plain_score,
)
from local_chain import LocalLedger

from chainnode.he import release, threshold
from chainnode.he.engine import pack_container
from chainnode.he.release import WrongShare
from chainnode.keyholder.keyholder import Keyholder
from chainnode.keyholder.shares import Case
from chainnode.sdk.scoring import read_digests
from chainnode.types.errors import PeerFault

COUNT = "SELECT COUNT(*) FROM firms"
SUM = "SELECT SUM(turnover) FROM firms"
LIAR = "guarantor"
DISPUTED = "disputed share"

Parts = dict[int, bytes]


@pytest.fixture
async def two_of_four(tmp_path: Path) -> AsyncIterator[Consortium]:
    made = build(LocalLedger(threshold=2), tmp_path)
    try:
        await made.active()
        await made.publish()
        yield made
    finally:
        await made.stop()


def lie_about_parts(keyholder: Keyholder, lie: Callable[[Parts], Parts]) -> None:
    honest = keyholder._parts

    async def lying(case: Case) -> Parts:
        return lie(dict(await honest(case)))

    keyholder._parts = lying  # type: ignore[method-assign]


def commit_to_another(consortium: Consortium) -> None:
    """A member that opens to another share than it committed to."""
    liar = consortium.keyholders[LIAR]
    honest = liar.attempt

    async def lying(method: str, **kwargs: Any) -> bool:
        if method == "share_commit":
            kwargs |= {"commitment": hashlib.sha256(b"anything").digest()}
        return await honest(method, **kwargs)

    liar.attempt = lying  # type: ignore[method-assign]


def lie_on_chain(keyholder: Keyholder, **changes: Any) -> None:
    honest = keyholder.attempt

    async def lying(method: str, **kwargs: Any) -> bool:
        if method == "share_post":
            kwargs |= changes
        return await honest(method, **kwargs)

    keyholder.attempt = lying  # type: ignore[method-assign]


def upload_slowly(keyholder: Keyholder) -> None:
    prompt = keyholder.chain.put_blob

    async def slow(blob: bytes) -> bytes:
        await asyncio.sleep(0.6)
        return await prompt(blob)

    keyholder.chain.put_blob = slow  # type: ignore[method-assign]


def shifted(part: bytes) -> bytes:
    """The smallest lie: the second value moves by one slot's worth, the noise stays as it was."""
    words = struct.unpack(f"<{len(part) // 8}Q", part)
    moved = [word + (place >= len(words) // 2) for place, word in enumerate(words)]
    return struct.pack(f"<{len(words)}Q", *moved)


def garbage(part: bytes) -> bytes:
    return (part[:8] * (len(part) // 8 + 1))[: len(part)]


@pytest.mark.parametrize("lie", [garbage, shifted])
async def test_a_wrong_share_names_the_liar_to_the_bank_and_on_chain(
    consortium: Consortium, lie: Callable[[bytes], bytes]
) -> None:
    liar = consortium.keyholders[LIAR]
    lie_about_parts(liar, lambda parts: {place: lie(part) for place, part in parts.items()})
    with pytest.raises(WrongShare, match=f"the guilty member is {LIAR}"):
        await consortium.bank.query("firms", SUM)
    assert await consortium.faults() == {(LIAR, "wrong share")}


async def test_a_wrong_score_share_names_the_liar(consortium: Consortium) -> None:
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS)
    lie_about_parts(
        consortium.keyholders[LIAR],
        lambda parts: {place: part[:-8] + bytes(8) for place, part in parts.items()},
    )
    with pytest.raises(WrongShare, match=f"the guilty member is {LIAR}"):
        await consortium.bank.score("firms", MODEL.name)
    assert (LIAR, "wrong share") in await consortium.faults()


async def test_a_share_on_its_way_to_the_bank_is_waited_for(consortium: Consortium) -> None:
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS)
    # One piece of a liar: the other holder's copy is uploaded after the release only, and slowly.
    liar = consortium.keyholders[LIAR]
    lie_about_parts(liar, lambda parts: parts | {min(parts): parts[min(parts)][:-8] + bytes(8)})
    for name, keyholder in consortium.keyholders.items():
        if name != LIAR:
            upload_slowly(keyholder)
    with pytest.raises(WrongShare) as refused:
        await consortium.bank.score("firms", MODEL.name)
    assert LIAR in refused.value.members
    assert "cannot be read" not in refused.value.message


async def test_a_keyholder_restarted_before_the_release_still_uploads_a_disputed_share(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stated the hash; that another holder states a different one, it learns after a restart."""
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS)
    restarted = consortium.keyholders["bank-a"]
    seat = list(consortium.keyholders).index("bank-a")
    # The liar is the holder of piece 0 that uploads first: bank-a has uploaded nothing of it.
    ids = SimpleNamespace(token_bytes=lambda size: b"\x01" * size)
    monkeypatch.setattr("chainnode.sdk.bank.secrets", ids)
    liar = consortium.keyholders[LIAR]
    lie_about_parts(liar, lambda parts: parts | {0: parts[0][:-8] + bytes(8)})
    honest = liar.attempt

    async def last(method: str, **kwargs: Any) -> bool:
        if method == "share_post":
            view = liar.chain.view
            while sum(map(bool, await view("digests_of", query=kwargs["query"]))) < 3:
                await asyncio.sleep(0.02)
            consortium.tasks[seat].cancel()
            done = await honest(method, **kwargs)
            consortium.tasks[seat] = asyncio.create_task(started_again(restarted).run())
            return done
        return await honest(method, **kwargs)

    liar.attempt = last  # type: ignore[method-assign]
    with pytest.raises(WrongShare) as refused:
        await consortium.bank.score("firms", MODEL.name)
    assert LIAR in refused.value.members
    assert "cannot be read" not in refused.value.message
    assert "bank-a" not in {name for name, fault in await consortium.faults() if fault != DISPUTED}


def started_again(keyholder: Keyholder) -> Keyholder:
    """The same organisation's keyholder as a new process has it: what is on disk, and no memory."""
    return Keyholder(
        keyholder.chain,
        keyholder.organisation,
        keyholder.folder,
        keyholder._store,
        keyholder._validators,
        keyholder._recompute,
        tick_ms=50,
    )


async def test_garbage_for_one_piece_is_told_by_what_opens(consortium: Consortium) -> None:
    lie_about_parts(
        consortium.keyholders[LIAR],
        lambda parts: parts | {min(parts): garbage(parts[min(parts)])},
    )
    with pytest.raises(WrongShare, match=f"the guilty member is {LIAR}"):
        await consortium.bank.query("firms", COUNT)
    assert (LIAR, "wrong share") in await consortium.faults()


async def test_a_small_lie_about_one_piece_of_two_holders_names_both(
    consortium: Consortium,
) -> None:
    lie_about_parts(
        consortium.keyholders[LIAR],
        lambda parts: parts | {min(parts): shifted(parts[min(parts)])},
    )
    with pytest.raises(WrongShare, match=f"one of: bank-a, {LIAR}") as refused:
        await consortium.bank.query("firms", SUM)
    assert refused.value.members == ("bank-a", LIAR)
    assert {name for name, _ in await consortium.faults()} == {"bank-a", LIAR}


async def test_with_three_holders_a_piece_even_the_smallest_lie_names_one(
    two_of_four: Consortium,
) -> None:
    lie_about_parts(
        two_of_four.keyholders[LIAR],
        lambda parts: parts | {min(parts): shifted(parts[min(parts)])},
    )
    with pytest.raises(WrongShare, match=f"the guilty member is {LIAR}"):
        await two_of_four.bank.query("firms", SUM)
    assert await two_of_four.faults() == {(LIAR, "wrong share")}


async def repeat_another(liar: Keyholder, case: Case) -> list[bytes]:
    """What a member says that spares itself the work: its co-holders' hashes, once they stand."""
    hashes: dict[int, bytes] = {}
    for _ in range(1_000):
        for stated in (await read_digests(liar.chain, case.sharing, case.facts.query)).values():
            hashes |= stated
        if len(hashes) == len(case.sharing.pieces):
            break
        await asyncio.sleep(0.02)
    held = case.sharing.held_by(liar.organisation)
    places = range(len(case.sharing.pieces))
    return [hashes.get(place, bytes(32)) if place in held else b"" for place in places]


def copy_hashes(liar: Keyholder, share: Callable[[Case], bytes]) -> None:
    async def lazy(case: Case, phase_ms: int) -> None:
        if liar.organisation not in await liar._posts(case, "share"):
            await liar.attempt(
                "share_post",
                query=case.facts.query,
                epoch=case.facts.epoch,
                result=case.result_hash,
                digests=await repeat_another(liar, case),
                share=share(case),
            )

    liar._share = lazy  # type: ignore[method-assign]


async def test_a_copied_hash_of_a_sum_is_worth_nothing_without_the_share(
    consortium: Consortium,
) -> None:
    # The others' shares are sealed to the bank: it hashes what the copier sealed in their place.
    liar = consortium.keyholders[LIAR]

    def sealed(case: Case) -> bytes:
        size = threshold.scalar_size_bytes(case.plan, len(case.ciphertexts))
        made_up = pack_container([bytes(size)] * len(case.sharing.held_by(LIAR)))
        return release.seal(case.facts.reply_key, made_up, case.context(LIAR, "sums"))

    copy_hashes(liar, sealed)
    with pytest.raises(WrongShare, match=f"the guilty member is {LIAR}"):
        await consortium.bank.query("firms", SUM)
    assert await consortium.faults() == {(LIAR, "wrong share")}


async def test_a_copied_hash_of_scores_comes_too_late_and_is_named(
    consortium: Consortium,
    clock: Clock,
) -> None:
    clock.jumps(consortium, ("share commit", 3, HALF_DEADLINE_S))
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:20])
    copy_hashes(consortium.keyholders[LIAR], lambda case: b"")
    scores = await consortium.bank.score("firms", MODEL.name)
    assert scores == {IDS[row]: plain_score(row) for row in range(20)}
    assert await consortium.faults() == {(LIAR, "share not committed in time")}


async def test_a_share_other_than_the_committed_one_is_named_and_not_counted(
    consortium: Consortium,
) -> None:
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:20])
    commit_to_another(consortium)
    scores = await consortium.bank.score("firms", MODEL.name)
    assert len(scores) == 20
    assert await consortium.faults() == {(LIAR, "share is not the one committed")}


async def test_hashes_of_scores_are_committed_before_any_is_shown(consortium: Consortium) -> None:
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:20])
    await consortium.bank.score("firms", MODEL.name)
    steps = [
        step.step
        for step in await consortium.bank.audit_trail(consortium.bank.last_query)
        if step.step.startswith("share")
    ]
    assert steps == ["share commit"] * 4 + ["share"] * 4


async def test_a_silent_member_is_named_and_the_answer_is_exact(
    consortium: Consortium, clock: Clock
) -> None:
    clock.jumps(consortium, ("share", 3, DEADLINE_S))
    index = list(consortium.keyholders).index(LIAR)
    consortium.tasks[index].cancel()
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    assert await consortium.faults() == {(LIAR, "no share")}


async def test_scores_are_released_without_a_dead_keyholder(
    consortium: Consortium, clock: Clock
) -> None:
    clock.jumps(consortium, ("share commit", 3, HALF_DEADLINE_S), ("share", 3, DEADLINE_S))
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:20])
    consortium.tasks[list(consortium.keyholders).index("bank-a")].cancel()
    scores = await consortium.bank.score("firms", MODEL.name)
    assert scores == {IDS[row]: plain_score(row) for row in range(20)}
    assert await consortium.faults() == {("bank-a", "no share")}


async def test_a_share_for_another_result_is_named_and_not_counted(
    consortium: Consortium,
) -> None:
    lie_on_chain(consortium.keyholders[LIAR], result=hashlib.sha256(b"other").digest())
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    assert await consortium.faults() == {(LIAR, "share for another query")}


async def test_a_share_of_an_earlier_query_sent_again_is_named(consortium: Consortium) -> None:
    await consortium.bank.query("firms", COUNT)
    first = consortium.bank.last_query
    seat = list(consortium.keyholders).index(LIAR)
    earlier = (await consortium.bank.chain.view("digests_of", query=first))[seat]
    lie_on_chain(consortium.keyholders[LIAR], digests=earlier)
    rows = await consortium.bank.query("firms", "SELECT SUM(turnover) FROM firms")
    assert rows[0].values[0] == sum(1_000 * row + 7 for row in range(ROWS))
    assert await consortium.faults() == {(LIAR, "share for another query")}


async def test_a_share_of_a_stale_epoch_is_named_and_not_counted(consortium: Consortium) -> None:
    lie_on_chain(consortium.keyholders[LIAR], epoch=0)
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    assert await consortium.faults() == {(LIAR, "stale epoch")}


async def test_a_wrong_count_share_is_named_and_the_others_decide(consortium: Consortium) -> None:
    liar = consortium.keyholders[LIAR]
    honest = liar._post_counts

    async def lying(case: Case) -> None:
        case = Case(
            case.facts, case.plan, case.ciphertexts, bytes(32), case.sharing
        )  # floods of another result
        await honest(case)

    liar._post_counts = lying  # type: ignore[method-assign]
    rows = await consortium.bank.query("firms", COUNT)
    assert [row.values for row in rows] == [(ROWS,)]
    assert LIAR in {name for name, _ in await consortium.faults()}


async def test_two_dead_of_three_of_four_open_nothing(tmp_path: Path) -> None:
    made = build(LocalLedger(query_deadline_ms=2_000), tmp_path)
    try:
        await made.active()
        await made.publish()
        for name in ("guarantor", "statistics"):
            made.tasks[list(made.keyholders).index(name)].cancel()
        # Nothing else happens on this chain: the deadline passes all the same.
        async with asyncio.timeout(30):
            with pytest.raises(PeerFault, match="QUERY_EXPIRED"):
                await made.bank.query("firms", COUNT)
    finally:
        await made.stop()
