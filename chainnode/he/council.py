"""The key ceremony of one epoch, as messages in and messages out.

Two rounds make a joint public key for both profiles and a relinearisation key for S36 (the
multiparty BGV of Mouchet, Troncoso-Pastoriza, Bossuat and Hubaux, PETS 2021). The caller carries
messages and keeps the order the contract enforces: every commitment before any reveal. Then
everyone opens test vectors drawn from chain randomness: keys that fail are never used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from chainnode import _native
from chainnode._native import HeRelinEphemeral, HeSecretKey
from chainnode.he import release
from chainnode.he.engine import pack_container, unpack_container
from chainnode.he.profiles import PROFILES, ProfileName
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


class Ceremony:
    """One member's part in one epoch's ceremony.

    Args:
        epoch_seed: from the chain.
        secrets: this member's fresh key share of every profile.
    """

    def __init__(self, epoch_seed: bytes, secrets: Mapping[str, HeSecretKey]) -> None:
        self._seed = epoch_seed
        self._secrets = secrets
        self._ephemeral: HeRelinEphemeral | None = None

    def round1(self) -> bytes:
        """This member's first message: public key shares, then its part of the relin key."""
        parts = [
            self._secrets[profile].public_key_share(common_seed(self._seed, profile))
            for profile in PUBLIC_PROFILES
        ]
        relin, self._ephemeral = self._secrets[RELIN_PROFILE].relin_round1(
            common_seed(self._seed, "relin")
        )
        return pack_container([*parts, relin])

    def round2(self, first: Mapping[str, bytes]) -> bytes:
        """This member's second message, from everyone's first (council order).

        Raises:
            PeerFault: `CEREMONY_MESSAGE_MALFORMED` naming the member.
            ClientFault: `CEREMONY_LOST` when round 1 was made by an earlier process.
        """
        if self._ephemeral is None:
            raise ClientFault(
                "CEREMONY_LOST",
                "the secret of round 1 is gone with the process that made it",
                fix="open the epoch again",
            )
        shares = [_message(name, data, 3)[2] for name, data in first.items()]
        try:
            total = _native.he_aggregate_relin_round1(RELIN_PROFILE, shares)
            message = self._secrets[RELIN_PROFILE].relin_round2(self._ephemeral, total)
        except ValueError as error:
            raise _malformed(" or ".join(first), str(error)) from error
        return pack_container([message])


def aggregate(epoch_seed: bytes, first: Mapping[str, bytes], second: Mapping[str, bytes]) -> KeySet:
    """The joint keys, from all members' messages of both rounds in council order.

    Raises:
        PeerFault: `CEREMONY_MESSAGE_MALFORMED`.
    """
    opened = [_message(name, data, 3) for name, data in first.items()]
    finals = [_message(name, data, 1)[0] for name, data in second.items()]
    members = " or ".join(first)
    try:
        public_keys: dict[str, bytes] = {
            profile: _native.he_aggregate_public_key(
                profile, common_seed(epoch_seed, profile), [parts[index] for parts in opened]
            )
            for index, profile in enumerate(PUBLIC_PROFILES)
        }
        total = _native.he_aggregate_relin_round1(RELIN_PROFILE, [parts[2] for parts in opened])
        relin_key = _native.he_relin_key(RELIN_PROFILE, total, finals)
    except ValueError as error:
        raise _malformed(members, str(error)) from error
    return KeySet(public_keys, relin_key)


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
    secrets: Mapping[str, HeSecretKey],
    flood_key: bytes,
    epoch: int,
    members: Sequence[str],
) -> bytes:
    """One member's shares of all test vectors, in the clear: their plaintexts are public."""
    shares = []
    for vector in vectors:
        digest = hashlib.sha256(vector.ciphertext).digest()
        seed = release.flood_seed(flood_key, epoch, digest, members, vector.name)
        shares.append(
            secrets[vector.profile].scalar_share(
                vector.ciphertext, vector.limbs, seed, len(members)
            )
        )
    return pack_container(shares)


def check_vectors(vectors: Sequence[TestVector], posted: Mapping[str, bytes]) -> None:
    """Accept an epoch's keys only if every vector opens to its known value.

    Args:
        vectors: as `test_vectors` made them.
        posted: organisation to the shares it put on chain.

    Raises:
        PeerFault: `WRONG_SHARE` or `CEREMONY_MESSAGE_MALFORMED`; the epoch must not be used.
    """
    opened = {name: _message(name, data, len(vectors)) for name, data in posted.items()}
    for index, vector in enumerate(vectors):
        shares = {name: parts[index] for name, parts in opened.items()}
        value = release.open_scalars(
            vector.profile,
            vector.limbs,
            [vector.ciphertext],
            shares,
            vector.name,
        )[0]
        if value != vector.expected:
            raise release.wrong_share(list(posted), vector.name, "it opened to another value")
