"""What a replay derives of shares: commitments opened or not, shares of wrong form, wrong copies.

Receipts hold what members committed to and the hashes they stated. Holders of a piece of the key
compute the same bytes (ADR 9), so unequal hashes show a wrong share to anyone, without a key. What
only a key shows - the shares of sums and counts, which are sealed, and what equal copies open to -
is listed as not derived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from chainnode.he import threshold
from chainnode.he.engine import validate_result
from chainnode.he.plan import Plan
from chainnode.sdk.replay_case import SILENT, THE_CHAIN, THE_NODE, Case, Check, listed
from chainnode.sdk.scoring import KIND_SCORES, ScoringChain, Step
from chainnode.types.errors import ClientFault, PeerFault

UNCOMMITTED: Final = "share not committed in time"
NOT_COMMITTED: Final = "share is not the one committed"
STALE: Final = "stale epoch"
FOR_ANOTHER: Final = "share for another query"
MALFORMED: Final = "malformed share"
WRONG_SHARE: Final = "wrong share"
DISPUTED: Final = "disputed share"
ANSWERED: Final = "answered"
TOO_FEW: Final = "too few right shares"
_UNCOUNTED: Final = (NOT_COMMITTED, STALE, FOR_ANOTHER, MALFORMED)
SHARE_FAULTS: Final = (UNCOMMITTED, *_UNCOUNTED, WRONG_SHARE, DISPUTED)
_STATED: Final = "ShareStated"
_COMMITTED: Final = "ShareCommitted"

Hashes = dict[str, dict[int, bytes]]
"""Member to the hash of its share of each piece it holds."""


class Unreadable(NamedTuple):
    """Why nobody can open a share.

    Args:
        reason: in words, with the piece.
        lost: no node has its bytes, which may have been otherwise.
    """

    reason: str
    lost: bool


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of a query, judged by what their members stated.

    Args:
        good: of members whose share counts.
        faults: members by what the contract must have named them for.
    """

    good: Hashes = field(default_factory=dict)
    faults: dict[str, set[str]] = field(default_factory=dict)

    def blame(self, fault: str, member: str) -> None:
        """Note what a member must have been named for."""
        self.faults.setdefault(fault, set()).add(member)


def related(steps: Sequence[Step], query: bytes) -> set[bytes]:
    """The transactions of other queries in which a member stated a hash that it states here too.

    Args:
        steps: of the contract, in order.
        query: 32-byte id.
    """
    stated = [step for step in steps if step.name == _STATED]
    mine = {item for step in stated if step.fields["query"] == query for item in _hashes(step)}
    return {step.tx_id for step in stated if mine.intersection(_hashes(step))}


async def share_checks(chain: ScoringChain, case: Case, plan: Plan) -> list[Check]:
    """Everything about shares that the chain recorded of a query, against what is derived here.

    Args:
        chain: any node's view; used for bytes that are checked.
        case: the query's proven steps.
        plan: of its text.
    """
    shares, released = judge(case), bool(case.steps("QueryStep", "released"))
    checks = [*_counts(case), *_stated(case, shares), *_copies(case, shares, released)]
    unreadable: dict[str, Unreadable] = {}
    if released:
        if case.facts.kind == KIND_SCORES:
            found, unreadable = await _bytes(chain, case, plan, shares.good)
            checks += found
        checks.append(_opened(case))
    checks += _members(case, shares, released)
    checks += _accusations(case, shares, unreadable)
    return checks


def judge(case: Case) -> Shares:
    """Which shares of a query count, and what is wrong with the others, by the contract's rules."""
    final = case.steps("QueryFinalised")
    result = bytes(final[-1].fields["result"]) if final else b""
    commits = {
        str(step.fields["organisation"]): bytes(step.fields["commitment"])
        for step in case.steps(_COMMITTED)
    }
    refused = {
        step.tx_id
        for step in case.proven
        if step.name == "MemberFault" and step.fields["fault"] in _UNCOUNTED
    }
    shares, known = Shares(), dict[tuple[str, bytes], bytes]()
    for step in case.proven:
        if step.name != _STATED:
            continue
        fault = ""
        if step.fields["query"] == case.facts.query:
            fault = _fault(case, shares, step, commits, result, known)
            _count(shares, step, fault)
        elif step.tx_id in refused:
            fault = "it did not count"
        if not fault:
            known |= dict.fromkeys(_hashes(step), bytes(step.fields["result"]))
    return shares


def _fault(
    case: Case,
    shares: Shares,
    step: Step,
    commits: Mapping[str, bytes],
    result: bytes,
    known: Mapping[tuple[str, bytes], bytes],
) -> str:
    """Why a share does not count; empty if it does."""
    name, facts = str(step.fields["organisation"]), case.facts
    digests = [bytes(item) for item in step.fields["digests"]]
    stated = bytes(step.fields["result"])
    if facts.kind == KIND_SCORES and name not in commits:
        shares.blame(UNCOMMITTED, name)
    elif facts.kind == KIND_SCORES:
        opened = threshold.share_commitment(facts.query, stated, digests, name)
        if opened != commits[name]:
            return NOT_COMMITTED
    if step.fields["epoch"] != facts.epoch:
        return STALE
    if stated != result:
        return FOR_ANOTHER
    wanted = [32 if name in holders else 0 for holders in case.table.sharing.pieces]
    if [len(item) for item in digests] != wanted:
        return MALFORMED
    if any(known.get(item, stated) != stated for item in _hashes(step)):
        return FOR_ANOTHER
    return ""


def _count(shares: Shares, step: Step, fault: str) -> None:
    name = str(step.fields["organisation"])
    if fault:
        shares.blame(fault, name)
        return
    digests = [bytes(item) for item in step.fields["digests"]]
    shares.good[name] = {place: digest for place, digest in enumerate(digests) if digest}


def _hashes(step: Step) -> set[tuple[str, bytes]]:
    name = str(step.fields["organisation"])
    return {(name, bytes(item)) for item in step.fields["digests"] if item}


def _stated(case: Case, shares: Shares) -> Iterator[Check]:
    """Commitments and forms: who must be named for what, and nobody else."""
    shown = case.facts.kind == KIND_SCORES and bool(case.steps(_STATED))
    for what, fault, verb, always in (
        ("share commitments", UNCOMMITTED, "was late", shown),
        ("opened commitments", NOT_COMMITTED, "showed another share", shown),
        ("form of shares", STALE, f"gave a share of a {STALE}", False),
        ("form of shares", FOR_ANOTHER, f"gave a {FOR_ANOTHER}", False),
        ("form of shares", MALFORMED, f"gave a {MALFORMED}", False),
    ):
        if always or shares.faults.get(fault) or case.named(fault):
            yield _named(case, shares, what, fault, verb)


def _named(case: Case, shares: Shares, what: str, fault: str, verb: str) -> Check:
    guilty, named = shares.faults.get(fault, set()), case.named(fault)
    detail = f"{listed(guilty) or 'nobody'} {verb}; named: {listed(named) or 'nobody'}"
    return Check(what, listed(guilty ^ named) or THE_CHAIN, guilty == named, detail)


def _copies(case: Case, shares: Shares, released: bool) -> Iterator[Check]:
    """Whose copy of a piece's share differs from the other holders'; judged at the release."""
    sharing = case.table.sharing
    named = case.named(WRONG_SHARE), case.named(DISPUTED)
    if not released:
        for name in sorted(named[0] | named[1]):
            yield Check("equal shares", name, False, "named though nothing was released")
        return
    guilty = set(threshold.suspects(sharing, shares.good))
    derived = (guilty, set[str]()) if len(guilty) == 1 else (set[str](), guilty)
    pairs = threshold.disagreements(sharing, shares.good)
    differ = "; ".join(f"{one} and {other} differ" for one, other in pairs)
    shown = listed(named[0] | named[1]) or "nobody"
    detail = f"{differ or 'all copies are equal'}; named: {shown}"
    wrong = (derived[0] ^ named[0]) | (derived[1] ^ named[1])
    yield Check("equal shares", listed(wrong) or THE_CHAIN, derived == named, detail)


async def _bytes(
    chain: ScoringChain, case: Case, plan: Plan, good: Hashes
) -> tuple[list[Check], dict[str, Unreadable]]:
    """The shares of a vector that can be had: each is what was hashed, and of a share's shape.

    Returns the checks, and whose share nobody can open, with the reason."""
    sharing, query, bank = case.table.sharing, case.facts.query, case.facts.bank
    seen, checks, unreadable = set[bytes](), list[Check](), dict[str, Unreadable]()
    for place, holders in enumerate(sharing.pieces):
        for name in holders:
            digest = good.get(name, {}).get(place, b"")
            if not digest or digest in seen:
                continue
            seen.add(digest)
            # As the bank does: who was to upload the share answers for it, if it stated this one.
            giver = threshold.giver(sharing, place, query)
            guilty = giver if good.get(giver, {}).get(place) == digest else name
            piece = f"piece of {sharing.label(place)}"
            try:
                validate_result(plan, await chain.get_blob(digest))
            except ClientFault as error:
                if error.code != "BLOB_NOT_FOUND":
                    raise
                reason = f"{piece}: no node has the share's bytes"
                unreadable.setdefault(guilty, Unreadable(reason, lost=True))
            except PeerFault as error:
                if error.code == "BLOB_HASH_WRONG":
                    who, detail = THE_NODE, f"{piece}: {error.message}"
                    checks.append(Check("share bytes", who, False, detail))
                    continue
                unreadable.setdefault(guilty, Unreadable(f"{piece}: {error.message}", lost=False))
    for name, (reason, lost) in unreadable.items():
        # A bank opens nothing with such a share: an answer means that this node lost its bytes.
        matches = case.ending() != ANSWERED
        who = name if matches else THE_NODE if lost else bank
        checks.append(Check("share bytes", who, matches, f"{name}, {reason}", derived=not lost))
    if not checks:
        detail = f"{len(seen)} shares have the hashes stated and the shape of a share"
        checks.append(Check("share bytes", THE_CHAIN, True, detail))
    return checks, unreadable


def _opened(case: Case) -> Check:
    """What nobody can derive of a release."""
    bank = case.facts.bank
    if case.facts.kind == KIND_SCORES:
        detail = f"what equal shares open to: only {bank}'s key shows it"
    else:
        detail = f"that shares are what their hashes say, and what they open to: sealed to {bank}"
    return Check("opened shares", bank, True, detail, derived=False)


def _counts(case: Case) -> Iterator[Check]:
    voters = case.members("QueryStep", "group check")
    if voters:
        detail = "counts and their shares are sealed to the members: each vote is its member's word"
        yield Check("counts", listed(voters), True, detail, derived=False)


def _members(case: Case, shares: Shares, released: bool) -> Iterator[Check]:
    """Who was silent, where silence ended or outlasted the release, and whether enough were not."""
    enough = len(shares.good) >= case.table.sharing.threshold
    if released or case.ending() == TOO_FEW:
        detail = f"by {listed(shares.good) or 'nobody'}"
        yield Check("shares", THE_CHAIN, enough == released, detail)
    approved = bool(case.steps("QueryStep", "approved"))
    if not approved or not (released or case.ending() == "deadline"):
        return
    silent = set(case.table.members) - case.members("QueryStep", "share")
    silent -= case.members("QueryStep", "refused by a member")
    named = case.named(SILENT)
    yield Check(
        "silent members",
        listed(silent ^ named) or THE_CHAIN,
        silent == named,
        f"{listed(silent) or 'nobody'} gave no share; named: {listed(named) or 'nobody'}",
    )


def _accusations(
    case: Case, shares: Shares, unreadable: Mapping[str, Unreadable]
) -> Iterator[Check]:
    """What the bank or a keyholder said of a member: shown here, its word, or contradicted."""
    accusers = {case.facts.bank, *case.table.members}
    suspects = threshold.suspects(case.table.sharing, shares.good)
    for step in case.steps("MemberFault"):
        accuser, accused = str(step.fields["shown_by"]), str(step.fields["organisation"])
        if accuser not in accusers:
            continue
        said = f"{accuser} says {step.fields['fault']}"
        if "count share" in str(step.fields["fault"]):
            gave = accused in case.members("QueryStep", "counts")
            word = "it was sealed to the members" if gave else "there was none"
            yield Check(
                "accusation",
                accused if gave else accuser,
                gave,
                f"{said}; {word}",
                derived=not gave,
            )
        elif step.fields["fault"] not in (WRONG_SHARE, DISPUTED):
            yield Check("accusation", accused, True, f"{said}; its word", derived=False)
        elif accused not in shares.good:
            yield Check("accusation", accuser, False, f"{said}; it gave no share that counts")
        elif accused in unreadable:
            reason, lost = unreadable[accused]
            yield Check("accusation", accused, True, f"{said}; {reason}", derived=not lost)
        elif accused in suspects and (len(suspects) == 1 or step.fields["fault"] == DISPUTED):
            yield Check("accusation", accused, True, f"{said}; its copy differs from the others'")
        elif accused in suspects:
            detail = f"{said}; of {listed(suspects)} one is wrong: which one, only its key shows"
            yield Check("accusation", accused, True, detail, derived=False)
        elif suspects and case.facts.kind == KIND_SCORES:
            yield Check("accusation", accuser, False, f"{said}; wrong is {listed(suspects)}")
        else:
            detail = f"{said}; no copies of its shares differ: only a key shows it"
            yield Check("accusation", accused, True, detail, derived=False)
