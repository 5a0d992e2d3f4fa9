"""The key ceremony of one epoch, as messages in and messages out.

Two rounds make a joint public key for both profiles and a relinearisation key for S36 (the
multiparty BGV of Mouchet, Troncoso-Pastoriza, Bossuat and Hubaux, PETS 2021). The caller carries
messages and keeps the order the contract enforces: every commitment before any reveal. Then
everyone opens test vectors drawn from chain randomness: keys that fail are never used.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from chainnode import _native
from chainnode._native import HeRelinEphemeral, HeSecretKey
from chainnode.he import release, threshold
from chainnode.he.engine import pack_container, unpack_container
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.threshold import Sharing
from chainnode.types.errors import ClientFault, PeerFault

PUBLIC_PROFILES: Final[tuple[ProfileName, ...]] = ("S", "S36")
RELIN_PROFILE: Final[ProfileName] = "S36"


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


@dataclass(frozen=True, slots=True)
class KeySet:
    """The joint keys of an epoch. All of it is public."""

    public_keys: Mapping[str, bytes]
    relin_key: bytes

    def hashes(self) -> dict[str, bytes]:
        """Blob hashes under the contract's field names."""
        return {
            "public_key_s": hashlib.sha256(self.public_keys["S"]).digest(),
            "public_key_s36": hashlib.sha256(self.public_keys["S36"]).digest(),
            "relin_key_s36": hashlib.sha256(self.relin_key).digest(),
        }


@dataclass(frozen=True, slots=True)
class PieceSecret:
    """One piece of the joint key, as its holders keep it."""

    keys: Mapping[str, HeSecretKey]
    flood_key: bytes

    @staticmethod
    def draw() -> PieceSecret:
        """A fresh piece."""
        made: dict[str, HeSecretKey] = {
            profile: HeSecretKey.generate(profile) for profile in PUBLIC_PROFILES
        }
        return PieceSecret(made, secrets.token_bytes(32))

    def __repr__(self) -> str:
        return "PieceSecret(...)"


class Ceremony:
    """One member's part in one epoch's ceremony.

    Every piece takes part like a party of the multiparty protocol, played by the member that leads
    it. The leader also deals the piece, sealed, to the other holders: they are to know it anyway.

    Args:
        epoch_seed: from the chain.
        sharing: who holds which piece.
        member: this organisation.
        led: fresh secrets of the pieces it leads, by index.
    """

    def __init__(
        self, epoch_seed: bytes, sharing: Sharing, member: str, led: Mapping[int, PieceSecret]
    ) -> None:
        self._seed = epoch_seed
        self._sharing = sharing
        self._member = member
        self._led = led
        self._ephemerals: dict[int, HeRelinEphemeral] = {}

    def round1(self, sealing_keys: Mapping[str, bytes]) -> bytes:
        """This member's first message: per led piece its public parts and the sealed piece.

        Args:
            sealing_keys: X25519 public key of every member.
        """
        return pack_container(
            [self._first_part(index, piece, sealing_keys) for index, piece in self._led.items()]
        )

    def _first_part(
        self, index: int, piece: PieceSecret, sealing_keys: Mapping[str, bytes]
    ) -> bytes:
        public = [
            piece.keys[profile].public_key_share(common_seed(self._seed, profile))
            for profile in PUBLIC_PROFILES
        ]
        relin, self._ephemerals[index] = piece.keys[RELIN_PROFILE].relin_round1(
            common_seed(self._seed, "relin")
        )
        transport = secrets.token_bytes(32)
        dealt = [piece.keys[profile].seal(transport) for profile in PUBLIC_PROFILES]
        for holder in self._sharing.pieces[index]:
            context = self._context(index, holder)
            dealt.append(release.seal(sealing_keys[holder], transport + piece.flood_key, context))
        return pack_container([*public, relin, pack_container(dealt)])

    def _context(self, index: int, holder: str) -> bytes:
        place = self._seed + index.to_bytes(4, "big")
        return b"chainnode/he-piece/v1" + place + holder.encode()

    def receive(
        self, first: Mapping[str, bytes], sealing_key: X25519PrivateKey
    ) -> dict[int, PieceSecret]:
        """The pieces others deal to this member, by index.

        Raises:
            PeerFault: `CEREMONY_MESSAGE_MALFORMED` naming the leader.
        """
        opened = _first_parts(self._sharing, first)
        received = {}
        for index in self._sharing.held_by(self._member):
            leader = self._sharing.leader(index)
            if leader == self._member:
                continue
            place = self._sharing.pieces[index].index(self._member)
            try:
                dealt = unpack_container(opened[index][3])
                box, context = dealt[2 + place], self._context(index, self._member)
                key = release.open_sealed(sealing_key, box, context)
                keys: dict[str, HeSecretKey] = {
                    profile: HeSecretKey.unseal(profile, dealt[position], key[:32])
                    for position, profile in enumerate(PUBLIC_PROFILES)
                }
            except (PeerFault, ValueError, IndexError) as error:
                raise _malformed(leader, f"its deal of piece {index} does not open") from error
            received[index] = PieceSecret(keys, key[32:])
        return received

    def round2(self, first: Mapping[str, bytes]) -> bytes:
        """This member's second message, from everyone's first (council order).

        Raises:
            PeerFault: `CEREMONY_MESSAGE_MALFORMED` naming the member.
            ClientFault: `CEREMONY_LOST` when round 1 was made by an earlier process.
        """
        if len(self._ephemerals) != len(self._led):
            raise ClientFault(
                "CEREMONY_LOST",
                "the secret of round 1 is gone with the process that made it",
                fix="open the epoch again",
            )
        shares = [parts[2] for parts in _first_parts(self._sharing, first).values()]
        try:
            total = _native.he_aggregate_relin_round1(RELIN_PROFILE, shares)
            parts = [
                piece.keys[RELIN_PROFILE].relin_round2(self._ephemerals[index], total)
                for index, piece in self._led.items()
            ]
        except ValueError as error:
            raise _malformed(" or ".join(first), str(error)) from error
        return pack_container(parts)


def aggregate(
    epoch_seed: bytes, sharing: Sharing, first: Mapping[str, bytes], second: Mapping[str, bytes]
) -> KeySet:
    """The joint keys, from all members' messages of both rounds in council order.

    Raises:
        PeerFault: `CEREMONY_MESSAGE_MALFORMED`.
    """
    opened = list(_first_parts(sharing, first).values())
    finals: dict[int, bytes] = {}
    for name, data in second.items():
        led = sharing.led_by(name)
        finals |= dict(zip(led, _message(name, data, len(led)), strict=True))
    members = " or ".join(first)
    try:
        public_keys: dict[str, bytes] = {
            profile: _native.he_aggregate_public_key(
                profile, common_seed(epoch_seed, profile), [parts[index] for parts in opened]
            )
            for index, profile in enumerate(PUBLIC_PROFILES)
        }
        total = _native.he_aggregate_relin_round1(RELIN_PROFILE, [parts[2] for parts in opened])
        ordered = [finals[index] for index in range(len(sharing.pieces))]
        relin_key = _native.he_relin_key(RELIN_PROFILE, total, ordered)
    except ValueError as error:
        raise _malformed(members, str(error)) from error
    return KeySet(public_keys, relin_key)


def _first_parts(sharing: Sharing, first: Mapping[str, bytes]) -> dict[int, list[bytes]]:
    """Per piece: public key shares of S and S36, relinearisation part, deal."""
    found: dict[int, list[bytes]] = {}
    for name, data in first.items():
        led = sharing.led_by(name)
        for index, part in zip(led, _message(name, data, len(led)), strict=True):
            found[index] = _message(name, part, 4)
    return {index: found[index] for index in range(len(sharing.pieces))}


def _message(member: str, data: bytes, count: int) -> list[bytes]:
    try:
        parts = unpack_container(data)
    except PeerFault as error:
        raise _malformed(member, "the message's framing does not add up") from error
    if len(parts) != count:
        raise _malformed(member, f"{len(parts)} parts, wants {count}")
    return parts


def _malformed(member: str, reason: str) -> PeerFault:
    return PeerFault(
        "CEREMONY_MESSAGE_MALFORMED",
        reason,
        subject=member,
        fix="open the epoch again; if it repeats, look at that member's keyholder",
    )


# --- test vectors ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TestVector:
    """A ciphertext anyone can make, and the slot sum it must open to."""

    __test__ = False

    name: str
    profile: ProfileName
    limbs: int
    ciphertext: bytes
    expected: int


def test_vectors(keys: KeySet, test_seed: bytes) -> list[TestVector]:
    """The vectors of an epoch: one fresh encryption per profile and one relinearised product.

    All randomness comes from the chain's test seed, so every member makes the same bytes.
    """
    vectors = []
    for profile in PUBLIC_PROFILES:
        slots, ciphertext = _encrypted(keys, test_seed, profile, "fresh", None)
        modulus = PROFILES[profile].plain_modulus
        expected = sum(int(value) for value in slots) % modulus
        limbs = PROFILES[profile].limbs
        vectors.append(TestVector(f"fresh {profile}", profile, limbs, ciphertext, expected))
    vectors.append(_product_vector(keys, test_seed))
    return vectors


test_vectors.__test__ = False  # type: ignore[attr-defined]


def _product_vector(keys: KeySet, test_seed: bytes) -> TestVector:
    profile = RELIN_PROFILE
    limbs, modulus = PROFILES[profile].limbs, PROFILES[profile].plain_modulus
    left, left_ciphertext = _encrypted(keys, test_seed, profile, "left", None)
    right, right_ciphertext = _encrypted(keys, test_seed, profile, "right", 2)
    product = _native.he_multiply(profile, limbs, left_ciphertext, right_ciphertext)
    ciphertext = _native.he_relinearise(profile, limbs, product, keys.relin_key)
    pairs = zip(left, right, strict=True)
    expected = sum(int(one) * int(other) for one, other in pairs) % modulus
    return TestVector("product S36", profile, limbs, ciphertext, expected)


def _encrypted(
    keys: KeySet, test_seed: bytes, profile: ProfileName, part: str, below: int | None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], bytes]:
    parameters = PROFILES[profile]
    label = b"chainnode/he-test-vector/v1" + test_seed + f"{profile}/{part}".encode()
    raw = np.frombuffer(hashlib.shake_256(label).digest(8 * parameters.slots), dtype="<u8")
    slots = (raw % np.uint64(below or parameters.plain_modulus)).astype("<u8")
    seed = hashlib.sha256(label + b"/randomness").digest()
    ciphertext = _native.he_encrypt(
        profile, keys.public_keys[profile], slots.tobytes(), seed, parameters.limbs
    )
    return slots, ciphertext


def share_of_vectors(
    vectors: Sequence[TestVector],
    held: Mapping[int, PieceSecret],
    epoch: int,
    sharing: Sharing,
) -> bytes:
    """One member's shares of all test vectors, in the clear: their plaintexts are public.

    A container with one part per held piece, equal bytes from every holder.
    """
    parts = []
    for index in sorted(held):
        shares = []
        for vector in vectors:
            digest = hashlib.sha256(vector.ciphertext).digest()
            seed = release.flood_seed(
                held[index].flood_key, epoch, digest, sharing.pieces[index], vector.name
            )
            shares.append(
                held[index]
                .keys[vector.profile]
                .scalar_share(vector.ciphertext, vector.limbs, seed, len(sharing.pieces))
            )
        parts.append(b"".join(shares))
    return pack_container(parts)


def check_vectors(
    vectors: Sequence[TestVector], sharing: Sharing, posted: Mapping[str, bytes]
) -> None:
    """Accept an epoch's keys only if every vector opens to its known value in every active set.

    All holders of a piece must have posted equal bytes for it, so that whichever members open a
    result later, they add up the same pieces.

    Args:
        vectors: as `test_vectors` made them.
        sharing: who holds which piece.
        posted: organisation to the shares it put on chain.

    Raises:
        PeerFault: `WRONG_SHARE` or `CEREMONY_MESSAGE_MALFORMED`; the epoch must not be used.
    """
    copies = {}
    for name, data in posted.items():
        held = sharing.held_by(name)
        copies[name] = dict(zip(held, _message(name, data, len(held)), strict=True))

    def open_all(parts: Mapping[int, bytes]) -> None:
        sizes = [release.RESIDUE_SIZE_BYTES * vector.limbs for vector in vectors]
        for place, vector in enumerate(vectors):
            start = sum(sizes[:place])
            shares = {
                sharing.label(index): part[start : start + sizes[place]]
                for index, part in parts.items()
            }
            value = release.open_scalars(
                vector.profile, vector.limbs, [vector.ciphertext], shares, vector.name
            )[0]
            if value != vector.expected:
                raise release.wrong_share(list(posted), vector.name, "it opened to another value")

    threshold.open_agreed(sharing, copies, open_all, "test vectors")
