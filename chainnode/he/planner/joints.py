"""Rule 6, joints: bins of columns that an owner also stores in combination cost one factor."""

from __future__ import annotations

from chainnode.he.planner.polynomial import MISSING, VALUE, Monomial, Polynomial
from chainnode.he.schema import Joint, TableSchema


def with_joints(terms: Polynomial, schema: TableSchema) -> Polynomial:
    """The same polynomial with every combination a joint holds read from the joint."""
    if not schema.joints:
        return terms
    joints = sorted(schema.joints, key=lambda item: (-len(item.columns), item.name))
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms.items():
        for joint in joints:
            monomial = _combined(monomial, joint, schema)
        value = total.pop(monomial, 0) + coefficient
        if value:
            total[monomial] = value
    return total


def _combined(monomial: Monomial, joint: Joint, schema: TableSchema) -> Monomial:
    bins = {name: index for name, index in monomial if index != VALUE}
    if any(name not in bins for name in joint.columns):
        return monomial
    place = 0
    for name, count in zip(joint.columns, schema.joint_shape(joint), strict=True):
        place = place * count + (count - 1 if bins[name] == MISSING else bins[name])
    rest = [item for item in monomial if item[0] not in joint.columns or item[1] == VALUE]
    return tuple(sorted([*rest, (joint.name, place)]))
