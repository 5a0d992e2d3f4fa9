"""Who holds which piece of the joint key, and whose copy of a share is wrong.

The joint key is a sum of short pieces, one per set of n - t + 1 members, each known to exactly that
set: any t members hold all pieces, any t - 1 miss one. This is the replicated secret sharing of
Ito, Saito and Nishizeki (1987), the {0,1}-LSSS that Boneh et al. (CRYPTO 2018) use for threshold
lattice decryption because no Lagrange coefficient blows up the noise; del Pino and Niot (PKC 2025)
share short lattice keys the same way. Holders of a piece compute the same share bytes, flooding
included, so every active set opens the same sum, and copies that differ are evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeVar

from chainnode.he import release
from chainnode.he.engine import unpack_container
from chainnode.he.plan import Plan
from chainnode.types.errors import ConfigError, PeerFault
from chainnode.types.limits import COUNCIL_MEMBERS_MAX

Value = TypeVar("Value")

LENGTH_SIZE_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Sharing:
    """How the key of an epoch is shared.

    Args:
        members: organisations in council order.
        threshold: how many open a result together.
        pieces: the holders of each piece, in the contract's order.
    """

    members: tuple[str, ...]
    threshold: int
    pieces: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(members: Sequence[str], threshold: int) -> Sharing:
        """The sharing among these members.

        Raises:
            ConfigError: `THRESHOLD_INVALID`.
        """
        size = len(members)
        if not 2 <= size <= COUNCIL_MEMBERS_MAX or not 1 <= threshold <= size:
            raise ConfigError(
                "THRESHOLD_INVALID",
                f"{threshold} of {size} members cannot share a key",
                fix=f"name 2 to {COUNCIL_MEMBERS_MAX} members and a threshold of 1 to all of them",
            )
        holders = size - threshold + 1
        masks = [mask for mask in range(1 << size) if mask.bit_count() == holders]
        return Sharing(
            tuple(members),
            threshold,
            tuple(
                tuple(name for seat, name in enumerate(members) if mask >> seat & 1)
                for mask in masks
            ),
        )

    def held_by(self, member: str) -> tuple[int, ...]:
        """Indices of the pieces a member holds."""
        return tuple(index for index, holders in enumerate(self.pieces) if member in holders)

    def leader(self, index: int) -> str:
        """Who draws a piece and plays its part in the ceremony: the holder that leads fewest."""
        led = dict.fromkeys(self.members, 0)
        for holders in self.pieces[: index + 1]:
            chosen = min(holders, key=lambda name: led[name])
            led[chosen] += 1
        return chosen

    def led_by(self, member: str) -> tuple[int, ...]:
        """Indices of the pieces a member leads."""
        return tuple(index for index in self.held_by(member) if self.leader(index) == member)

    def label(self, index: int) -> str:
        """A piece by its holders."""
        return " and ".join(self.pieces[index])


Copies = Mapping[str, Mapping[int, bytes]]
"""Member to its share of each piece it holds, or a hash of it."""


def disagreements(sharing: Sharing, copies: Copies) -> list[tuple[str, str]]:
    """Pairs of members that state different bytes for a piece both hold."""
    present = [name for name in sharing.members if name in copies]
    return [
        (one, other)
        for one, other in combinations(present, 2)
        if any(
            index in copies[other] and copies[other][index] != part
            for index, part in copies[one].items()
        )
    ]


def suspects(sharing: Sharing, copies: Copies) -> tuple[str, ...]:
    """Members that are a party to every disagreement: one is guilty, two dispute one piece.

    With fewer liars than holders of a piece less one, an honest member disagrees with liars only,
    so it is never the only suspect. Empty when nobody disagrees, or several lie.
    """
    pairs = disagreements(sharing, copies)
    if not pairs:
        return ()
    return tuple(name for name in sharing.members if all(name in pair for pair in pairs))


def is_decided(sharing: Sharing, copies: Copies) -> bool:
    """Whether what members state tells by itself who is at fault, so that nothing need be opened.

    Two that dispute one piece are told apart by what opens without either."""
    return bool(disagreements(sharing, copies)) and len(suspects(sharing, copies)) != 2


def cover(sharing: Sharing, copies: Copies) -> dict[int, bytes] | None:
    """One copy of every piece; None where no member given has one."""
    chosen: dict[int, bytes] = {}
    for name in sharing.members:
        for index, part in copies.get(name, {}).items():
            chosen.setdefault(index, part)
    if len(chosen) < len(sharing.pieces):
        return None
    return {index: chosen[index] for index in range(len(sharing.pieces))}


def without(copies: Copies, members: Iterable[str]) -> Copies:
    """The copies of all others."""
    dropped = tuple(members)
    return {name: parts for name, parts in copies.items() if name not in dropped}


def open_agreed(
    sharing: Sharing,
    copies: Copies,
    open_parts: Callable[[Mapping[int, bytes]], Value],
    subject: str,
) -> Value:
    """Open a result only if all copies of every piece are equal.

    Args:
        sharing: of the epoch.
        copies: what members gave.
        open_parts: opens one copy of each piece; raises `PeerFault` for an impossible value.
        subject: named in the error.

    Raises:
        WrongShare: naming the guilty member, or the few among whom the fault lies.
        PeerFault: `SHARES_MISSING`; or as `open_parts`, when all copies agree.
    """
    if not disagreements(sharing, copies):
        parts = cover(sharing, copies)
        if parts is None:
            raise _missing(sharing, copies, subject)
        return _open_unanimous(sharing, copies, parts, open_parts, subject)
    named = suspects(sharing, copies)
    reason = "its share differs from the other holders'"
    if len(named) == 2:
        # The two copies cannot both open: what is left without the liar's does.
        wrong = [
            name
            for name, other in (named, named[::-1])
            if not _opens(sharing, without(copies, [other]), open_parts)
        ]
        if len(wrong) == 1:
            named, reason = (wrong[0],), "only without its share the result opens"
    if not named:
        named = tuple(dict.fromkeys(n for pair in disagreements(sharing, copies) for n in pair))
    raise release.wrong_share(named, subject, reason)


def _open_unanimous(
    sharing: Sharing,
    copies: Copies,
    parts: Mapping[int, bytes],
    open_parts: Callable[[Mapping[int, bytes]], Value],
    subject: str,
) -> Value:
    try:
        return open_parts(parts)
    except PeerFault as error:
        if error.code != "WRONG_SHARE":
            raise
        blamed = error.members if isinstance(error, release.WrongShare) else ()
        named = [
            name
            for name in copies
            if any(name in sharing.pieces[i] and sharing.label(i) in blamed for i in parts)
        ]
        reason = error.reason if isinstance(error, release.WrongShare) else error.message
        raise release.wrong_share(named or list(copies), subject, reason) from error


def _opens(
    sharing: Sharing, copies: Copies, open_parts: Callable[[Mapping[int, bytes]], Value]
) -> bool:
    parts = cover(sharing, copies)
    if parts is None or disagreements(sharing, copies):
        return True
    try:
        open_parts(parts)
    except PeerFault:
        return False
    return True


def _missing(sharing: Sharing, copies: Copies, subject: str) -> PeerFault:
    silent = [name for name in sharing.members if name not in copies]
    return PeerFault(
        "SHARES_MISSING",
        f"{len(copies)} of the {sharing.threshold} shares needed; silent: {', '.join(silent)}",
        subject=subject,
        fix="start the silent members' keyholders, then ask again",
    )


def share_commitment(
    query: bytes, result: bytes, digests: Sequence[bytes], organisation: str
) -> bytes:
    """What a member puts on chain before anyone shows hashes of a vector's shares.

    Args:
        query: 32-byte id.
        result: hash of the result shared.
        digests: SHA-256 of its share of every piece, empty where it holds none.
        organisation: the member.
    """
    bound = b"chainnode/share-commit/v1" + query + result + b"".join(digests)
    return hashlib.sha256(bound + organisation.encode()).digest()


def giver(sharing: Sharing, index: int, query: bytes) -> str:
    """Which holder of a piece uploads a query's share first; the others upload if it does not."""
    holders = sharing.pieces[index]
    return holders[(query[0] + index) % len(holders)]


def boxes_of(sharing: Sharing, member: str, data: bytes) -> list[bytes]:
    """One sealed box per member, from the container a member posted.

    Raises:
        WrongShare: naming the member.
    """
    try:
        boxes = unpack_container(data)
    except PeerFault as error:
        raise release.wrong_share([member], member, "its boxes are no container") from error
    if len(boxes) != len(sharing.members):
        raise release.wrong_share([member], member, f"{len(boxes)} boxes")
    return boxes


def read_parts(sharing: Sharing, member: str, data: bytes, size_bytes: int) -> dict[int, bytes]:
    """A member's scalar shares by piece, from the container it sent.

    Raises:
        WrongShare: naming the member.
    """
    held = sharing.held_by(member)
    try:
        parts = unpack_container(data)
    except PeerFault as error:
        raise release.wrong_share([member], member, "its share is no container") from error
    if [len(part) for part in parts] != [size_bytes] * len(held):
        raise release.wrong_share([member], member, "its share has another size")
    return dict(zip(held, parts, strict=True))


def open_parts(
    plan: Plan,
    sharing: Sharing,
    ciphertexts: Sequence[bytes],
    parts: Mapping[int, bytes],
    subject: str,
) -> list[int]:
    """The slot sums modulo t that one share of every piece opens.

    Raises:
        WrongShare: the shares do not add up.
    """
    shares = {sharing.label(place): part for place, part in parts.items()}
    return release.open_scalars(plan.profile, plan.limbs, ciphertexts, shares, subject)


def container_size_bytes(sizes: Sequence[int]) -> int:
    """Size of a container of parts of these sizes (`engine.pack_container`)."""
    return LENGTH_SIZE_BYTES * (1 + len(sizes)) + sum(sizes)


def scalar_size_bytes(plan: Plan, count: int) -> int:
    """Size of one piece's scalar shares."""
    return release.RESIDUE_SIZE_BYTES * plan.limbs * count
