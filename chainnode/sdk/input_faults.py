"""What is wrong with an owner's published columns, as evidence that others can check.

The evidence names the root on chain, so whoever reads the same columns finds the same fault, and a
query ends when as many organisations name it as make a result final. One word ends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainnode.types.errors import PeerFault

_MESSAGES = {
    "COLUMN_MALFORMED": "is no ciphertext of the profile",
    "COLUMN_MISSING": "is not among the published blocks",
    "COLUMNS_STALE": "has no columns of this epoch",
    "COLUMNS_REPLACED": "published others since, and those that this query reads are gone",
    "PROOF_UNKNOWN": "carries a proof of encryption that this version cannot check",
    "MANIFEST_MALFORMED": "the list of columns is not the one whose root is on chain",
}


class InputFault(PeerFault):
    """An owner's columns cannot be computed on; the bank's question had no part in it.

    Args:
        code: `COLUMN_MALFORMED`, `COLUMN_MISSING`, `COLUMNS_STALE`, `COLUMNS_REPLACED`,
            `MANIFEST_MALFORMED` or `PROOF_UNKNOWN`.
        owner: organisation that published them.
        profile: of the columns.
        root: of the publication, as on chain; zeros where there is none.
        column: stored name; empty where the whole publication is at fault.
        block: number in the column.
        reason: in words; what the code says if not given.
    """

    def __init__(
        self,
        code: str,
        owner: str,
        profile: str,
        root: bytes,
        column: str = "",
        block: int = 0,
        reason: str = "",
    ) -> None:
        self.owner, self.profile, self.root = owner, profile, root
        self.column, self.block = column, block
        place = f", block {block} of column {column}" if column else ""
        why = reason or _MESSAGES.get(code, "cannot be computed on")
        super().__init__(
            code,
            f"{owner}, {profile}{place}: {why}",
            subject=f"{owner}/{column}/{block}" if column else owner,
            fix="ask again: a new query reads the columns published since"
            if code == "COLUMNS_REPLACED"
            else f"{owner} must encrypt and publish its columns again; then ask again",
        )

    def evidence(self) -> dict[str, Any]:
        """As the contract takes it."""
        return {
            "code": self.code,
            "owner": self.owner,
            "profile": self.profile,
            "root": self.root,
            "column": self.column,
            "block": self.block,
        }

    @staticmethod
    def stated(evidence: Mapping[str, Any]) -> InputFault:
        """From the contract's record."""
        return InputFault(**evidence)
