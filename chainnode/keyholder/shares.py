"""One member's shares of a proven result: one per piece of the key it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chainnode.he import release
from chainnode.he.council import PieceSecret
from chainnode.he.engine import pack_container
from chainnode.he.plan import Plan
from chainnode.he.private_constants import check_places, gate_places, require_checks
from chainnode.he.results import lift
from chainnode.he.threshold import Sharing, open_parts
from chainnode.sdk.scoring import QueryFacts


@dataclass(frozen=True, slots=True)
class Case:
    """A query whose result this member has proven, and its worker reproduced."""

    facts: QueryFacts
    plan: Plan
    ciphertexts: tuple[bytes, ...]
    result_hash: bytes
    sharing: Sharing

    def context(self, organisation: str, purpose: str) -> bytes:
        """What a sealed share of this case is bound to."""
        return release.share_context(self.facts.query, self.result_hash, organisation, purpose)

    def flood_seed(self, piece: PieceSecret, place: int, index: int, target: bytes = b"") -> bytes:
        """The seed of a share's flooding: equal at every holder, in every active set."""
        return release.flood_seed(
            piece.flood_key,
            self.facts.epoch,
            self.result_hash,
            self.sharing.pieces[place],
            str(index),
            target,
        )


def scalar_parts(
    case: Case, held: Mapping[int, PieceSecret], indices: Sequence[int]
) -> dict[int, bytes]:
    """Scalar shares of some ciphertexts, concatenated, by piece."""
    plan, parties = case.plan, len(case.sharing.pieces)
    return {
        place: b"".join(
            piece.keys[plan.profile].scalar_share(
                case.ciphertexts[index],
                plan.limbs,
                case.flood_seed(piece, place, index),
                parties,
            )
            for index in indices
        )
        for place, piece in held.items()
    }


def switched_parts(case: Case, held: Mapping[int, PieceSecret], target: bytes) -> dict[int, bytes]:
    """Key-switch shares of all blocks as one container, by piece."""
    plan, parties = case.plan, len(case.sharing.pieces)
    return {
        place: pack_container(
            piece.keys[plan.profile].key_switch_shares(
                case.ciphertexts,
                plan.limbs,
                target,
                [
                    case.flood_seed(piece, place, index, target)
                    for index in range(len(case.ciphertexts))
                ],
                parties,
                release.THREADS,
            )
        )
        for place, piece in held.items()
    }


def open_counts(case: Case, parts: Mapping[int, bytes]) -> list[int]:
    """The counts of a result's groups.

    Raises:
        PeerFault: `WRONG_SHARE` or `SELECTORS_MALFORMED`.
    """
    plan, gates = case.plan, case.plan.sums().gates()
    ciphertexts = [case.ciphertexts[place] for place in checked_places(plan)]
    residues = open_parts(plan, case.sharing, ciphertexts, parts, case.facts.query.hex())
    require_checks(plan, residues[len(gates) :])
    counts = residues[: len(gates)]
    return [lift(plan, gate, residue) for gate, residue in zip(gates, counts, strict=True)]


def checked_places(plan: Plan) -> tuple[int, ...]:
    """What of a result the members open among themselves before they share any of it."""
    return (*gate_places(plan), *check_places(plan))
