"""Rule 4, normal form: a condition to an integer polynomial that is 1 where it is true.

NOT is pushed to the comparisons first, each of which knows where it is true and where it is false;
a missing value is in neither, as SQL wants.
"""

from __future__ import annotations

from chainnode.he.planner.polynomial import ONE, Polynomial, add, multiply
from chainnode.he.planner.tree import Bound, Connective, Predicate
from chainnode.types.errors import InternalError


def condition(node: Predicate | None) -> Polynomial:
    """The polynomial that is 1 on the rows where the condition is true and 0 elsewhere.

    Raises:
        ClientFault: `PLAN_TOO_DEEP` when it has too many terms to be worth planning.
    """
    return ONE if node is None else _build(node, False)


def _build(node: Predicate, negated: bool) -> Polynomial:
    if isinstance(node, Bound):
        return node.false if negated else node.true
    if not isinstance(node, Connective):
        raise InternalError("PREDICATE_UNBOUND", "a condition was not bound before planning")
    if node.operator == "not":
        return _build(node.parts[0], not negated)
    both = (node.operator == "and") != negated
    result = _build(node.parts[0], negated)
    for part in node.parts[1:]:
        other = _build(part, negated)
        product = multiply(result, other)
        result = product if both else add(add(result, other), product, -1)
    return result


def features(node: Predicate | None) -> set[str]:
    """SQL columns a bound condition depends on."""
    if isinstance(node, Bound):
        return set(node.features)
    if isinstance(node, Connective):
        return set().union(*[features(part) for part in node.parts])
    return set()
