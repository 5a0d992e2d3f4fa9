"""A regulator replays queries from the chain alone and finds who lied, or which node does."""

import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from consortium import HALF_DEADLINE_S, IDS, MODEL, OWNERS, SECTOR, Clock, Consortium
from local_chain import LocalChain
from test_checked_columns import passed_by
from test_lying_members import copy_hashes
from test_refused_columns import outside_the_ring, republish
from test_refused_points import registered
from test_refused_points import truncated as truncated_points
from test_refused_selectors import ask_with, truncated

from chainnode.he.plan import Plan
from chainnode.he.planner.policy import OwnerRules
from chainnode.he.private_points import PrivateScorecard
from chainnode.sdk import audits
from chainnode.sdk.input_faults import InputFault
from chainnode.sdk.replay import Check, Report, replay
from chainnode.sdk.scoring import QueryFacts, ScoringChain, Step, read_query
from chainnode.types.block import BlockHeader
from chainnode.types.errors import ClientFault, PeerFault
from chainnode.types.vote import CommitCertificate
from chainnode.worker import worker
from chainnode.worker.replay import Recomputer
from chainnode.worker.worker import Job

SUM = "SELECT COUNT(*), SUM(turnover) FROM firms WHERE sector = 'trade'"
PRIVATE = "SELECT COUNT(*), SUM(turnover) FROM firms WHERE sector = PRIVATE(mine)"
SMALL = "SELECT COUNT(*) FROM firms WHERE overdue >= 4 AND sector = 'trade'"


class TamperingChain(LocalChain):
    """A node that alters one step of what it states."""

    step = "revealed"

    async def follow(self, from_height: int) -> AsyncIterator[tuple[int, list[Step]]]:
        async for height, steps in super().follow(from_height):
            yield height, [self.altered(step) for step in steps]

    def altered(self, step: Step) -> Step:
        if step.fields.get("step") != self.step:
            return step
        changed = {"organisation": "statistics", "value": bytes(32)}
        fields = {name: changed.get(name, value) for name, value in step.fields.items()}
        return dataclasses.replace(step, fields=fields)


class HidingChain(TamperingChain):
    """A node that leaves out who was named for a fault."""

    async def follow(self, from_height: int) -> AsyncIterator[tuple[int, list[Step]]]:
        async for height, steps in LocalChain.follow(self, from_height):
            yield height, [step for step in steps if step.name != "MemberFault"]


class MisnamingChain(LocalChain):
    """A node that states another organisation as the one that registered a model."""

    async def view(self, method: str, **kwargs: Any) -> Any:
        stated = await super().view(method, **kwargs)
        return "statistics" if method == "registrar_of" else stated


class OtherCouncilChain(LocalChain):
    """A node that states another council of an epoch than the one that was opened."""

    organisations, threshold = ["bank-a", "guarantor", "registry", "statistics"], 3

    async def view(self, method: str, **kwargs: Any) -> Any:
        stated = await super().view(method, **kwargs)
        return (self.organisations, self.threshold) if method == "epoch_members" else stated


class FewerChain(OtherCouncilChain):
    organisations = OtherCouncilChain.organisations[:3]


class ReorderedChain(OtherCouncilChain):
    organisations = OtherCouncilChain.organisations[::-1]


class LowerThresholdChain(OtherCouncilChain):
    threshold = 2


class ForgetfulChain(LocalChain):
    """A node that knows nothing of how the council's key began."""

    async def follow(self, from_height: int) -> AsyncIterator[tuple[int, list[Step]]]:
        async for height, steps in LocalChain.follow(self, from_height):
            opening = any(step.name == "EpochOpened" for step in steps)
            yield height, [] if opening else steps


class OtherKeysChain(LocalChain):
    """A node that states another relinearisation key than the council made."""

    async def view(self, method: str, **kwargs: Any) -> Any:
        stated = await super().view(method, **kwargs)
        if method == "keys_of":
            stated["relin_key_s36"] = stated["public_key_s36"]
        return stated


class KeylessChain(LocalChain):
    """A node that knows nothing of how the council's keys were stated."""

    async def follow(self, from_height: int) -> AsyncIterator[tuple[int, list[Step]]]:
        async for height, steps in LocalChain.follow(self, from_height):
            keyed = any(step.name == "EpochKeys" for step in steps)
            yield height, [] if keyed else steps


async def replayed(
    consortium: Consortium, folder: Path, node: type[LocalChain] = LocalChain
) -> Report:
    chain = node(consortium.ledger, "client", "registry", "client")
    engine = Recomputer(chain, "regulator", folder / "replay")
    query = consortium.bank.last_query
    return await replay(chain, consortium.ledger.validators, query, engine)


def lie(consortium: Consortium, name: str) -> None:
    """A worker whose every result is wrong by its last bytes, the same for every liar."""
    liar = consortium.workers[name]
    honest = liar._chunk

    async def lying(job: Job, index: int) -> bytes:
        return (await honest(job, index))[:-8] + bytes(8)

    liar._chunk = lying  # type: ignore[method-assign]


def found(report: Report) -> set[tuple[str, str]]:
    return {(check.what, check.who) for check in report.differences()}


def passed(report: Report) -> list[Check]:
    assert report.differences() == []
    return list(report.checks)


async def test_an_honest_query_matches_in_every_point(
    consortium: Consortium, tmp_path: Path
) -> None:
    for owner in OWNERS:
        await consortium.client(owner).set_policy("firms", OwnerRules(owner, outputs_max=12))
    await consortium.bank.query("firms", SUM)
    checks = passed(await replayed(consortium, tmp_path))
    assert {check.what for check in checks} >= {
        *("steps", "terms", "plan", "budget", "columns", "policy", "minimum group", "groups"),
        *("shares", "ending", "chunk 0", "result"),
    }


@pytest.mark.parametrize("node", [FewerChain, ReorderedChain, LowerThresholdChain])
async def test_a_node_that_states_another_council_is_named_and_not_believed(
    consortium: Consortium, tmp_path: Path, node: type[OtherCouncilChain]
) -> None:
    await consortium.bank.query("firms", SUM)
    (council,) = [
        check for check in passed(await replayed(consortium, tmp_path)) if check.what == "council"
    ]
    assert council.detail == "3 of bank-a, guarantor, registry, statistics hold epoch 1"
    report = await replayed(consortium, tmp_path, node)
    assert ("council", "the node") in found(report)
    # Votes, shares and silence are judged by the council of the receipt; nobody else is named.
    assert {who for _, who in found(report)} == {"the node"}
    assert not {"groups", "shares", "silent members", "equal shares"} & {
        what for what, _ in found(report)
    }


async def test_a_node_that_hides_how_an_epoch_began_is_named(
    consortium: Consortium, tmp_path: Path
) -> None:
    await consortium.bank.query("firms", SUM)
    report = await replayed(consortium, tmp_path, ForgetfulChain)
    assert found(report) == {("council", "the node")}
    assert any("no proven step opens epoch 1" in check.detail for check in report.checks)


@pytest.mark.parametrize("node", [OtherKeysChain, KeylessChain])
async def test_a_node_that_states_other_keys_is_named_and_no_worker_is(
    consortium: Consortium, tmp_path: Path, node: type[LocalChain]
) -> None:
    await consortium.bank.query("firms", SUM)
    checks = passed(await replayed(consortium, tmp_path))
    assert "keys" in {check.what for check in checks}
    assert found(await replayed(consortium, tmp_path, node)) == {("keys", "the node")}


async def test_a_replay_derives_who_showed_a_share_without_having_committed(
    consortium: Consortium,
    tmp_path: Path,
    clock: Clock,
) -> None:
    clock.jumps(consortium, ("share commit", 3, HALF_DEADLINE_S))
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:20])
    copy_hashes(consortium.keyholders["registry"], lambda case: b"")
    await consortium.bank.score("firms", MODEL.name)
    checks = passed(await replayed(consortium, tmp_path))
    (late,) = [check.detail for check in checks if check.what == "share commitments"]
    assert late == "registry was late; named: registry"


async def test_a_score_query_is_replayed_under_the_consents_of_its_submission(
    consortium: Consortium, tmp_path: Path
) -> None:
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:20])
    await consortium.bank.score("firms", MODEL.name)
    for owner in OWNERS:
        await consortium.client(owner).set_consent("firms", "bank-a", IDS[:2])
    checks = passed(await replayed(consortium, tmp_path))
    assert [check.who for check in checks if check.what == "consent"] == list(OWNERS)
    (budget,) = [check.detail for check in checks if check.what == "budget"]
    assert budget == "question 1 of 5 on firms"


async def test_a_lied_about_chunk_shows_who_lied_and_that_the_chain_named_it(
    consortium: Consortium, tmp_path: Path
) -> None:
    lie(consortium, "guarantor")
    consortium.keyholders["guarantor"]._recompute = consortium.workers["bank-a"].recompute
    await consortium.bank.query("firms", SUM)
    checks = passed(await replayed(consortium, tmp_path))
    assert [check.who for check in checks if check.what == "wrong results"] == ["guarantor"]


async def test_two_that_collude_beyond_what_the_council_tolerates_are_named_by_the_replay(
    consortium: Consortium, tmp_path: Path
) -> None:
    """Their result is final on chain; keyholders whose own workers differ refuse to open it."""
    for name in ("bank-a", "guarantor"):
        lie(consortium, name)
    with pytest.raises(PeerFault, match="computed another result"):
        await consortium.bank.query("firms", SUM)
    report = await replayed(consortium, tmp_path)
    assert ("chunk 0", "bank-a, guarantor") in found(report)
    assert {("wrong results", "bank-a"), ("wrong results", "guarantor")} <= found(report)
    assert not found(report) & {("wrong results", "registry"), ("wrong results", "statistics")}


async def test_a_node_that_alters_or_hides_a_step_is_found_by_the_receipts_proof(
    consortium: Consortium, tmp_path: Path
) -> None:
    lie(consortium, "guarantor")
    consortium.keyholders["guarantor"]._recompute = consortium.workers["bank-a"].recompute
    await consortium.bank.query("firms", SUM)
    report = await replayed(consortium, tmp_path, TamperingChain)
    assert ("step", "the node") in found(report)
    details = [check.detail for check in report.differences() if check.what == "step"]
    assert details and all("revealed by statistics" in detail for detail in details)
    report = await replayed(consortium, tmp_path, HidingChain)
    details = [check.detail for check in report.differences() if check.what == "step"]
    assert any("MemberFault" in detail for detail in details), details


async def test_a_forged_signature_under_a_receipt_is_found(
    consortium: Consortium, tmp_path: Path
) -> None:
    await consortium.bank.query("firms", SUM)
    genesis, forged = consortium.ledger.validators, consortium.ledger.copy()
    chain = LocalChain(forged, "client", "registry", "client")
    engine = Recomputer(chain, "regulator", tmp_path / "replay")
    honest = forged.certificate

    def unsigned(header: BlockHeader) -> CommitCertificate:
        made = honest(header)
        blank = [dataclasses.replace(item, signature=bytes(64)) for item in made.signatures]
        return dataclasses.replace(made, signatures=tuple(blank))

    forged.certificate = unsigned  # type: ignore[method-assign]
    report = await replay(chain, genesis, consortium.bank.last_query, engine)
    assert ("submission", "the node") in found(report)
    assert any("certificate" in check.detail for check in report.differences())


@pytest.mark.timeout(180)
async def test_a_question_with_a_private_constant_is_replayed_from_its_selectors(
    deep: Consortium, tmp_path: Path
) -> None:
    lie(deep, "guarantor")
    deep.keyholders["guarantor"]._recompute = deep.workers["bank-a"].recompute
    rows = await deep.bank.query("firms", PRIVATE, {"mine": "trade"})
    assert rows[0].values[0] == SECTOR.count("trade")
    checks = passed(await replayed(deep, tmp_path))
    assert {"plan", "groups", "shares", "result"} <= {check.what for check in checks}
    assert [check.who for check in checks if check.what == "wrong results"] == ["guarantor"]
    # Whoever spoils a selector afterwards is not believed: its hash stands in the text.
    facts = await read_query(deep.bank.chain, deep.bank.last_query)
    digest = json.loads(deep.ledger.blobs[bytes.fromhex(facts.sql.split("'")[1])])["selectors"][0]
    deep.ledger.blobs[bytes.fromhex(digest)] = b"other bytes"
    differing = (await replayed(deep, tmp_path)).differences()
    assert [(check.what, check.who) for check in differing] == [("refused input", "the node")]


@pytest.mark.timeout(180)
async def test_malformed_selectors_show_in_the_replay_and_a_refusal_of_sound_ones_too(
    deep: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        ask_with(patch, truncated)
        with pytest.raises(InputFault):
            await deep.bank.query("firms", PRIVATE, {"mine": "trade"})
    checks = passed(await replayed(deep, tmp_path))
    (refusal,) = [check for check in checks if check.what == "refused input"]
    assert refusal.who == "bank-a" and "SELECTORS_MALFORMED" in refusal.detail

    async def lie(chain: ScoringChain, plan: Plan, facts: QueryFacts) -> tuple[bytes, ...]:
        raise InputFault("SELECTORS_MALFORMED", "bank-a", "M", plan.hash(), "sector", 1)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "fetch_selectors", lie)
        with pytest.raises(InputFault):
            await deep.bank.query("firms", PRIVATE, {"mine": "trade"})
    (difference,) = (await replayed(deep, tmp_path)).differences()
    refusers = await deep.refusers()
    assert (difference.what, difference.who) == ("refused input", ", ".join(sorted(refusers)))


@pytest.mark.timeout(180)
async def test_malformed_points_show_in_the_replay_with_who_registered_them(
    deep: Consortium, tmp_path: Path
) -> None:
    await registered(deep, truncated_points, first="registry")
    with pytest.raises(InputFault):
        await deep.bank.score("firms", "hidden")
    checks = passed(await replayed(deep, tmp_path))
    (refusal,) = [check for check in checks if check.what == "refused input"]
    assert refusal.who == "registry" and "PRIVATE_POINTS_MALFORMED" in refusal.detail
    assert [check.who for check in checks if check.what == "model"] == list(OWNERS)
    # Whoever registered the model is taken from the receipts, not from a node's word.
    differing = (await replayed(deep, tmp_path, MisnamingChain)).differences()
    assert [(check.what, check.who) for check in differing] == [("refused input", "the node")]


@pytest.mark.timeout(180)
async def test_a_refusal_of_sound_points_names_the_members_that_refused(
    deep: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(deep)

    async def lie(chain: ScoringChain, table: str, record: PrivateScorecard) -> tuple[bytes, ...]:
        model = hashlib.sha256(record.encode()).digest()
        raise InputFault("PRIVATE_POINTS_MALFORMED", "bank-a", "M", model, "hidden", 1)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "fetch_points", lie)
        with pytest.raises(InputFault):
            await deep.bank.score("firms", "hidden")
    (difference,) = (await replayed(deep, tmp_path)).differences()
    refusers = await deep.refusers()
    assert (difference.what, difference.who) == ("refused input", ", ".join(sorted(refusers)))


@pytest.mark.timeout(180)
async def test_an_answer_from_private_points_is_replayed_and_their_loss_is_the_nodes(
    deep: Consortium, tmp_path: Path
) -> None:
    record = await registered(deep)
    await deep.bank.score("firms", "hidden")
    passed(await replayed(deep, tmp_path))
    del deep.ledger.blobs[bytes.fromhex(record.points[1])]
    differing = (await replayed(deep, tmp_path)).differences()
    assert [(check.what, check.who) for check in differing] == [("refused input", "the node")]


async def test_columns_refused_before_any_result_are_derived_too(
    consortium: Consortium, tmp_path: Path
) -> None:
    root = await republish(consortium.client("statistics"), [outside_the_ring()])
    with pytest.raises(InputFault):
        await consortium.bank.query("firms", SUM)
    checks = passed(await replayed(consortium, tmp_path))
    (refusal,) = [check for check in checks if check.what == "refused input"]
    assert refusal.who == "statistics" and "COLUMN_MALFORMED" in refusal.detail
    assert any(root.hex()[:16] in check.detail for check in checks if check.what == "columns")


async def test_a_query_refused_for_a_small_group_is_derived_from_the_votes(
    consortium: Consortium, tmp_path: Path
) -> None:
    with pytest.raises(ClientFault, match="GROUP_TOO_SMALL"):
        await consortium.bank.query("firms", SMALL)
    checks = passed(await replayed(consortium, tmp_path))
    (groups,) = [check for check in checks if check.what == "groups"]
    assert groups.detail.endswith("refused")


async def test_demands_and_audits_before_a_query_are_derived(
    consortium: Consortium, tmp_path: Path
) -> None:
    await passed_by(consortium.client("registry"))
    await consortium.client("bank-a").require_audits("firms")
    await consortium.bank.query("firms", "SELECT COUNT(*) FROM firms WHERE overdue >= 2")
    await consortium.client("bank-a").require_audits("firms", required=False)
    checks = passed(await replayed(consortium, tmp_path))
    assert {check.who: check.detail for check in checks if check.what == "audits"} == {
        "registry": "not required, none",
        "statistics": "not required, none",
        "bank-a": "required, passed",
    }


async def test_a_check_of_columns_is_replayed_like_a_query_and_counts_for_no_budget(
    consortium: Consortium, tmp_path: Path
) -> None:
    auditor = consortium.client("registry")
    await passed_by(auditor)
    await audits.check_columns(auditor.chain, "firms", "bank-a", "S36", 40)
    (checked,) = {
        bytes(step.fields["query"])
        for _, steps in consortium.ledger.blocks
        for step in steps
        if step.fields.get("detail") == "firms: check"
    }
    consortium.bank.last_query = checked
    checks = passed(await replayed(consortium, tmp_path))
    (groups,) = [check for check in checks if check.what == "groups"]
    assert groups.detail.endswith("passed")
    assert "budget" not in {check.what for check in checks}
