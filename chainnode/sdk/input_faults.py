"""What is wrong with what a query reads, as evidence that others can check.

The evidence names an owner's columns by their root on chain, the bank's own ciphertexts by the
plan that binds them, those of private points by the hash of their record on chain, and a consent
by the hash that its owner stated, so whoever reads the same finds the same fault, and a query ends
when as many organisations name it as make a result final. One word ends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chainnode.he.private_constants import SELECTORS_MALFORMED
from chainnode.he.private_points import POINTS_MALFORMED
from chainnode.types.errors import PeerFault

SELECTORS_MISSING: Final = "SELECTORS_MISSING"
_SELECTORS: Final = (SELECTORS_MALFORMED, SELECTORS_MISSING)
POINTS_MISSING: Final = "PRIVATE_POINTS_MISSING"
POINTS: Final = (POINTS_MALFORMED, POINTS_MISSING)
CONSENT_MALFORMED: Final = "CONSENT_MALFORMED"
CONSENT_MISSING: Final = "CONSENT_MISSING"
GONE: Final = ("COLUMNS_REPLACED", SELECTORS_MISSING, POINTS_MISSING, CONSENT_MISSING)
"""Faults of bytes that cannot be had: true at one moment and node, not at another."""

_MESSAGES = {
    "COLUMN_MALFORMED": "is no ciphertext of the profile",
    "COLUMN_MISSING": "is not among the published blocks",
    "COLUMNS_STALE": "has no columns of this epoch",
    "COLUMNS_REPLACED": "published others since, and those that this query reads are gone",
    "PROOF_UNKNOWN": "carries a proof of encryption that this version cannot check",
    "MANIFEST_MALFORMED": "the list of columns is not the one whose root is on chain",
    SELECTORS_MALFORMED: "the private constant is not encrypted as its plan needs",
    SELECTORS_MISSING: "no node has the ciphertexts that the private constant names",
    POINTS_MALFORMED: "the private points are not encrypted as their record says",
    POINTS_MISSING: "no node has the ciphertexts that the record of private points names",
    CONSENT_MALFORMED: "its consent has not one bit for every row",
    CONSENT_MISSING: "no node has the consent that it stated",
}

_POINTS_FIXES: Final = {
    POINTS_MALFORMED: "{} must encrypt the points again, under another name, and have every owner "
    "approve that model; then ask for it",
    POINTS_MISSING: "{} must encrypt the model again with the same secret, which uploads the same "
    "ciphertexts (chainnode he approve-model --private-points); then ask again",
}


class InputFault(PeerFault):
    """An owner's columns or consent, the asking bank's selectors, or private points cannot be used.

    Args:
        code: `COLUMN_MALFORMED`, `COLUMN_MISSING`, `COLUMNS_STALE`, `COLUMNS_REPLACED`,
            `MANIFEST_MALFORMED` or `PROOF_UNKNOWN`; of selectors `SELECTORS_MALFORMED` or
            `SELECTORS_MISSING`; of points `PRIVATE_POINTS_MALFORMED` or `PRIVATE_POINTS_MISSING`;
            of a consent `CONSENT_MALFORMED` or `CONSENT_MISSING`.
        owner: organisation that published or encrypted them, registered the model or consented.
        profile: of the ciphertexts.
        root: of the publication, as on chain; zeros where there is none; of selectors the plan's
            hash; of points the SHA-256 of the model's record; of a consent that of its blob.
        column: stored name, the private constant's column, or the model's name; empty where all of
            them are at fault.
        block: number in the column, or the place of the selector or of the points' ciphertext.
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
        piece = "block {} of column {}"
        fix = "{} must encrypt and publish its columns again; then ask again"
        if code == "COLUMNS_REPLACED":
            fix = "ask again: a new query reads the columns published since"
        elif code in _SELECTORS:
            piece = "selector {} of column {}"
            fix = "{} must ask again with an unchanged client"
        elif code in (CONSENT_MALFORMED, CONSENT_MISSING):
            fix = "{} must state its consent again (chainnode he set-consent); then ask again"
        elif code in POINTS:
            piece = "ciphertext {} of model {}"
            fix = _POINTS_FIXES[code]
        place = f", {piece.format(block, column)}" if column else ""
        why = reason or _MESSAGES.get(code, "cannot be computed on")
        super().__init__(
            code,
            f"{owner}, {profile}{place}: {why}",
            subject=f"{owner}/{column}/{block}" if column else owner,
            fix=fix.format(owner),
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
