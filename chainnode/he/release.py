"""Opening results: sealed and switched shares, and the checks before a number is shown.

Pure functions over bytes. Smudging follows the reference study of threshold decryption (Li,
Micciancio, Schultz and Sorrell, CRYPTO 2022); the collective key switch is the PCKS protocol of
Mouchet, Troncoso-Pastoriza, Bossuat and Hubaux (PETS 2021). These functions add up one share of
each piece of the key; whose copy of a piece is wrong, `threshold` finds out.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chainnode import _native
from chainnode.types.errors import ClientFault, InternalError, PeerFault
from chainnode.types.limits import RELEASE_UNITS_MAX

if TYPE_CHECKING:
    from chainnode._native import HeSecretKey

Item = TypeVar("Item")
Made = TypeVar("Made")

RESIDUE_SIZE_BYTES: Final = 8
KEY_SIZE_BYTES: Final = 32
SEALED_EXTRA_BYTES: Final = KEY_SIZE_BYTES + 16
"""What `seal` adds to a message: a key before it, a tag after it."""
FULL_RELEASE_UNITS: Final = 2**8
"""What an opening costs whose noise is all that flooding hides with 64 bits over 2^16 of them."""

# Blocks of a vector are independent and the native calls let other threads run.
THREADS: Final = 4

# An X25519 result is used for one message only, so the nonce may be constant.
_NONCE: Final = bytes(12)


class WrongShare(PeerFault):
    """At least one member's share is wrong: no number may be shown.

    Args:
        members: at fault is one of these; alone when it is known.
    """

    def __init__(self, members: Sequence[str], subject: str, reason: str) -> None:
        self.members = tuple(members)
        self.reason = reason
        who = (
            f"the guilty member is {members[0]}"
            if len(members) == 1
            else f"at fault is one of: {', '.join(members)}"
        )
        super().__init__(
            "WRONG_SHARE",
            f"{reason}; {who}",
            subject=subject,
            fix="read the audit trail of the query, have that member's keyholder looked at, "
            "ask again",
        )


def wrong_share(members: Sequence[str], subject: str, reason: str) -> WrongShare:
    """The error for shares that do not add up; the fault lies among `members`."""
    return WrongShare(members, subject, reason)


# --- sealed boxes ---------------------------------------------------------------------------------


def public_bytes(private: X25519PrivateKey) -> bytes:
    """The 32 raw bytes of the public half."""
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def seal(recipient: bytes, message: bytes, context: bytes) -> bytes:
    """Encrypt to an X25519 public key: 32-byte ephemeral key, ciphertext, 16-byte tag.

    Args:
        recipient: 32 raw bytes.
        message: plaintext.
        context: what the message belongs to; opening under another context fails.

    Raises:
        ClientFault: `KEY_INVALID` when the recipient key is no point of use.
    """
    ephemeral = X25519PrivateKey.generate()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    except ValueError as error:
        raise ClientFault(
            "KEY_INVALID",
            "the key to seal to is not a usable X25519 public key",
            subject=recipient.hex(),
            fix="publish a fresh sealing key",
        ) from error
    sender = public_bytes(ephemeral)
    key = _box_key(shared, sender, recipient)
    return sender + ChaCha20Poly1305(key).encrypt(_NONCE, message, context)


def open_sealed(private: X25519PrivateKey, box: bytes, context: bytes) -> bytes:
    """Decrypt what `seal` made for this key and context.

    Raises:
        PeerFault: `SEALED_SHARE_INVALID`.
    """
    sender = box[:KEY_SIZE_BYTES]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(sender))
        key = _box_key(shared, sender, public_bytes(private))
        return ChaCha20Poly1305(key).decrypt(_NONCE, box[KEY_SIZE_BYTES:], context)
    except (ValueError, InvalidTag) as error:
        raise PeerFault(
            "SEALED_SHARE_INVALID",
            "a sealed share does not open with this key",
            fix="check that the query was asked with this client's keys",
        ) from error


def _box_key(shared: bytes, sender: bytes, recipient: bytes) -> bytes:
    info = b"chainnode/he-seal/v1" + sender + recipient
    return HKDF(hashes.SHA256(), KEY_SIZE_BYTES, salt=None, info=info).derive(shared)


def share_context(query_id: bytes, result_hash: bytes, organisation: str, purpose: str) -> bytes:
    """What a sealed share is bound to: the query, its result, who gives it and what for."""
    return b"/".join(
        [b"chainnode/he-share/v1", query_id, result_hash, organisation.encode(), purpose.encode()]
    )


# --- flooding -------------------------------------------------------------------------------------


def flood_seed(
    flood_key: bytes,
    epoch: int,
    result_hash: bytes,
    active_set: Sequence[str],
    part: str,
    target: bytes = b"",
) -> bytes:
    """The seed of one share's smudging noise: the same on every resend, else unrelated.

    A share sent twice with fresh noise would let the noise be averaged away; noise shared by two
    ciphertexts or two target keys would cancel. So the seed covers all of them.

    Args:
        flood_key: the member's 32-byte secret for this purpose.
        epoch: of the joint key.
        result_hash: of the finalised result.
        active_set: organisations that open together, in council order.
        part: which ciphertext of the result.
        target: public key a vector is switched to; empty for scalars.
    """
    fields = [epoch.to_bytes(8, "big"), result_hash, *(name.encode() for name in active_set)]
    fields += [part.encode(), hashlib.sha256(target).digest()]
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return hmac.new(flood_key, b"chainnode/he-flood/v1" + message, hashlib.sha256).digest()


def release_units(spare_bits: int) -> int:
    """What opening one scalar or polynomial costs of `RELEASE_UNITS_MAX`.

    An opening gives away at most 24 c B^2 / sigma^2 for noise B, flooding of deviation sigma and c
    coefficients, and what many give away adds up (Li, Micciancio, Schultz and Sorrell, CRYPTO
    2022). At the planner's capacity that is 2^-80, so 2^16 openings keep 64 bits; every bit below
    it divides the loss by four, down to 2^-88, of which 2^24 keep 64 bits too.

    Args:
        spare_bits: how far the noise bound stays below the capacity; none below 0.
    """
    if spare_bits < 0:
        raise InternalError("NOISE_NOT_HIDDEN", f"noise {-spare_bits} bits above the capacity")
    return max(1, FULL_RELEASE_UNITS >> 2 * spare_bits)


class ReleaseCounter:
    """What one key share has spent on opened scalars and polynomials; stops hard at 2^24 units.

    Up to the stop all of them together leave at least 64 bits of statistical security; after it
    the epoch must change.

    Args:
        used: units stored so far.
    """

    def __init__(self, used: int = 0) -> None:
        self.used = used

    def spend(self, count: int, spare_bits: int = 0) -> None:
        """Pay for `count` more openings, or refuse all of them.

        Args:
            count: scalars or polynomials.
            spare_bits: see `release_units`.

        Raises:
            PeerFault: `RELEASES_EXHAUSTED`.
        """
        units = count * release_units(spare_bits)
        if self.used + units > RELEASE_UNITS_MAX:
            raise PeerFault(
                "RELEASES_EXHAUSTED",
                f"this key share has spent {self.used} of {RELEASE_UNITS_MAX} release units, and "
                f"this answer costs {units}",
                fix="rotate to a new council epoch and encrypt the tables again: chainnode he "
                "rotate",
            )
        self.used += units


# --- shares and their combination -----------------------------------------------------------------


def split_shares(data: bytes, limbs: int, count: int, member: str) -> list[bytes]:
    """One member's scalar shares, 8 bytes a limb each.

    Raises:
        WrongShare: the length is wrong, which names this member alone.
    """
    size = RESIDUE_SIZE_BYTES * limbs
    if len(data) != size * count:
        raise wrong_share([member], member, f"{len(data)} bytes of shares, wants {size * count}")
    return [data[start : start + size] for start in range(0, len(data), size)]


def open_scalars(
    profile: str,
    limbs: int,
    ciphertexts: Sequence[bytes],
    shares: Mapping[str, bytes],
    subject: str,
) -> list[int]:
    """The slot sums modulo t that all members' shares open.

    Flooding fills the modulus up to a margin that right shares always leave; wrong ones keep it
    with a chance of 2^-margin only.

    Args:
        profile: ring of the ciphertexts.
        limbs: leading limbs they carry.
        ciphertexts: two polynomials each.
        shares: organisation to its concatenated scalar shares, one per ciphertext.
        subject: query or test named in the error.

    Raises:
        WrongShare: naming the members among whom the fault lies.
    """
    members, margin = list(shares), _native.HE_SCALAR_MARGIN_BITS
    split = [split_shares(data, limbs, len(ciphertexts), member) for member, data in shares.items()]
    opened = []
    for index, ciphertext in enumerate(ciphertexts):
        parts = [own[index] for own in split]
        try:
            value, room = _native.he_combine_scalar(profile, limbs, ciphertext, parts)
        except ValueError as error:
            raise wrong_share(members, subject, f"value {index}: {error}") from error
        if room < margin:
            raise wrong_share(
                members, subject, f"value {index} leaves {room} noise bits, wants {margin}"
            )
        opened.append(value)
    return opened


def switch_vectors(
    profile: str,
    limbs: int,
    ciphertexts: Sequence[bytes],
    shares: Mapping[str, Sequence[bytes]],
    subject: str,
) -> list[bytes]:
    """The same plaintexts under the target key, from all members' key-switch shares.

    Raises:
        WrongShare: a member's share has the wrong number of blocks or the wrong shape.
    """
    for member, blocks in shares.items():
        if len(blocks) != len(ciphertexts):
            raise wrong_share([member], subject, f"{len(blocks)} blocks, wants {len(ciphertexts)}")

    def combine(index: int) -> bytes:
        parts = [blocks[index] for blocks in shares.values()]
        return _native.he_combine_key_switch(profile, limbs, ciphertexts[index], parts)

    try:
        return each(combine, range(len(ciphertexts)))
    except ValueError:
        _name_malformed(profile, limbs, shares, subject)
        raise


def _name_malformed(
    profile: str, limbs: int, shares: Mapping[str, Sequence[bytes]], subject: str
) -> None:
    for member, blocks in shares.items():
        for block in blocks:
            try:
                _native.he_validate_ciphertext(profile, block, 2, limbs)
            except ValueError as error:
                raise wrong_share([member], subject, f"malformed share: {error}") from error


def each(make: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """What `make` gives for each item, in their order, computed on a few threads."""
    if len(items) < 2:
        return [make(item) for item in items]
    with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
        return list(pool.map(make, items))


def open_vectors(
    key: HeSecretKey, limbs: int, switched: Sequence[bytes], members: Sequence[str], subject: str
) -> list[bytes]:
    """The slots of switched vectors, each block decrypted once for its noise and its slots.

    Args:
        key: the target's.
        limbs: leading limbs of the vectors.
        switched: as `switch_vectors` gives them.
        members: whose shares were combined.
        subject: the query.

    Raises:
        WrongShare: naming the members among whom the fault lies.
    """
    opened = each(lambda block: key.open(block, limbs), switched)
    check_margin([room for _, room in opened], members, subject)
    return [slots for slots, _ in opened]


def check_margin(rooms: Sequence[int], members: Sequence[str], subject: str) -> None:
    """Refuse switched vectors whose noise fills the modulus.

    Args:
        rooms: `noise_budget_bits` of every switched block.
        members: whose shares were combined.
        subject: the query.

    Raises:
        WrongShare: naming the members among whom the fault lies.
    """
    for index, room in enumerate(rooms):
        if room < 1:
            raise wrong_share(members, subject, f"block {index} leaves {room} noise bits")
