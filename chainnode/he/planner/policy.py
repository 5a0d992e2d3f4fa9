"""Rule 3b, policy: what the contract allows on a table, checked before any work is planned."""

from __future__ import annotations

from typing import Final

import msgspec

from chainnode.he.planner.aggregate import used
from chainnode.he.planner.bind import BoundQuery
from chainnode.he.planner.normal_form import features
from chainnode.he.planner.tree import Arithmetic, Case, Number, Value
from chainnode.types.errors import ClientFault

OUTPUTS_ALLOWED: Final = 64
"""Scalars a query may have opened if an owner states nothing else, as in the contract."""


class OwnerRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one owner of a table allows.

    Args:
        owner: organisation.
        denied_columns: SQL columns no aggregate may use.
        scores_allowed: whether `CREDIT_SCORE` may be asked.
        outputs_max: most scalars one query may have opened.
    """

    owner: str
    denied_columns: tuple[str, ...] = ()
    scores_allowed: bool = True
    outputs_max: int = OUTPUTS_ALLOWED


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the contract allows on a table: every owner's rules hold, so the strictest does.

    Args:
        minimum_group_size: smallest count whose answer is released.
        outputs_max: most scalars one query may have opened where no owner has stated rules.
        owners: each owner's rules.
    """

    minimum_group_size: int = 10
    outputs_max: int = OUTPUTS_ALLOWED
    owners: tuple[OwnerRules, ...] = ()


def check(bound: BoundQuery, policy: Policy) -> None:
    """Refuse what the policy forbids.

    Raises:
        ClientFault: `POLICY_DENIED` naming the column or function, the owner and its rule.
    """
    if bound.query.score is not None:
        for rules in policy.owners:
            if not rules.scores_allowed:
                raise denied("CREDIT_SCORE", rules.owner, "scores are not allowed")
        return
    names = sorted(used_columns(bound))
    for rules in policy.owners:
        denied_names = {name.casefold() for name in rules.denied_columns}
        for name in names:
            if name.casefold() in denied_names:
                raise denied(name, rules.owner, "the column is denied to queries")


def check_outputs(planned: int, policy: Policy) -> None:
    """Refuse a query that would have more scalars opened than an owner allows.

    Raises:
        ClientFault: `POLICY_DENIED`.
    """
    all_owners = OwnerRules("the table's owners", outputs_max=policy.outputs_max)
    for rules in policy.owners or (all_owners,):
        if planned > rules.outputs_max:
            reason = f"at most {rules.outputs_max} are allowed a query"
            raise denied(f"{planned} opened scalars", rules.owner, reason)


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


def denied(subject: str, owner: str, rule: str) -> ClientFault:
    """The refusal of something that an owner's policy forbids."""
    return ClientFault(
        "POLICY_DENIED",
        f"by the policy of {owner}: {rule}",
        subject=subject,
        fix=f"ask {owner} for another policy (chainnode he set-policy), or leave it out",
    )
