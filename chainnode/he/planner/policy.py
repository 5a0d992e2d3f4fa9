"""Rule 3, policy: what the contract allows on a table, checked before any work is planned."""

from __future__ import annotations

import msgspec

from chainnode.he.planner.tree import Bound, BoundQuery, Connective, Predicate
from chainnode.types.errors import ClientFault


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the contract allows on a table.

    Args:
        minimum_group_size: smallest count whose answer is released.
        denied_columns: SQL columns no aggregate may use.
        scores_allowed: whether `CREDIT_SCORE` may be asked.
        outputs_max: most scalars one query may have opened.
    """

    minimum_group_size: int = 10
    denied_columns: tuple[str, ...] = ()
    scores_allowed: bool = True
    outputs_max: int = 64


def check(bound: BoundQuery, policy: Policy) -> None:
    """Refuse what the policy forbids.

    Raises:
        ClientFault: `POLICY_DENIED` naming the column or function.
    """
    if bound.is_score() and not policy.scores_allowed:
        raise denied("CREDIT_SCORE", "the table's policy does not allow scores")
    for name in sorted(used_columns(bound)):
        if name in policy.denied_columns:
            raise denied(name, "the table's policy does not allow the column in queries")


def used_columns(bound: BoundQuery) -> set[str]:
    """SQL columns a query depends on, the model's features left out."""
    names = _features(bound.where)
    if bound.query.group_by:
        names.add(bound.query.group_by)
    for item in bound.query.items:
        names.update(name for _, name in item.terms)
    return names


def _features(node: Predicate | None) -> set[str]:
    if isinstance(node, Bound):
        return {node.feature}
    if isinstance(node, Connective):
        return set().union(*[_features(part) for part in node.parts])
    return set()


def denied(subject: str, reason: str) -> ClientFault:
    """The refusal of something the contract forbids."""
    return ClientFault(
        "POLICY_DENIED",
        reason,
        subject=subject,
        fix="ask the table's owners for an on-chain policy change, or leave it out",
    )
