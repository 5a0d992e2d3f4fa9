"""A client that stops waiting, or dies, loses no answer: it is collected later by its id."""

import asyncio
from contextlib import suppress

import pytest
from consortium import IDS, MODEL, ROWS, SECTOR, TURNOVER, Consortium, plain_score
from local_chain import LocalChain

from chainnode.sdk.bank import BankClient, BankKeys
from chainnode.sdk.query_progress import QueryProgress
from chainnode.types.errors import ClientFault, PeerFault

TRADE = "SELECT COUNT(*), SUM(turnover) FROM firms WHERE sector = 'trade'"
BUDGET = {"table": "firms", "bank": "bank-a"}


def another_client(
    made: Consortium, keys: str = "client", passphrase: bytes = b"bank passphrase"
) -> BankClient:
    """The bank's client started again: nothing is left of the first one but its key files."""
    chain = LocalChain(made.ledger, "client", "bank-a", "client")
    return BankClient(chain, "bank-a", BankKeys(made.folder / "bank-a" / keys, passphrase), 40)


async def test_a_client_that_timed_out_collects_the_answer_later(consortium: Consortium) -> None:
    consortium.bank._timeout_s = 0
    with pytest.raises(PeerFault, match="QUERY_TIMEOUT") as late:
        await consortium.bank.query("firms", TRADE)
    asked = consortium.bank.last_query
    assert f"chainnode he answer {asked.hex()}" in late.value.fix
    expected = [int(str(TURNOVER[row])) for row in range(ROWS) if SECTOR[row] == "trade"]
    for _ in range(2):
        # The second time the query is closed; what was released is opened again.
        answer = await another_client(consortium).resume(asked)
        assert isinstance(answer, list)
        assert [row.values for row in answer] == [(len(expected), sum(expected))]
    assert await consortium.bank.chain.view("budget", **BUDGET) == (5, 1)
    steps = await consortium.bank.audit_trail(asked)
    assert [step.detail for step in steps if step.step == "ended"] == ["answered"]


async def test_scores_of_a_killed_client_are_collected_by_its_next_start(
    consortium: Consortium,
) -> None:
    for owner in ("bank-a", "registry", "statistics"):
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:40])
    submitted = asyncio.Event()
    seen: list[QueryProgress] = []

    def watch(progress: QueryProgress) -> None:
        seen.append(progress)
        if progress.status != "asking":
            submitted.set()

    consortium.bank._watch = watch
    asking = asyncio.create_task(consortium.bank.score("firms", MODEL.name, IDS[:5]))
    await submitted.wait()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    # The id was known before the chain knew the query.
    assert seen[0].status == "asking"
    again = another_client(consortium)
    scores = {IDS[row]: plain_score(row) for row in range(5)}
    assert await again.resume(seen[0].query) == {MODEL.name: scores}
    assert await again.chain.view("budget", **BUDGET) == (5, 1)


async def test_progress_tells_chunks_shares_and_deadline(consortium: Consortium) -> None:
    seen: list[QueryProgress] = []
    consortium.bank._watch = seen.append
    await consortium.bank.query("firms", TRADE)
    last = await consortium.bank.progress(consortium.bank.last_query)
    assert (last.status, last.ending, last.text()) == ("closed", "answered", "closed: answered")
    assert last.chunks_done == last.chunks == 2
    assert 3 <= last.counts <= last.members == 4
    assert last.shares >= last.shares_needed == 3
    order = ["asking", "computing", "checking groups", "releasing", "released"]
    stages = [order.index(progress.status) for progress in seen]
    assert stages == sorted(stages)
    assert all(progress.deadline_ms == last.deadline_ms for progress in seen[1:])
    computing = next(progress for progress in seen if progress.status == "computing")
    assert "of 2 chunks; it ends by" in computing.text()


async def test_an_answer_is_opened_by_the_keys_it_was_asked_with_only(
    consortium: Consortium,
) -> None:
    await consortium.bank.query("firms", TRADE)
    stranger = another_client(consortium, "elsewhere", b"another passphrase")
    with pytest.raises(ClientFault, match="ANSWER_SEALED"):
        await stranger.resume(consortium.bank.last_query)


async def test_a_query_that_ended_unanswered_says_why_when_it_is_resumed(
    consortium: Consortium,
) -> None:
    consortium.bank._timeout_s = 0
    with pytest.raises(PeerFault, match="QUERY_TIMEOUT"):
        await consortium.bank.query(
            "firms", "SELECT COUNT(*) FROM firms WHERE overdue >= 4 AND sector = 'trade'"
        )
    with pytest.raises(ClientFault, match="GROUP_TOO_SMALL"):
        await another_client(consortium).resume(consortium.bank.last_query)
