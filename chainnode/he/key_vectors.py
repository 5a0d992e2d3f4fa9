"""What an epoch's keys must open before it is active: ciphertexts drawn from chain randomness."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chainnode import _native
from chainnode.he import release, threshold
from chainnode.he.council import KeySet, PieceSecret, malformed, message_parts
from chainnode.he.engine import pack_container
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.threshold import Sharing


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
    """The vectors of an epoch: of each profile a fresh encryption, and its deepest product.

    All randomness comes from the chain's test seed, so every member makes the same bytes.
    """
    vectors = []
    for profile, public_key in keys.public_keys.items():
        slots, ciphertext = _encrypted(profile, public_key, test_seed, "fresh", None)
        modulus = PROFILES[profile].plain_modulus
        expected = sum(int(value) for value in slots) % modulus
        limbs = PROFILES[profile].limbs
        vectors.append(TestVector(f"fresh {profile}", profile, limbs, ciphertext, expected))
    vectors += [_product_vector(keys, profile, test_seed) for profile in keys.relin_keys]
    return vectors


test_vectors.__test__ = False  # type: ignore[attr-defined]


def _product_vector(keys: KeySet, profile: ProfileName, test_seed: bytes) -> TestVector:
    """One factor is any value, the others 0 or 1, as where values are summed under conditions."""
    limbs, modulus = PROFILES[profile].limbs, PROFILES[profile].plain_modulus
    products, factors = [1] * PROFILES[profile].slots, []
    for number in range(PROFILES[profile].factors_max()):
        below = None if number == 0 else 2
        slots, ciphertext = _encrypted(
            profile, keys.public_keys[profile], test_seed, f"factor {number}", below
        )
        factors.append([(1, [ciphertext])])
        products = [one * int(other) for one, other in zip(products, slots, strict=True)]
    product = _native.he_stepwise_sum(profile, limbs, factors)
    ciphertext = _native.he_relinearise(profile, limbs, product, keys.relin_keys[profile])
    name = f"product {profile}"
    return TestVector(name, profile, limbs, ciphertext, sum(products) % modulus)


def _encrypted(
    profile: ProfileName, public_key: bytes, test_seed: bytes, part: str, below: int | None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], bytes]:
    parameters = PROFILES[profile]
    label = b"chainnode/he-test-vector/v1" + test_seed + f"{profile}/{part}".encode()
    raw = np.frombuffer(hashlib.shake_256(label).digest(8 * parameters.slots), dtype="<u8")
    slots = (raw % np.uint64(below or parameters.plain_modulus)).astype("<u8")
    seed = hashlib.sha256(label + b"/randomness").digest()
    ciphertext = _native.he_encrypt(profile, public_key, slots.tobytes(), seed, parameters.limbs)
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
    sizes = [release.RESIDUE_SIZE_BYTES * vector.limbs for vector in vectors]
    for name, data in posted.items():
        held = sharing.held_by(name)
        parts = message_parts(name, data, len(held))
        # What follows the last vector's share would differ from the other holders' unexplained.
        if any(len(part) != sum(sizes) for part in parts):
            raise malformed(name, f"a share of the test is not {sum(sizes)} bytes")
        copies[name] = dict(zip(held, parts, strict=True))

    def open_all(parts: Mapping[int, bytes]) -> None:
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
