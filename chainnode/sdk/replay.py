"""Replaying a query from chain facts alone, as a regulator does: without a key, no node believed.

Every step that a node states is compared with its receipt, which a quorum of validators signed.
From the proven steps everything that can be computed is computed again: the plan of the text, every
result, who was wrong, the budget, and the decisions on groups and on silent members.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from chainnode.he.plan import Plan
from chainnode.he.planner.policy import OwnerRules
from chainnode.he.threshold import Sharing
from chainnode.sdk.input_faults import GONE, POINTS, InputFault
from chainnode.sdk.proven_steps import history, prove
from chainnode.sdk.query_inputs import NOTHING, OwnerInput, rules_bytes
from chainnode.sdk.replay_case import (
    FAILED_CHECK,
    LATE,
    PASSED_CHECK,
    REFUSED_INPUT,
    REFUSERS,
    SILENT,
    THE_CHAIN,
    THE_NODE,
    WITHOUT_CAUSE,
    WRONG,
    Case,
    Check,
    Report,
    listed,
)
from chainnode.sdk.replay_shares import SHARE_FAULTS, related, share_checks
from chainnode.sdk.scoring import (
    INPUT_REFUSED,
    KIND_CHECK,
    KIND_SCORES,
    QueryFacts,
    ScoringChain,
    Step,
    TableFacts,
    chunk_workers,
    confirm_plan,
    read_query,
    read_table,
    results_needed,
)
from chainnode.types.errors import ChainnodeError
from chainnode.types.validators import ValidatorSet

CONTRACT_FAULTS = (WRONG, LATE, SILENT, WITHOUT_CAUSE, *SHARE_FAULTS)
"""What the contract itself names members for; what follows compares every one."""

__all__ = ["Check", "Recompute", "Report", "replay"]


class Recompute(Protocol):
    """Computes results again from the published ciphertexts, and tells the chain nothing."""

    async def recompute(self, query: bytes, index: int, plan: bytes) -> bytes:
        """The hash of a chunk's result, or of the whole (index `chunk_count`)."""
        ...

    async def reduced(self, query: bytes) -> bytes:
        """The hash of the whole made of the chunks that are final on chain, right or wrong."""
        ...

    async def inspect(self, query: bytes) -> None:
        """Read all that a query is computed from. Raises `InputFault`."""
        ...


async def replay(
    chain: ScoringChain, validators: ValidatorSet, query: bytes, engine: Recompute
) -> Report:
    """Derive a query again and compare every proven step with what was derived.

    Args:
        chain: any node's view; used for bytes that are checked.
        validators: of the genesis block, as the caller knows it.
        query: 32-byte id.
        engine: computes results.

    Raises:
        ContractRefused: there is no such query.
    """
    facts = await read_query(chain, query)
    table = await read_table(chain, facts.table, facts.epoch)
    stated = await history(chain)
    wanted = {step.tx_id for step in stated if _concerns(step, facts)} | related(stated, query)
    proven, failed = await prove(chain, validators, stated, wanted)
    checks = [Check("step", THE_NODE, False, item.reason) for item in failed]
    if not failed:
        checks.append(
            Check("steps", THE_NODE, True, f"{len(proven)} steps of {len(wanted)} receipts proven")
        )
    own = tuple(step for step in proven if step.fields.get("query") == query)
    if not own or own[0].fields.get("step") != "submitted":
        checks.append(Check("submission", THE_NODE, False, "no proven step submits this query"))
        return Report(facts, tuple(checks))
    before = tuple(proven[: proven.index(own[0])])
    table, council = _council(table, facts.epoch, before)
    checks.append(council)
    case = Case(facts, table, tuple(proven), own, before)
    checks += [*_terms(case), *_budget(case), *_inputs(case), *_ending(case)]
    checks += [*_refusers(case), *_rules(case)]
    try:
        plan = confirm_plan(table, facts)
    except ChainnodeError as error:
        # Rightly refused, if it was: keyholders say the same code.
        refused = case.ending().startswith(error.code)
        checks.append(Check("plan", facts.bank, refused, f"{error.code}: {error.message}"))
        return Report(facts, tuple(checks))
    checks.append(Check("plan", facts.bank, True, f"{plan.hash().hex()} is that of its text"))
    checks += [*_models(case, plan), *_groups(case, plan)]
    keys = _keys(case, await chain.view("keys_of", epoch=facts.epoch))
    checks.append(keys)
    if not keys.matches:
        # Under other keys every right result differs, and workers would be named for it.
        return Report(facts, tuple(checks))
    checks += await _results(case, plan, engine)
    checks += await share_checks(chain, case, plan)
    if case.ending() == INPUT_REFUSED:
        checks.append(await _refused(case, engine))
    return Report(facts, tuple(checks))


def _concerns(step: Step, facts: QueryFacts) -> bool:
    if step.fields.get("query") == facts.query:
        return True
    if step.name in ("EpochOpened", "EpochKeys"):
        return bool(step.fields["epoch"] == facts.epoch)
    if step.name in ("CatalogChanged", "ColumnsAudited"):
        return bool(step.fields["table"] == facts.table and step.height <= facts.height)
    asked = (step.fields.get("step"), step.fields.get("organisation"), step.fields.get("detail"))
    return asked == ("submitted", facts.bank, facts.table) and step.height <= facts.height


def _council(table: TableFacts, epoch: int, before: Sequence[Step]) -> tuple[TableFacts, Check]:
    """The table under the council that the receipt of its epoch names; what a node states of it
    is compared and not used."""
    opened = [
        step for step in before if step.name == "EpochOpened" and step.fields["epoch"] == epoch
    ]
    if not opened:
        return table, Check("council", THE_NODE, False, f"no proven step opens epoch {epoch}")
    proven = Sharing.of(opened[-1].fields["organisations"], opened[-1].fields["threshold"])
    shown = f"{proven.threshold} of {', '.join(proven.members)} hold epoch {epoch}"
    if proven == table.sharing:
        return table, Check("council", THE_NODE, True, shown)
    stated = f"{table.sharing.threshold} of {', '.join(table.sharing.members)}"
    catalog = msgspec.structs.replace(table.catalog, parties=len(proven.pieces))
    table = dataclasses.replace(table, sharing=proven, catalog=catalog)
    return table, Check("council", THE_NODE, False, f"{shown}; the node states {stated}")


def _keys(case: Case, stated: Mapping[str, Any]) -> Check:
    """The keys that the node has results computed under here, against those of the receipt."""
    epoch = case.facts.epoch
    found = [
        {name: bytes(value) for name, value in step.fields.items() if name != "epoch"}
        for step in case.before
        if step.name == "EpochKeys" and step.fields["epoch"] == epoch
    ]
    same = found[-1:] == [{name: bytes(value) for name, value in stated.items()}]
    if not found:
        return Check("keys", THE_NODE, False, f"no proven step states the keys of epoch {epoch}")
    detail = f"{'are' if same else 'are not'} those that all members of epoch {epoch} computed"
    return Check("keys", THE_NODE, same, f"the keys that results are computed under {detail}")


def _terms(case: Case) -> Iterator[Check]:
    for step in case.steps("QueryFinalised"):
        bound = bytes(step.fields["terms"]) == case.facts.terms()
        detail = "bank, plan, keys, purpose and inputs are those that the result was made final on"
        yield Check("terms", THE_NODE, bound, detail if bound else "the record states others")


def _budget(case: Case) -> Iterator[Check]:
    bank, table = case.facts.bank, case.facts.table
    if case.facts.kind == KIND_CHECK:
        return
    asked = sum(
        (step.fields.get("step"), step.fields.get("detail")) == ("submitted", table)
        for step in case.before
    )
    grants = {owner: case.stated(owner, "grant", bank) for owner in case.table.owners}
    missing = [owner for owner, found in grants.items() if not found]
    if missing:
        yield Check("budget", missing[0], False, f"granted {bank} nothing on {table}")
        return
    least = min(int.from_bytes(found[-1], "big") for found in grants.values())
    yield Check("budget", bank, asked < least, f"question {asked + 1} of {least} on {table}")


def _inputs(case: Case) -> Iterator[Check]:
    facts = case.facts
    for part in facts.inputs.owners:
        epoch = facts.epoch.to_bytes(8, "big")
        roots = [
            value[8:]
            for value in case.stated(part.owner, "columns", facts.profile)
            if value[:8] == epoch
        ]
        root = roots[-1] if roots else NOTHING
        yield Check("columns", part.owner, root == part.root, f"root {part.root.hex()[:16]}")
        if facts.kind == KIND_SCORES:
            known = _consent(case, part)
            yield Check("consent", part.owner, known == part.consent, part.consent.hex()[:16])
        words = case.stated(part.owner, "policy", facts.bank)
        words = words or case.stated(part.owner, "policy", "")
        usual = rules_bytes(OwnerRules(part.owner))
        policy = words[-1] if words else hashlib.sha256(usual).digest()
        same = policy == hashlib.sha256(rules_bytes(part.rules)).digest()
        yield Check("policy", part.owner, same, policy.hex()[:16])
        audits = case.requires_audits(part.owner), case.is_audited(part.owner, root)
        same = audits == (part.audit_required, part.audited)
        detail = ("required" if audits[0] else "not required", "passed" if audits[1] else "none")
        yield Check("audits", part.owner, same, ", ".join(detail))


def _consent(case: Case, part: OwnerInput) -> bytes:
    """The consent of the query's purpose that held when it was submitted."""
    purpose = case.facts.purpose.encode()
    words = [
        value
        for value in case.stated(part.owner, "consent", case.facts.bank)
        if value[40:] == purpose
    ]
    if not words:
        return NOTHING
    until = int.from_bytes(words[-1][:8], "big")
    return words[-1][8:40] if until == 0 or case.own[0].height <= until else NOTHING


def _models(case: Case, plan: Plan) -> Iterator[Check]:
    """Whether every owner had approved the very scorecards that the plan computes with."""
    for part in plan.score_parts():
        record = hashlib.sha256(case.table.catalog.models[part.model].encode()).digest()
        for owner in case.table.owners:
            approved = record in case.stated(owner, "model", part.model)
            yield Check("model", owner, approved, f"{part.model}, record {record.hex()[:16]}")


def _groups(case: Case, plan: Plan) -> Iterator[Check]:
    if plan.aggregate is None or not case.steps("QueryFinalised"):
        return
    if case.facts.kind != KIND_CHECK:
        size, minimum = plan.aggregate.minimum_group_size, case.facts.inputs.minimum_group
        yield Check("minimum group", THE_CHAIN, size == minimum, f"{size} rows")
    votes = [step.fields["detail"] for step in case.steps("QueryStep", "group check")]
    members, threshold = len(case.table.members), case.table.sharing.threshold
    yes, no = votes.count("yes"), votes.count("no")
    passed, failed = yes >= threshold, no > members - threshold
    if case.facts.kind == KIND_CHECK:
        said = case.ending() == PASSED_CHECK, case.ending() == FAILED_CHECK
    else:
        said = bool(case.steps("QueryStep", "approved")), case.ending() == "group too small"
    outcome = "passed" if said[0] else "refused" if said[1] else "undecided"
    detail = f"{yes} yes, {no} no, {threshold} needed: {outcome}"
    yield Check("groups", THE_CHAIN, said == (passed, failed), detail)


def _ending(case: Case) -> Iterator[Check]:
    same = case.ending() == case.facts.ending
    yield Check("ending", THE_NODE, same, case.facts.ending or "not ended")


async def _results(case: Case, plan: Plan, engine: Recompute) -> list[Check]:
    checks: list[Check] = []
    facts, wrong, absent = case.facts, set[str](), set[str]()
    for index in range(facts.chunk_count + 1):
        steps = [step for step in case.steps("ChunkStep") if step.fields["index"] == index]
        stated = {
            str(step.fields["organisation"]): bytes(step.fields["value"])
            for step in steps
            if step.fields["step"] == "revealed"
        }
        if not stated:
            continue
        name = f"chunk {index}" if index < facts.chunk_count else "result"
        try:
            own = await engine.recompute(facts.query, index, plan.encode())
            # Who adds up others' wrong chunks rightly did nothing wrong.
            last = index == facts.chunk_count and bool(case.steps("QueryFinalised"))
            due = await engine.reduced(facts.query) if last else own
        except InputFault as fault:
            return [*checks, _input_fault(case, fault)]
        except ChainnodeError as error:
            return [*checks, Check(name, THE_NODE, False, f"not computed: {error}")]
        workers = chunk_workers(case.table.members, facts.query, index)
        absent |= set(workers[: results_needed(len(workers))]) - set(stated)
        wrong |= {who for who, value in stated.items() if value != due}
        final = [bytes(s.fields["value"]) for s in steps if s.fields["step"] == "final"]
        checks.append(_judged(case, name, stated, own, due, final))
    named, late = case.named(WRONG), case.named(LATE)
    checks += [Check("wrong results", who, who in named, WRONG) for who in sorted(wrong)]
    checks += [Check("fault", who, False, f"named without cause: {WRONG}") for who in named - wrong]
    checks += [Check("late workers", who, who in absent, LATE) for who in sorted(late)]
    return checks


def _judged(
    case: Case, name: str, stated: dict[str, bytes], own: bytes, due: bytes, final: Sequence[bytes]
) -> Check:
    """One chunk: whether what became final is right and was stated often enough."""
    equal = sorted(who for who, value in stated.items() if value == own)
    needed = results_needed(len(case.table.members))
    if not final:
        return Check(name, THE_CHAIN, len(equal) < needed, f"not final; right: {listed(equal)}")
    if final[-1] != own:
        liars = {who for who, value in stated.items() if value == final[-1] != due}
        detail = f"final is {final[-1].hex()}, computed {own.hex()}"
        return Check(name, listed(liars) or "the workers of its chunks", False, detail)
    enough = len(equal) >= needed
    return Check(name, THE_CHAIN, enough, f"{own.hex()[:16]} by {listed(equal)}, {needed} needed")


def _refusers(case: Case) -> Iterator[Check]:
    """Who found unfit what a result was computed from all the same."""
    words: dict[str, str] = {}
    for step in case.own:
        if step.name == "QueryFinalised":
            break
        if step.fields.get("step") == "input refused by a member":
            words[str(step.fields["organisation"])] = str(step.fields["detail"]).split()[0]
    else:
        words = {}
    guilty = {name for name, code in words.items() if code not in GONE}
    named = case.named(WITHOUT_CAUSE)
    if guilty or named:
        detail = f"{listed(guilty) or 'nobody'}; named: {listed(named) or 'nobody'}"
        wrong = listed(guilty ^ named) or listed(guilty)
        yield Check(WITHOUT_CAUSE, wrong, guilty == named, detail)


def _rules(case: Case) -> Iterator[Check]:
    """Faults that the contract has no rule for."""
    for step in case.steps("MemberFault"):
        fault, who = str(step.fields["fault"]), str(step.fields["organisation"])
        if step.fields["shown_by"] == "contract" and fault not in CONTRACT_FAULTS:
            yield Check("fault", who, False, f"no rule of the contract names anybody for: {fault}")


async def _refused(case: Case, engine: Recompute) -> Check:
    """A query that members ended for what it reads: whether that shows here too."""
    refusers = case.members("QueryStep", "input refused by a member")
    try:
        await engine.inspect(case.facts.query)
    except InputFault as fault:
        return _input_fault(case, fault)
    except ChainnodeError as error:
        return Check(REFUSED_INPUT, THE_NODE, False, f"not read: {error}")
    gone = any(code in GONE for _, code in _shown_faults(case))
    said = "can be had here; that it could not then is their word" if gone else "is sound"
    return Check(REFUSED_INPUT, listed(refusers), gone, f"what the query reads {said}")


def _input_fault(case: Case, fault: InputFault) -> Check:
    """What cannot be computed on: the chain must have ended the query for just that."""
    shown = (fault.owner, fault.code) in _shown_faults(case)
    # What this node has not, another one may have; who registered a model stands in its receipt.
    who = THE_NODE if fault.code in GONE and not shown else fault.owner
    if fault.code in POINTS and case.registrar(fault.root) != fault.owner:
        who, shown = THE_NODE, False
    return Check(REFUSED_INPUT, who, shown, str(fault))


def _shown_faults(case: Case) -> set[tuple[str, str]]:
    """Whom the members that refused named, and for which code."""
    return {
        (str(step.fields["organisation"]), str(step.fields["fault"]))
        for step in case.steps("MemberFault")
        if step.fields["shown_by"] == REFUSERS
    }
