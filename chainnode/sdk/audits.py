"""What organisations said on chain about one another's columns, and who may be asked about them.

An owner of a table can require audits: then nothing is opened of columns unless more members passed
their publication than failed it. One member's word can neither keep bad columns in nor sound ones
out against another's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from chainnode.he.checks import CheckStatement
from chainnode.he.plan import Plan
from chainnode.he.profiles import ProfileName
from chainnode.sdk.query_progress import POLL_S
from chainnode.sdk.scoring import (
    CLOSED,
    ContractRefused,
    QueryFacts,
    ScoringChain,
    TableFacts,
    make_plan,
    plan_shape,
    read_table,
)
from chainnode.types.errors import ClientFault, PeerFault


@dataclass(frozen=True, slots=True)
class AuditStanding:
    """What was said about an owner's columns of a profile as they are published now.

    Args:
        owner: who published them.
        profile: of the columns.
        root: of the publication; empty where there is none.
        passed: members that found them honest.
        failed: members that did not.
        check: what the council's check of their sums found: `passed`, `failed`, or empty for none.
    """

    owner: str
    profile: ProfileName
    root: bytes
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    check: str = ""

    @property
    def is_audited(self) -> bool:
        """Whether more members passed the columns than failed them, and the council's check did
        not fail."""
        return len(self.passed) > len(self.failed) and self.check != "failed"


class UnauditedColumns(ClientFault):
    """A plan reads columns that no audit stands for, of a table whose owners require one.

    Args:
        table: name.
        found: what was said about the columns.
        told: the same in words; derived if not given.
    """

    def __init__(self, table: str, found: AuditStanding, told: str = "") -> None:
        told = told or _told(found)
        super().__init__(
            "COLUMNS_UNAUDITED",
            f"{table} opens audited columns only, and of {found.owner}'s in {found.profile} {told}",
            subject=f"{found.owner}/{found.profile}",
            fix=f"{found.owner}: chainnode he open; then another member: chainnode he "
            f"verify-openings --owner {found.owner} --record",
        )
        self.standing = found


def _told(found: AuditStanding) -> str:
    if found.check == "failed":
        return "the council's check of their sums failed"
    told = f"{', '.join(found.failed)} failed them" if found.failed else "nobody audited them"
    return told + (f", {', '.join(found.passed)} passed them" if found.passed else "")


class MismatchedCheck(PeerFault):
    """A check's statement is about other columns than the contract will give the verdict on.

    Args:
        owner: whose columns the contract knows the check for.
        query: id of the check.
    """

    def __init__(self, owner: str, query: bytes) -> None:
        super().__init__(
            "CHECK_MISMATCH",
            f"the statement is not about {owner}'s columns that it was submitted for",
            subject=query.hex(),
            fix="submit the check again with a client of this version",
        )


async def published_roots(
    chain: ScoringChain, table: TableFacts, profile: ProfileName, epoch: int
) -> dict[str, bytes]:
    """Owner to the root of its latest columns; owners without any of this epoch are left out."""
    found: dict[str, bytes] = {}
    for owner in table.owners:
        with suppress(ContractRefused):
            record = await chain.view(
                "columns_of", table=table.schema.table, owner=owner, profile=profile, epoch=epoch
            )
            found[owner] = bytes(record["root"])
    return found


async def standing(
    chain: ScoringChain, table: str, owner: str, profile: ProfileName, root: bytes
) -> AuditStanding:
    """What was said about an owner's columns of a profile, by their root."""
    passed, failed = await chain.view(
        "audits_of", table=table, owner=owner, profile=profile, root=root
    )
    check = await chain.view("check_verdict", table=table, owner=owner, profile=profile, root=root)
    return AuditStanding(owner, profile, root, tuple(passed), tuple(failed), check)


async def require_checkable(chain: ScoringChain, facts: QueryFacts) -> None:
    """Refuse a check of other columns than it says, or of columns that no audit stands for.

    A check opens sums of ciphertexts under the joint key: of malformed ones that could leak it, so
    an audit comes first, whether or not the table's owners require one.

    Raises:
        UnauditedColumns: naming the owner.
        MismatchedCheck: naming the owner the contract knows.
    """
    statement = CheckStatement.read(facts.sql)
    owner = await chain.view("check_owner", query=facts.query)
    asked = facts.table, owner, facts.profile, facts.inputs.of(owner).root
    if statement is None or asked != (
        statement.table,
        statement.owner,
        statement.profile,
        statement.root,
    ):
        raise MismatchedCheck(owner, facts.query)
    if not facts.inputs.of(owner).audited:
        raise _unaudited(facts, owner, statement.profile)


def require_pinned_audits(facts: QueryFacts, table: TableFacts, plan: Plan) -> None:
    """Refuse a query that reads unaudited columns, where an owner required audits.

    Demands and audits are those of the query's submission, so that all members judge alike.

    Args:
        facts: of the query.
        table: of the plan.
        plan: names the columns.

    Raises:
        UnauditedColumns: naming the first such owner and the next step.
    """
    if not any(part.audit_required for part in facts.inputs.owners):
        return
    for owner in _owners_read(table, plan):
        if not facts.inputs.of(owner).audited:
            raise _unaudited(facts, owner, plan.profile)


def _owners_read(table: TableFacts, plan: Plan) -> Iterator[str]:
    read = set(plan.columns())
    for owner in table.owners:
        if not read.isdisjoint(table.schema.stored_columns(plan.profile, owner)):
            yield owner


def _unaudited(facts: QueryFacts, owner: str, profile: ProfileName) -> UnauditedColumns:
    found = AuditStanding(owner, profile, facts.inputs.of(owner).root)
    return UnauditedColumns(facts.table, found, "no audit stood when the query was submitted")


async def check_columns(
    chain: ScoringChain,
    table: str,
    owner: str,
    profile: ProfileName,
    timeout_s: float = 120.0,
) -> tuple[Plan, AuditStanding]:
    """Have the council check an owner's published columns, and wait for its verdict.

    Args:
        chain: as a client or admin of a member.
        table: name.
        owner: whose columns.
        profile: of the columns.
        timeout_s: how long to wait.

    Returns:
        What was checked, and the standing of the columns after it.

    Raises:
        UnauditedColumns: no audit stands for the columns; nothing was asked.
        PeerFault: `COLUMNS_FAILED`, naming the owner; `CHECK_REFUSED` or `QUERY_TIMEOUT`.
        ClientFault: `NOTHING_TO_CHECK`, `COLUMNS_NOT_PUBLISHED`, or the contract refused.
    """
    epoch = int(await chain.view("latest_active_epoch"))
    facts = await read_table(chain, table, epoch)
    root = (await published_roots(chain, facts, profile, epoch)).get(owner)
    if root is None:
        raise ClientFault(
            "COLUMNS_NOT_PUBLISHED",
            f"{owner} published no {profile} columns of epoch {epoch}",
            subject=table,
            fix="the owner must encrypt and publish its columns for the active epoch",
        )
    before = await standing(chain, table, owner, profile, root)
    if not before.is_audited:
        raise UnauditedColumns(table, before)
    statement = CheckStatement(table, owner, profile, root).text()
    plan, query = make_plan(facts, statement), secrets.token_bytes(32)
    ask = {
        "table": table,
        "epoch": epoch,
        **plan_shape(plan),
        "purpose": "",
        "plan_hash": plan.hash(),
        "reply_key": bytes(32),
        "target_key": bytes(32),
    }
    await chain.call("submit_check", query=query, ask=ask, owner=owner, statement=statement)
    ending = await _ending(chain, query, timeout_s)
    after = await standing(chain, table, owner, profile, root)
    _require_verdict(after, query, ending)
    return plan, after


def _require_verdict(found: AuditStanding, query: bytes, ending: str) -> None:
    if found.check == "failed":
        raise PeerFault(
            "COLUMNS_FAILED",
            f"{found.owner}'s columns in {found.profile} are not what they claim: sums that must "
            "be zero are not",
            subject=f"{found.owner}/{found.profile}",
            fix=f"{found.owner} must publish honest columns; have it opened: chainnode he open",
        )
    if found.check != "passed":
        raise PeerFault(
            "CHECK_REFUSED",
            f"the check ended without a verdict: {ending}",
            subject=query.hex(),
            fix="read its steps: chainnode he audit",
        )


async def _ending(chain: ScoringChain, query: bytes, timeout_s: float) -> str:
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                status, _, ending = await chain.view("query_state", query=query)
                if status >= CLOSED:
                    return str(ending)
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise PeerFault(
            "QUERY_TIMEOUT",
            f"no verdict after {timeout_s:g} s",
            subject=query.hex(),
            fix="look at the workers and keyholders; the check stays on chain until it expires",
        ) from None


async def require_audited(
    chain: ScoringChain, table: TableFacts, plan: Plan, roots: Mapping[str, bytes]
) -> None:
    """Tell a bank before it asks that its plan reads columns which audits are required of.

    Args:
        chain: where it is read.
        table: of the plan.
        plan: names the columns.
        roots: owner to the root of the columns that are read.

    Raises:
        UnauditedColumns: naming the first such owner and the next step.
    """
    name = table.schema.table
    if not await chain.view("audits_required", table=name):
        return
    for owner in _owners_read(table, plan):
        found = AuditStanding(owner, plan.profile, b"")
        if owner in roots:
            found = await standing(chain, name, owner, plan.profile, roots[owner])
        if not found.is_audited:
            raise UnauditedColumns(name, found)


async def record(
    chain: ScoringChain, table: str, found: AuditStanding, epoch: int, passed: bool, detail: str
) -> None:
    """Say on chain what an audit of these columns found.

    Args:
        chain: as a member other than the owner.
        table: name.
        found: the columns, by their root.
        epoch: of the columns.
        passed: whether they are honest as far as was looked.
        detail: how far that was, or what is wrong.
    """
    await chain.call(
        "record_audit",
        table=table,
        owner=found.owner,
        profile=found.profile,
        epoch=epoch,
        root=found.root,
        passed=passed,
        detail=detail,
    )
