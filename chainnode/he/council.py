"""The key ceremony of one epoch, as messages in and messages out.

Two rounds make, for each profile of the epoch, a joint public key, and a relinearisation key where
products are asked (S36, and M if the council wants it): the multiparty BGV of Mouchet,
Troncoso-Pastoriza, Bossuat and Hubaux, PETS 2021. The caller carries messages and keeps the order
the contract enforces: every commitment before any reveal. Then everyone opens test vectors
(`key_vectors.py`): keys that fail are never used.

Whoever deals a piece proves that it knows the short secrets behind its first shares (`proof.rs`).

A message has one part per piece its sender leads. Parts are stored one by one, for one of profile M
has 18 MB, and the message is known by the hashes of its parts.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from chainnode import _native
from chainnode._native import HeRelinEphemeral, HeSecretKey
from chainnode.he import release
from chainnode.he.engine import pack_container, unpack_container
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.threshold import Sharing
from chainnode.types.errors import ClientFault, PeerFault

BASE_PROFILES: Final[tuple[ProfileName, ...]] = ("S", "S36")
"""Profiles of every epoch; M is made only where the council asks for it."""

HASH_SIZE_BYTES: Final = 32
SECRET_SIZE_BYTES: Final = 32
MALFORMED: Final = "CEREMONY_MESSAGE_MALFORMED"
UNPROVEN: Final = "CEREMONY_PROOF_WRONG"
MESSAGE_FAULTS: Final = (MALFORMED, UNPROVEN)
"""What a member alone is to blame for by the message it committed to."""


def relin_profiles(profiles: Iterable[ProfileName]) -> tuple[ProfileName, ...]:
    """The profiles in which encrypted columns are multiplied."""
    return tuple(name for name in profiles if PROFILES[name].factors_max() > 1)


def commitment(epoch: int, round_number: int, blob_hash: bytes, organisation: str) -> bytes:
    """What a member puts on chain before anyone's message of the round is known.

    Messages have more than 128 bits of entropy, so no salt is needed to hide them.
    """
    place = epoch.to_bytes(8, "big") + round_number.to_bytes(8, "big")
    return hashlib.sha256(
        b"chainnode/council-commit/v1" + place + blob_hash + organisation.encode()
    ).digest()


def common_seed(epoch_seed: bytes, purpose: str) -> bytes:
    """The seed of one common random polynomial."""
    return hashlib.sha256(b"chainnode/he-common/v1" + epoch_seed + purpose.encode()).digest()


def first_claim(
    epoch_seed: bytes, profile: ProfileName, index: int, leader: str
) -> tuple[bytes, bytes | None, bytes]:
    """What a proof is bound to: seeds of the key and of relinearisation, if any, and the place."""
    multiplied = profile in relin_profiles([profile])
    relin_seed = common_seed(epoch_seed, f"relin/{profile}") if multiplied else None
    place = epoch_seed + index.to_bytes(4, "big") + leader.encode()
    return common_seed(epoch_seed, profile), relin_seed, place


@dataclass(frozen=True, slots=True)
class KeySet:
    """The joint keys of an epoch. All of it is public."""

    public_keys: Mapping[ProfileName, bytes]
    relin_keys: Mapping[ProfileName, bytes]

    def hashes(self) -> dict[str, bytes]:
        """Blob hashes under the contract's field names; empty for a profile without keys."""
        named: dict[str, bytes] = {}
        for kind, keys, names in (
            ("public_key", self.public_keys, tuple(PROFILES)),
            ("relin_key", self.relin_keys, relin_profiles(PROFILES)),
        ):
            for name in names:
                key = keys.get(name)
                digest = b"" if key is None else hashlib.sha256(key).digest()
                named[f"{kind}_{name.lower()}"] = digest
        return named


@dataclass(frozen=True, slots=True)
class PieceSecret:
    """One piece of the joint key, as its holders keep it."""

    keys: Mapping[ProfileName, HeSecretKey]
    flood_key: bytes

    @staticmethod
    def draw(profiles: Sequence[ProfileName] = BASE_PROFILES) -> PieceSecret:
        """A fresh piece."""
        made: dict[ProfileName, HeSecretKey] = {
            profile: HeSecretKey.generate(profile) for profile in profiles
        }
        return PieceSecret(made, secrets.token_bytes(SECRET_SIZE_BYTES))

    def __repr__(self) -> str:
        return "PieceSecret(...)"


class FirstRound:
    """What everyone computes from all first parts: their sums, and the pieces dealt.

    Parts are added one at a time and let go: only sums stay, 16 MB in profile M.

    Args:
        epoch_seed: from the chain.
        sharing: who holds which piece.
        profiles: of the epoch.
    """

    def __init__(
        self, epoch_seed: bytes, sharing: Sharing, profiles: Sequence[ProfileName]
    ) -> None:
        self.profiles = tuple(profiles)
        self.sharing = sharing
        self.deals: dict[int, list[bytes]] = {}
        self.relin_totals: dict[ProfileName, bytes] = {}
        self._seed = epoch_seed
        self._shares: dict[ProfileName, list[bytes]] = {name: [] for name in self.profiles}

    def add(self, index: int, part: bytes) -> None:
        """Take in the part of a piece's leader, whose proofs must hold.

        Raises:
            PeerFault: `CEREMONY_MESSAGE_MALFORMED` or `CEREMONY_PROOF_WRONG` naming the leader.
        """
        leader, multiplied = self.sharing.leader(index), relin_profiles(self.profiles)
        opened = message_parts(leader, part, 2 * len(self.profiles) + len(multiplied) + 1)
        dealt = message_parts(
            leader, opened.pop(), len(self.profiles) + len(self.sharing.pieces[index])
        )
        proofs = [opened.pop() for _ in self.profiles][::-1]
        shares, seconds = opened[: len(self.profiles)], opened[len(self.profiles) :]
        relins = dict(zip(multiplied, seconds, strict=True))
        for profile, share, proof in zip(self.profiles, shares, proofs, strict=True):
            self._verify(index, profile, share, relins.get(profile), proof)
        self.deals[index] = dealt
        for profile, share in zip(self.profiles, shares, strict=True):
            self._shares[profile].append(share)
        for profile, share in relins.items():
            before = [self.relin_totals[profile]] if profile in self.relin_totals else []
            try:
                total = _native.he_aggregate_relin_round1(profile, [*before, share])
            except ValueError as error:
                raise malformed(leader, str(error)) from error
            self.relin_totals[profile] = total

    def _verify(
        self, index: int, profile: ProfileName, share: bytes, relin: bytes | None, proof: bytes
    ) -> None:
        leader = self.sharing.leader(index)
        claim = first_claim(self._seed, profile, index, leader)
        try:
            _native.he_verify_first_shares(profile, claim, share, relin, proof)
        except ValueError as error:
            raise PeerFault(
                UNPROVEN,
                f"{leader} has not proven that it knows its secret of piece {index} in {profile}: "
                f"{error}",
                subject=leader,
                fix="have that member's keyholder looked at, then open the epoch again",
            ) from error

    def public_keys(self) -> dict[ProfileName, bytes]:
        """The joint public keys.

        Raises:
            PeerFault: `CEREMONY_MESSAGE_MALFORMED`.
        """
        if len(self.deals) != len(self.sharing.pieces):
            raise malformed(" or ".join(self.sharing.members), "a piece's part is missing")
        try:
            return {
                profile: _native.he_aggregate_public_key(
                    profile, common_seed(self._seed, profile), self._shares[profile]
                )
                for profile in self.profiles
            }
        except ValueError as error:
            raise malformed(" or ".join(self.sharing.members), str(error)) from error


class Ceremony:
    """One member's part in one epoch's ceremony.

    Every piece takes part like a party of the multiparty protocol, played by the member that leads
    it. The leader also deals the piece, sealed, to the other holders: they are to know it anyway.

    Args:
        epoch_seed: from the chain.
        sharing: who holds which piece.
        member: this organisation.
        led: fresh secrets of the pieces it leads, by index.
        profiles: of the epoch.
    """

    def __init__(
        self,
        epoch_seed: bytes,
        sharing: Sharing,
        member: str,
        led: Mapping[int, PieceSecret],
        profiles: Sequence[ProfileName] = BASE_PROFILES,
    ) -> None:
        self._seed = epoch_seed
        self._sharing = sharing
        self._member = member
        self._led = led
        self._profiles = tuple(profiles)
        self._ephemerals: dict[tuple[int, ProfileName], HeRelinEphemeral] = {}

    def round1(self, sealing_keys: Mapping[str, bytes]) -> list[bytes]:
        """This member's first message: per led piece its public parts and the sealed piece.

        Args:
            sealing_keys: X25519 public key of every member.
        """
        return [self._first_part(index, piece, sealing_keys) for index, piece in self._led.items()]

    def _first_part(
        self, index: int, piece: PieceSecret, sealing_keys: Mapping[str, bytes]
    ) -> bytes:
        shares, relins, proofs = [], [], []
        for profile in self._profiles:
            claim = first_claim(self._seed, profile, index, self._member)
            share, relin, proof = piece.keys[profile].first_shares(claim)
            shares.append(share)
            proofs.append(proof)
            if relin is not None:
                relins.append(relin[0])
                self._ephemerals[(index, profile)] = relin[1]
        transport = secrets.token_bytes(SECRET_SIZE_BYTES)
        dealt = [piece.keys[profile].seal(transport) for profile in self._profiles]
        for holder in self._sharing.pieces[index]:
            context = self._context(index, holder)
            dealt.append(release.seal(sealing_keys[holder], transport + piece.flood_key, context))
        return pack_container([*shares, *relins, *proofs, pack_container(dealt)])

    def _context(self, index: int, holder: str) -> bytes:
        place = self._seed + index.to_bytes(4, "big")
        return b"chainnode/he-piece/v1" + place + holder.encode()

    def receive(self, first: FirstRound, sealing_key: X25519PrivateKey) -> dict[int, PieceSecret]:
        """The pieces others deal to this member, by index.

        Raises:
            PeerFault: `CEREMONY_MESSAGE_MALFORMED` naming the leader.
        """
        received = {}
        for index in self._sharing.held_by(self._member):
            leader = self._sharing.leader(index)
            if leader == self._member:
                continue
            place = self._sharing.pieces[index].index(self._member)
            dealt, context = first.deals[index], self._context(index, self._member)
            try:
                box = dealt[len(self._profiles) + place]
                key = release.open_sealed(sealing_key, box, context)
                if len(key) != 2 * SECRET_SIZE_BYTES:
                    raise ValueError("not a transport and a flood key")
                keys: dict[ProfileName, HeSecretKey] = {
                    profile: HeSecretKey.unseal(profile, dealt[position], key[:SECRET_SIZE_BYTES])
                    for position, profile in enumerate(self._profiles)
                }
            except (PeerFault, ValueError) as error:
                raise malformed(leader, f"its deal of piece {index} does not open") from error
            received[index] = PieceSecret(keys, key[SECRET_SIZE_BYTES:])
        return received

    def round2(self, first: FirstRound) -> list[bytes]:
        """This member's second message, from the sums of everyone's first.

        Raises:
            PeerFault: `CEREMONY_MESSAGE_MALFORMED`.
            ClientFault: `CEREMONY_LOST` when round 1 was made by an earlier process.
        """
        multiplied = relin_profiles(self._profiles)
        if len(self._ephemerals) != len(self._led) * len(multiplied):
            raise ClientFault(
                "CEREMONY_LOST",
                "the secret of round 1 is gone with the process that made it",
                fix="open the epoch again",
            )
        return [
            pack_container(
                [
                    piece.keys[profile].relin_round2(
                        self._ephemerals[(index, profile)], first.relin_totals[profile]
                    )
                    for profile in multiplied
                ]
            )
            for index, piece in self._led.items()
        ]


def message_index(parts: Sequence[bytes]) -> bytes:
    """What a message is known by: the SHA-256 of each of its parts."""
    return b"".join(hashlib.sha256(part).digest() for part in parts)


def part_hashes(sharing: Sharing, member: str, index: bytes) -> dict[int, bytes]:
    """The hash of a message's part by the piece it is about.

    Raises:
        PeerFault: `CEREMONY_MESSAGE_MALFORMED`.
    """
    led = sharing.led_by(member)
    if len(index) != HASH_SIZE_BYTES * len(led):
        raise malformed(member, f"{len(index)} bytes for the hashes of {len(led)} parts")
    places = range(0, len(index), HASH_SIZE_BYTES)
    hashes = [index[place : place + HASH_SIZE_BYTES] for place in places]
    return dict(zip(led, hashes, strict=True))


def aggregate(first: FirstRound, second: Mapping[int, bytes]) -> KeySet:
    """The joint keys.

    Args:
        first: with every piece's part.
        second: every piece's part of round 2.

    Raises:
        PeerFault: `CEREMONY_MESSAGE_MALFORMED` naming the leader of a part.
    """
    sharing, multiplied = first.sharing, relin_profiles(first.profiles)
    public_keys = first.public_keys()
    finals = [
        message_parts(sharing.leader(index), second.get(index, b""), len(multiplied))
        for index in range(len(sharing.pieces))
    ]
    relin_keys: dict[ProfileName, bytes] = {
        profile: _relin_key(first, profile, [parts[place] for parts in finals])
        for place, profile in enumerate(multiplied)
    }
    return KeySet(public_keys, relin_keys)


def _relin_key(first: FirstRound, profile: ProfileName, shares: Sequence[bytes]) -> bytes:
    """The key of the shares of all pieces, given in their order."""
    total = first.relin_totals[profile]
    try:
        return _native.he_relin_key(profile, total, shares)
    except ValueError:
        # The engine does not know whose share it is.
        for index, share in enumerate(shares):
            try:
                _native.he_relin_key(profile, total, [share])
            except ValueError as error:
                raise malformed(first.sharing.leader(index), str(error)) from error
        raise


def message_parts(member: str, data: bytes, count: int) -> list[bytes]:
    """The parts of a member's message.

    Raises:
        PeerFault: `CEREMONY_MESSAGE_MALFORMED` where there are not so many.
    """
    try:
        parts = unpack_container(data)
    except PeerFault as error:
        raise malformed(member, "the message's framing does not add up") from error
    if len(parts) != count:
        raise malformed(member, f"{len(parts)} parts, wants {count}")
    return parts


def malformed(member: str, reason: str) -> PeerFault:
    """`CEREMONY_MESSAGE_MALFORMED`, naming whose message it is."""
    return PeerFault(
        MALFORMED,
        reason,
        subject=member,
        fix="open the epoch again; if it repeats, look at that member's keyholder",
    )
