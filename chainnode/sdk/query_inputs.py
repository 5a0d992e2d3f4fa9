"""What a query reads of the chain beside its plan: fixed at `submit`, bound by its terms.

Owners may publish columns and change consents at any time. A query reads those of the block it was
submitted in, so that every worker, keyholder and the bank, and whoever replays it, read the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chainnode.he.planner.policy import OwnerRules

NOTHING: Final = bytes(32)
_NO_RULES: Final = OwnerRules("")


@dataclass(frozen=True, slots=True)
class OwnerInput:
    """One owner's part.

    Args:
        owner: organisation.
        root: of its columns of the plan's profile; zeros for none.
        manifest: blob that lists them; zeros for none.
        block_count: of each column.
        consent: blob with one bit per row; zeros for none, or where single rows never go out.
        rules: what it allows the bank.
        audit_required: whether it demanded audits of all columns of the table.
        audited: whether an audit stood for these columns.
    """

    owner: str
    root: bytes = NOTHING
    manifest: bytes = NOTHING
    block_count: int = 0
    consent: bytes = NOTHING
    rules: OwnerRules = _NO_RULES
    audit_required: bool = False
    audited: bool = False


@dataclass(frozen=True, slots=True)
class QueryInputs:
    """All of it: the table's record, which never changes, and its owners' parts in their order."""

    schema_hash: bytes
    registry: bytes
    minimum_group: int
    owners: tuple[OwnerInput, ...]

    @staticmethod
    def stated(table: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> QueryInputs:
        """From the contract's view `query_inputs`."""
        owners = tuple(
            OwnerInput(
                owner,
                part["root"],
                part["manifest"],
                part["block_count"],
                part["consent"],
                _rules(owner, part["policy"]),
                part["audit_required"],
                part["audited"],
            )
            for owner, part in zip(table["owners"], inputs, strict=True)
        )
        return QueryInputs(
            bytes(table["schema_hash"]), bytes(table["registry"]), table["minimum_group"], owners
        )

    def of(self, owner: str) -> OwnerInput:
        """An owner's part; one without anything for an organisation that is no owner."""
        return next((part for part in self.owners if part.owner == owner), OwnerInput(owner))

    def table(self) -> tuple[tuple[str, ...], bytes, bytes]:
        """(owners, registry, schema hash): what a table's record must state to be the same."""
        return tuple(part.owner for part in self.owners), self.registry, self.schema_hash

    def policies(self) -> tuple[OwnerRules, ...]:
        """What each owner allowed the bank when the query was submitted."""
        return tuple(part.rules for part in self.owners)

    def hash(self, purpose: str) -> bytes:
        """As the contract computes it for the terms of a query of this purpose."""
        wanted = purpose.encode()
        bound = b"chainnode/query-inputs/v2" + self.schema_hash + self.registry
        bound += self.minimum_group.to_bytes(8, "big") + len(wanted).to_bytes(8, "big") + wanted
        for part in self.owners:
            name = part.owner.encode()
            bound += len(name).to_bytes(8, "big") + name + part.root + part.manifest
            bound += part.block_count.to_bytes(8, "big") + part.consent
            bound += rules_bytes(part.rules) + bytes([part.audit_required, part.audited])
        return hashlib.sha256(bound).digest()


def rules_bytes(rules: OwnerRules) -> bytes:
    """As the contract spells an owner's policy where it hashes it."""
    stated = bytes([rules.scores_allowed]) + rules.outputs_max.to_bytes(8, "big")
    stated += len(rules.denied_columns).to_bytes(8, "big")
    for column in rules.denied_columns:
        name = column.encode()
        stated += len(name).to_bytes(8, "big") + name
    return stated


def read_policies(
    owners: Sequence[str], stated: Sequence[Mapping[str, Any]]
) -> tuple[OwnerRules, ...]:
    """From the contract's view `policies_of`, in the table's order."""
    return tuple(_rules(owner, policy) for owner, policy in zip(owners, stated, strict=True))


def _rules(owner: str, policy: Mapping[str, Any]) -> OwnerRules:
    return OwnerRules(
        owner,
        tuple(policy["denied_columns"]),
        policy["scores_allowed"],
        policy["outputs_max"],
    )
