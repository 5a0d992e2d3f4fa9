"""What a table's owner states about who may ask what: budgets, consents and its policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chainnode.he.planner.policy import OwnerRules
from chainnode.sdk.consents import pack_consent
from chainnode.sdk.scoring import ScoringChain, read_ids, read_table
from chainnode.types.errors import ClientFault

SCORING: Final = "credit scoring"
"""The purpose of consents and of questions that state no other."""


class AccessRules:
    """An owner's statements; every one is a transaction that anybody can read.

    Args:
        chain: signed access to the contract under the owner's identity.
    """

    def __init__(self, chain: ScoringChain) -> None:
        self.chain = chain

    async def grant(self, table: str, bank: str, budget: int) -> None:
        """Allow a bank that many queries, as one of the table's owners."""
        await self.chain.call("grant", table=table, bank=bank, budget=budget)

    async def set_consent(
        self,
        table: str,
        bank: str,
        ids: Iterable[str],
        purpose: str = SCORING,
        until_height: int = 0,
    ) -> None:
        """State which enterprises let this bank see their score, as one of the table's owners.

        Args:
            table: name.
            bank: organisation that may ask.
            ids: every enterprise that consents to this purpose; replaces what was stated of it.
            purpose: what the bank states when it asks; 1 to 256 bytes.
            until_height: last block at which a query may be submitted under it; 0 for no end.

        Raises:
            ClientFault: `ID_UNKNOWN`.
        """
        facts = await read_table(self.chain, table)
        registry = await read_ids(self.chain, facts)
        chosen = set(ids)
        unknown = sorted(chosen.difference(registry))
        if unknown:
            raise ClientFault(
                "ID_UNKNOWN", "not in the registry", subject=unknown[0], fix="correct the id"
            )
        bitmap = await self.chain.put_blob(pack_consent([name in chosen for name in registry]))
        consent = {"bitmap": bitmap, "until_height": until_height}
        await self.chain.call(
            "set_consent", table=table, bank=bank, purpose=purpose, consent=consent
        )

    async def set_policy(self, table: str, rules: OwnerRules, bank: str = "") -> None:
        """State what this owner allows queries on the table; the strictest owner's word counts.

        Args:
            table: name.
            rules: of this organisation; they replace those it stated before.
            bank: whom they are for; empty for every bank that has none of its own.

        Raises:
            ClientFault: `COLUMN_UNKNOWN`; `NOT_ALLOWED` for one that is no owner.
        """
        facts = await read_table(self.chain, table)
        known = {column.name.casefold() for column in facts.schema.columns}
        for name in rules.denied_columns:
            if name.casefold() not in known:
                raise ClientFault(
                    "COLUMN_UNKNOWN",
                    f"{table} has no such column",
                    subject=name,
                    fix="name a column of the schema",
                )
        policy = {
            "denied_columns": list(rules.denied_columns),
            "scores_allowed": rules.scores_allowed,
            "outputs_max": rules.outputs_max,
        }
        await self.chain.call("set_policy", table=table, bank=bank, policy=policy)
