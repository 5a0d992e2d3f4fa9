"""A replay derives from receipts and blobs whose share was wrong, and catches a false record."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consortium import DEADLINE_S, HALF_DEADLINE_S, IDS, MODEL, OWNERS, Clock, Consortium
from local_chain import LocalChain
from test_checked_columns import passed_by
from test_lying_members import (
    LIAR,
    commit_to_another,
    copy_hashes,
    garbage,
    lie_about_parts,
    lie_on_chain,
    shifted,
)
from test_lying_members import two_of_four as two_of_four
from test_replay import TamperingChain, found, passed, replayed

from chainnode.he.release import WrongShare
from chainnode.sdk.replay import Check, Report
from chainnode.sdk.scoring import Step

COUNT = "SELECT COUNT(*) FROM firms"
SUM = "SELECT SUM(turnover) FROM firms"


@pytest.fixture
async def scoring(consortium: Consortium) -> Consortium:
    """A consortium whose owners consent to scores of a third of the table."""
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:20])
    return consortium


def lie_everywhere(consortium: Consortium, lie: Callable[[bytes], bytes]) -> None:
    liar = consortium.keyholders[LIAR]
    lie_about_parts(liar, lambda parts: {place: lie(part) for place, part in parts.items()})


def lie_once(consortium: Consortium, lie: Callable[[bytes], bytes]) -> None:
    liar = consortium.keyholders[LIAR]
    lie_about_parts(liar, lambda parts: parts | {min(parts): lie(parts[min(parts)])})


def forge(
    monkeypatch: pytest.MonkeyPatch, consortium: Consortium, name: str, rule: Callable[..., Any]
) -> None:
    """A chain whose validators agreed on another rule than the contract's."""
    monkeypatch.setattr(consortium.ledger.deployed.contract, name, rule)


def named_for(report: Report, what: str) -> list[tuple[str, str]]:
    return [(check.who, check.detail) for check in report.checks if check.what == what]


def outcomes(report: Report, what: str) -> set[tuple[str, str]]:
    return {(check.who, check.outcome) for check in report.checks if check.what == what}


async def test_another_share_than_the_committed_one_is_derived_from_the_receipts(
    scoring: Consortium, tmp_path: Path
) -> None:
    commit_to_another(scoring)
    await scoring.bank.score("firms", MODEL.name)
    report = await replayed(scoring, tmp_path)
    passed(report)
    said = f"{LIAR} showed another share; named: {LIAR}"
    assert named_for(report, "opened commitments") == [("the chain", said)]


@pytest.mark.parametrize("opens", [True, False])
async def test_a_chain_that_judges_openings_falsely_is_caught(
    scoring: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    """It lets a wrong opening pass, or names who opened rightly."""
    if opens:
        commit_to_another(scoring)
    with monkeypatch.context() as patch:
        honest = scoring.ledger.deployed.contract._opens  # type: ignore[attr-defined]

        def judged(self: Any, query: bytes, result: bytes, digests: list[bytes]) -> bool:
            right = bool(honest(self, query, result, digests))
            sender = honest.__globals__["ctx"].sender_org
            return opens if sender == LIAR else right

        forge(patch, scoring, "_opens", judged)
        await scoring.bank.score("firms", MODEL.name)
    assert found(await replayed(scoring, tmp_path)) == {("opened commitments", LIAR)}


@pytest.mark.parametrize("lie", [garbage, shifted])
async def test_a_wrong_share_of_a_sum_is_derived_from_unequal_hashes(
    consortium: Consortium, tmp_path: Path, lie: Callable[[bytes], bytes]
) -> None:
    lie_everywhere(consortium, lie)
    with pytest.raises(WrongShare):
        await consortium.bank.query("firms", SUM)
    report = await replayed(consortium, tmp_path)
    passed(report)
    ((_, detail),) = named_for(report, "equal shares")
    assert detail == (
        f"bank-a and {LIAR} differ; {LIAR} and registry differ; "
        f"{LIAR} and statistics differ; named: {LIAR}"
    )
    assert outcomes(report, "accusation") == {(LIAR, "matches")}
    # What is sealed is said to be, and not passed over.
    assert outcomes(report, "opened shares") == {("bank-a", "not derived")}
    assert {outcome for _, outcome in outcomes(report, "counts")} == {"not derived"}


@pytest.mark.parametrize(
    ("fault", "differing"),
    [
        ("wrong share", {("equal shares", f"{LIAR}, registry")}),
        # Nobody is named by a rule, and somebody by none.
        ("is not liked", {("equal shares", LIAR), ("fault", "registry")}),
    ],
)
async def test_a_chain_that_names_another_than_the_liar_is_caught(
    consortium: Consortium,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    differing: set[tuple[str, str]],
) -> None:
    lie_everywhere(consortium, shifted)

    def accused(self: Any, query: bytes) -> None:
        self._fault(query, "registry", fault, "contract")

    with monkeypatch.context() as patch:
        forge(patch, consortium, "_judge_shares", accused)
        with pytest.raises(WrongShare):
            await consortium.bank.query("firms", SUM)
    assert found(await replayed(consortium, tmp_path)) == differing


async def test_a_dispute_about_one_piece_names_two_and_says_what_only_the_key_shows(
    consortium: Consortium, tmp_path: Path
) -> None:
    lie_once(consortium, shifted)
    with pytest.raises(WrongShare):
        await consortium.bank.query("firms", SUM)
    report = await replayed(consortium, tmp_path)
    passed(report)
    assert named_for(report, "equal shares") == [
        ("the chain", f"bank-a and {LIAR} differ; named: bank-a, {LIAR}")
    ]
    assert outcomes(report, "accusation") == {("bank-a", "matches"), (LIAR, "matches")}


async def test_which_of_two_lied_is_the_banks_word_where_only_its_key_tells(
    consortium: Consortium, tmp_path: Path
) -> None:
    lie_once(consortium, garbage)
    with pytest.raises(WrongShare, match=f"the guilty member is {LIAR}"):
        await consortium.bank.query("firms", SUM)
    report = await replayed(consortium, tmp_path)
    passed(report)
    assert outcomes(report, "accusation") == {(LIAR, "not derived")}


async def test_with_three_holders_a_piece_the_odd_copy_is_derived(
    two_of_four: Consortium, tmp_path: Path
) -> None:
    lie_once(two_of_four, shifted)
    with pytest.raises(WrongShare):
        await two_of_four.bank.query("firms", SUM)
    report = await replayed(two_of_four, tmp_path)
    passed(report)
    ((_, detail),) = named_for(report, "equal shares")
    assert detail.endswith(f"named: {LIAR}")


async def test_a_wrong_score_share_is_derived_and_its_bytes_are_looked_at(
    scoring: Consortium, tmp_path: Path
) -> None:
    """One piece in bytes that are no share: two are disputed, and the blob tells which one lied."""
    lie_once(scoring, lambda part: part[:-8])
    with pytest.raises(WrongShare):
        await scoring.bank.score("firms", MODEL.name)
    report = await replayed(scoring, tmp_path)
    passed(report)
    ((who, detail),) = named_for(report, "share bytes")
    assert who == LIAR and "do not add up" in detail
    assert (LIAR, "matches") in outcomes(report, "accusation")


async def test_honest_score_shares_are_fetched_and_have_their_hashes(
    scoring: Consortium, tmp_path: Path
) -> None:
    await scoring.bank.score("firms", MODEL.name)
    report = await replayed(scoring, tmp_path)
    passed(report)
    assert named_for(report, "share bytes") == [
        ("the chain", "6 shares have the hashes stated and the shape of a share")
    ]
    assert outcomes(report, "opened shares") == {("bank-a", "not derived")}
    # An answer was opened, so that bytes which this node has not were there.
    digest = next(
        bytes(step.fields["digests"][0])
        for _, steps in scoring.ledger.blocks
        for step in steps
        if step.name == "ShareStated" and step.fields["digests"][0]
    )
    kept = scoring.ledger.blobs.pop(digest)
    assert found(await replayed(scoring, tmp_path)) == {("share bytes", "the node")}
    scoring.ledger.blobs[digest] = kept[:-1] + b"\x01"
    assert found(await replayed(scoring, tmp_path)) == {("share bytes", "the node")}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"epoch": 0}, "stale epoch"),
        ({"result": bytes(32)}, "share for another query"),
        ({"digests": [b"short"] * 6}, "malformed share"),
    ],
)
async def test_shares_of_wrong_form_are_derived_and_a_chain_that_counts_them_is_caught(
    consortium: Consortium,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    fault: str,
) -> None:
    lie_on_chain(consortium.keyholders[LIAR], **changes)
    await consortium.bank.query("firms", COUNT)
    report = await replayed(consortium, tmp_path)
    passed(report)
    ((_, detail),) = named_for(report, "form of shares")
    assert detail.endswith(f"{fault}; named: {LIAR}")
    with monkeypatch.context() as patch:
        patch.setattr(type(consortium.bank), "_open_sums", unopened)
        forge(patch, consortium, "_share_fault", lambda *_: "")
        await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms WHERE overdue < 4")
    assert ("form of shares", LIAR) in found(await replayed(consortium, tmp_path))


async def unopened(*_: Any) -> list[Any]:
    return []


async def test_an_earlier_share_sent_again_is_derived_from_the_earlier_receipt(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await consortium.bank.query("firms", COUNT)
    seat = list(consortium.keyholders).index(LIAR)
    first = consortium.bank.last_query
    earlier = (await consortium.bank.chain.view("digests_of", query=first))[seat]
    lie_on_chain(consortium.keyholders[LIAR], digests=earlier)
    await consortium.bank.query("firms", SUM)
    report = await replayed(consortium, tmp_path)
    passed(report)
    ((_, detail),) = named_for(report, "form of shares")
    assert detail == f"{LIAR} gave a share for another query; named: {LIAR}"


async def test_a_question_asked_twice_has_equal_shares_and_no_fault(
    consortium: Consortium, tmp_path: Path
) -> None:
    for _ in range(2):
        await consortium.bank.query("firms", COUNT)
    report = await replayed(consortium, tmp_path)
    passed(report)
    assert not named_for(report, "form of shares")


async def test_a_bank_that_accuses_without_cause_is_named_where_receipts_contradict_it(
    scoring: Consortium, tmp_path: Path
) -> None:
    lie_everywhere(scoring, lambda part: part[:-8] + bytes(8))
    with pytest.raises(WrongShare):
        await scoring.bank.score("firms", MODEL.name)
    query = scoring.bank.last_query
    await scoring.bank.chain.call(
        "accuse", query=query, organisation="registry", fault="wrong share"
    )
    assert found(await replayed(scoring, tmp_path)) == {("accusation", "bank-a")}


async def test_who_gave_no_share_cannot_have_given_a_wrong_one(
    consortium: Consortium,
    tmp_path: Path,
    clock: Clock,
) -> None:
    clock.jumps(consortium, ("share", 3, DEADLINE_S))
    consortium.tasks[list(consortium.keyholders).index(LIAR)].cancel()
    await consortium.bank.query("firms", COUNT)
    query = consortium.bank.last_query
    for fault in ("wrong share", "wrong count share"):
        await consortium.bank.chain.call("accuse", query=query, organisation=LIAR, fault=fault)
    differences = (await replayed(consortium, tmp_path)).differences()
    assert [(check.what, check.who) for check in differences] == [("accusation", "bank-a")] * 2


async def test_an_accusation_over_sealed_shares_is_the_banks_word(
    consortium: Consortium, tmp_path: Path
) -> None:
    await consortium.bank.query("firms", COUNT)
    query = consortium.bank.last_query
    await consortium.bank.chain.call("accuse", query=query, organisation=LIAR, fault="wrong share")
    report = await replayed(consortium, tmp_path)
    passed(report)
    assert outcomes(report, "accusation") == {(LIAR, "not derived")}


async def test_a_late_share_is_still_told_from_a_wrongly_opened_one(
    scoring: Consortium,
    tmp_path: Path,
    clock: Clock,
) -> None:
    clock.jumps(scoring, ("share commit", 3, HALF_DEADLINE_S))
    copy_hashes(scoring.keyholders[LIAR], lambda case: b"")
    await scoring.bank.score("firms", MODEL.name)
    report = await replayed(scoring, tmp_path)
    passed(report)
    assert [detail for _, detail in named_for(report, "share commitments")] == [
        f"{LIAR} was late; named: {LIAR}"
    ]
    assert [detail for _, detail in named_for(report, "opened commitments")] == [
        "nobody showed another share; named: nobody"
    ]


class ShareTamperingChain(TamperingChain):
    """A node that states other hashes of a share than the receipt holds."""

    def altered(self, step: Step) -> Step:
        if step.name != "ShareStated":
            return step
        digests = [bytes(len(item)) for item in step.fields["digests"]]
        return dataclasses.replace(step, fields={**step.fields, "digests": digests})


class AuditTamperingChain(TamperingChain):
    """A node that turns the outcome of audits."""

    def altered(self, step: Step) -> Step:
        if step.name != "ColumnsAudited":
            return step
        return dataclasses.replace(step, fields={**step.fields, "outcome": "failed"})


@pytest.mark.parametrize("node", [ShareTamperingChain, AuditTamperingChain])
async def test_a_node_that_alters_what_a_member_stated_is_found(
    consortium: Consortium, tmp_path: Path, node: type[LocalChain]
) -> None:
    await passed_by(consortium.client("registry"))
    await consortium.bank.query("firms", COUNT)
    report = await replayed(consortium, tmp_path, node)
    assert ("step", "the node") in found(report)


async def test_a_refusal_without_cause_is_derived_and_its_concealment_is_caught(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        query = consortium.bank.last_query
        await consortium.bank.query("firms", COUNT)
        assert consortium.bank.last_query != query

    liar = consortium.workers[LIAR]
    honest = liar.advance_query
    said: set[bytes] = set()

    async def lying(query: bytes) -> bool:
        facts = await liar.chain.view("query_inputs", query=query)
        root = facts[1][list(OWNERS).index("statistics")]["root"]
        fault = {"code": "COLUMN_MALFORMED", "owner": "statistics", "profile": "S36"}
        if query not in said:
            said.add(query)
            fault |= {"root": root, "column": "turnover", "block": 0}
            await liar.attempt("refuse_input", query=query, fault=fault)
        return await honest(query)

    liar.advance_query = lying  # type: ignore[method-assign]
    await ask()
    report = await replayed(consortium, tmp_path)
    passed(report)
    assert outcomes(report, "refused input without cause") == {(LIAR, "matches")}
    with monkeypatch.context() as patch:
        forge(patch, consortium, "_name_refusers", lambda *_: None)
        await ask()
    assert found(await replayed(consortium, tmp_path)) == {("refused input without cause", LIAR)}


def test_what_is_not_derived_is_called_so() -> None:
    made = Check("opened shares", "bank-a", True, "sealed", derived=False)
    assert made.outcome == "not derived"
    assert dataclasses.replace(made, derived=True).outcome == "matches"
    assert dataclasses.replace(made, matches=False).outcome == "DIFFERS"
