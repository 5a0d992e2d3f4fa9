"""Rule 3b, policy: what the contract allows on a table, checked before any work is planned."""

from __future__ import annotations

import msgspec

from chainnode.he.planner.aggregate import used
from chainnode.he.planner.bind import BoundQuery
from chainnode.he.planner.normal_form import features
from chainnode.he.planner.tree import Arithmetic, Case, Number, Value
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
    if bound.query.score is not None:
        if not policy.scores_allowed:
            raise denied("CREDIT_SCORE", "the table's policy does not allow scores")
        return
    denied_names = {name.casefold() for name in policy.denied_columns}
    for name in sorted(used_columns(bound)):
        if name.casefold() in denied_names:
            raise denied(name, "the table's policy does not allow the column in queries")


def used_columns(bound: BoundQuery) -> set[str]:
    """SQL columns a query depends on, the model's features left out."""
    names = features(bound.query.where)
    names.update(group.column.column for group in bound.query.groups)
    for aggregate in used(bound):
        names |= features(aggregate.where)
        if aggregate.argument is not None:
            names |= _number_columns(aggregate.argument)
    return names


def _number_columns(node: Number) -> set[str]:
    if isinstance(node, Value):
        return {node.column.column}
    if isinstance(node, Arithmetic):
        return _number_columns(node.left) | _number_columns(node.right)
    if isinstance(node, Case):
        names = set() if node.otherwise is None else _number_columns(node.otherwise)
        for condition, value in node.branches:
            names |= features(condition) | _number_columns(value)
        return names
    return set()


def denied(subject: str, reason: str) -> ClientFault:
    """The refusal of something the contract forbids."""
    return ClientFault(
        "POLICY_DENIED",
        reason,
        subject=subject,
        fix="ask the table's owners for an on-chain policy change, or leave it out",
    )
