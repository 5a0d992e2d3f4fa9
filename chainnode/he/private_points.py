"""Scorecards whose points stay with the bank: each number is a ciphertext under the joint key.

The points of an indicator are one ciphertext with the same value in every slot, so a score is an
inner product of ciphertexts, relinearised once a block. Every indicator of a named feature has a
ciphertext, zero points too: the number of ciphertexts says nothing. Public are the features, the
size of the largest score to the next power of two, and who asks when.

All randomness comes from the bank's secret and the points, so whoever is shown both can encrypt
again and compare byte for byte (`check_points`); nobody else can tell whether a ciphertext is well
formed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from chainnode import _native
from chainnode.he import canonical
from chainnode.he.plan import LinearForm, Plan
from chainnode.he.planner import degree_and_noise
from chainnode.he.profiles import DEEP
from chainnode.he.schema import Bins, OneHot, TableSchema
from chainnode.he.scorecard import Scorecard
from chainnode.types.errors import ClientFault, PeerFault

if TYPE_CHECKING:
    from chainnode._native import HeColumns

SCORE_BOUND_MIN: Final = 1_024
"""Smaller bounds would say more about the points than their features do."""

SECRET_SIZE_BYTES: Final = 32

POINTS_MALFORMED: Final = "PRIVATE_POINTS_MALFORMED"

PRODUCTS_HELD_MAX: Final = 8
"""Products of one block in memory at once, 2 MB each on five limbs."""


class PrivateScorecard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the chain holds of a scorecard with private points.

    Args:
        name: what `CREDIT_SCORE('name')` refers to.
        table: SQL table it scores.
        schema_hash: of the schema whose bins the points belong to, hex.
        epoch: of the council whose key the points are encrypted under.
        features: SQL columns, in the schema's spelling.
        bound: every score lies in -bound..bound; a power of two.
        limbs: of every ciphertext.
        points: SHA-256 of the ciphertexts, hex: the offset, then every indicator's points.
    """

    name: str
    table: str
    schema_hash: str
    epoch: int
    features: tuple[str, ...]
    bound: int
    limbs: int
    points: tuple[str, ...]

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical.encode(self)

    def hash(self) -> bytes:
        """SHA-256 of the canonical JSON under `chainnode/he-private-scorecard/v1`."""
        return canonical.digest("chainnode/he-private-scorecard/v1", self)

    @staticmethod
    def decode(data: bytes) -> PrivateScorecard:
        """Read canonical JSON.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return canonical.decode(PrivateScorecard, data)

    @property
    def offset(self) -> int:
        """Of the public kind: none, it is encrypted too."""
        return 0

    def bounds(self) -> tuple[int, int]:
        """Smallest and largest score that the bank admits to."""
        return -self.bound, self.bound

    def linear_form(self, schema: TableSchema) -> LinearForm:
        """Every indicator of every feature; the weights are ciphertexts, so none are listed."""
        return LinearForm(_indicators(schema, self.features), ())

    def validate(self, schema: TableSchema) -> None:
        """Check the record against the table it scores.

        Raises:
            ClientFault: `MODEL_INVALID` naming the feature and the rule.
        """
        if self.schema_hash != schema.hash().hex() or self.table != schema.table:
            raise _invalid(self.name, "the model belongs to another schema")
        if not self.features or len(set(self.features)) != len(self.features):
            raise _invalid(self.name, "a model has features, each once")
        for feature in self.features:
            column = schema.column(feature)
            if column is None or column.name != feature:
                raise _invalid(feature, "the table has no such column")
            if not isinstance(column.encoding, OneHot | Bins):
                raise _invalid(feature, "a feature has categories or bins")
            if DEEP.name not in column.profiles:
                raise _invalid(feature, f"private points need the column in profile {DEEP.name}")
        if len(self.points) != 1 + len(_indicators(schema, self.features)):
            raise _invalid(self.name, "there is one ciphertext for the offset and each indicator")
        if not all(map(canonical.is_digest, self.points)):
            raise _invalid(self.name, "points are named by their hashes")
        power_of_two = self.bound.bit_count() == 1 and self.bound >= SCORE_BOUND_MIN
        if not power_of_two or 2 * self.bound >= DEEP.plain_modulus:
            raise _invalid(self.name, "the bound is a power of two from 1024, below t / 2")
        if not 1 <= self.limbs <= DEEP.limbs:
            raise _invalid(self.name, f"ciphertexts have 1 to {DEEP.limbs} limbs")


Model = Scorecard | PrivateScorecard


@dataclass(frozen=True, slots=True)
class EncryptedPoints:
    """What computes a score with private points: ciphertexts of two polynomials, and a key.

    Args:
        offset: added to every score.
        points: one per column of the plan, in its order.
        relin_key: of the council, for profile M.
    """

    offset: bytes
    points: tuple[bytes, ...]
    relin_key: bytes


def decode_model(data: bytes) -> Model:
    """A registered model of either kind.

    Raises:
        ClientFault: `MALFORMED`.
    """
    try:
        return Scorecard.decode(data)
    except ClientFault:
        return PrivateScorecard.decode(data)


def encrypt_points(
    card: Scorecard, schema: TableSchema, epoch: int, parties: int, key: bytes, secret: bytes
) -> tuple[PrivateScorecard, list[bytes]]:
    """A scorecard's public record and its ciphertexts.

    Args:
        card: in the clear; stays with the bank.
        schema: of the table.
        epoch: active epoch of the council.
        parties: pieces of its key.
        key: its public key of profile M.
        secret: 32 bytes from which all randomness is drawn; kept for an audit.

    Raises:
        ClientFault: `MODEL_INVALID` or `PLAN_TOO_DEEP`.
    """
    if len(secret) != SECRET_SIZE_BYTES:
        raise _invalid(card.name, f"the secret has {SECRET_SIZE_BYTES} bytes")
    card.validate(schema, DEEP.name)
    values = [card.offset, *_values(card, schema)]
    features = tuple(item.feature for item in card.features)
    limbs = private_limbs(len(values) - 1, parties)
    blobs = [
        _native.he_encrypt(DEEP.name, key, _slots(value), _seed(card, epoch, secret, place), limbs)
        for place, value in enumerate(values)
    ]
    low, high = card.bounds()
    largest = max(abs(low), abs(high), SCORE_BOUND_MIN)
    record = PrivateScorecard(
        name=card.name,
        table=card.table,
        schema_hash=card.schema_hash,
        epoch=epoch,
        features=features,
        bound=1 << (largest - 1).bit_length(),
        limbs=limbs,
        points=tuple(hashlib.sha256(blob).hexdigest() for blob in blobs),
    )
    record.validate(schema)
    return record, blobs


def check_points(
    record: PrivateScorecard,
    card: Scorecard,
    schema: TableSchema,
    parties: int,
    key: bytes,
    secret: bytes,
) -> None:
    """Whether a record is honestly made of points and a secret the bank shows an auditor.

    Raises:
        PeerFault: `PRIVATE_POINTS_DIFFER`.
    """
    made, _ = encrypt_points(card, schema, record.epoch, parties, key, secret)
    if made != record:
        places = zip(record.points, made.points, strict=False)
        wrong = [place for place, (one, other) in enumerate(places) if one != other]
        raise PeerFault(
            "PRIVATE_POINTS_DIFFER",
            f"{len(wrong)} ciphertexts are not those of these points and this secret"
            if wrong
            else "the record differs from the one these points and this secret give",
            subject=record.name,
            fix="do not approve the model; ask the bank for the points it encrypted",
        )


def private_limbs(columns: int, parties: int) -> int:
    """Limbs that a score of so many private points needs.

    Raises:
        ClientFault: `PLAN_TOO_DEEP`.
    """
    noise = degree_and_noise.private_score_noise_bits(columns, parties)
    limbs = degree_and_noise.fewest_vector_limbs(DEEP, noise, parties)
    capacity = degree_and_noise.vector_capacity_bits(parties, DEEP, limbs)
    degree_and_noise.check_noise(noise, capacity, DEEP, f"{columns} private points")
    return limbs


def require_limbs(record: PrivateScorecard, parties: int) -> None:
    """Whether a record's ciphertexts have the limbs that a council of so many pieces needs.

    Raises:
        ClientFault: `MODEL_STALE`, or `PLAN_TOO_DEEP`.
    """
    limbs = private_limbs(len(record.points) - 1, parties)
    if limbs != record.limbs:
        raise ClientFault(
            "MODEL_STALE",
            f"its points have {record.limbs} limbs where this council needs {limbs}",
            subject=record.name,
            fix="encrypt the points again, under another name",
        )


def require_point(record: PrivateScorecard, place: int, blob: bytes) -> None:
    """Whether a ciphertext of a record has the shape and the residue range that it needs.

    Raises:
        PeerFault: `PRIVATE_POINTS_MALFORMED`.
    """
    try:
        _native.he_validate_ciphertext(DEEP.name, blob, 2, record.limbs)
    except ValueError as error:
        raise PeerFault(
            POINTS_MALFORMED,
            f"ciphertext {place}: {error}",
            subject=record.name,
            fix="the bank must encrypt its points again, under another name",
        ) from error


def score_block(plan: Plan, columns: HeColumns, block: int, points: EncryptedPoints) -> bytes:
    """The unmasked scores of one block, two polynomials: the inner product of stored indicators
    and points, relinearised once, plus the offset.

    Args:
        plan: of kind `scores`, with private points.
        columns: opened with the plan's profile.
        block: counted within `columns`.
        points: in the order of the plan's columns.
    """
    profile, limbs, names = plan.profile, plan.limbs, plan.scored_columns()
    total: list[bytes] = []
    for name, point in zip(names, points.points, strict=True):
        indicator = columns.sum([name], [1], limbs, block, 1)
        total.append(_native.he_multiply(profile, limbs, indicator, point))
        if len(total) == PRODUCTS_HELD_MAX:
            total = [_native.he_add(profile, limbs, total)]
    product = _native.he_add(profile, limbs, total) if len(total) > 1 else total[0]
    linear = _native.he_relinearise(profile, limbs, product, points.relin_key)
    return _native.he_add(profile, limbs, [linear, points.offset])


def _indicators(schema: TableSchema, features: Sequence[str]) -> tuple[str, ...]:
    names: list[str] = []
    for feature in features:
        column = schema.column(feature)
        if column is not None and column.encoding is not None:
            names.extend(column.indicators())
    return tuple(names)


def _values(card: Scorecard, schema: TableSchema) -> list[int]:
    known = card.linear_form(schema)
    points = dict(zip(known.columns, known.weights, strict=True))
    return [
        points.get(name, 0)
        for name in _indicators(schema, [item.feature for item in card.features])
    ]


def _slots(value: int) -> bytes:
    slots = np.full(DEEP.slots, value % DEEP.plain_modulus, dtype="<u8")
    return slots.tobytes()


def _seed(card: Scorecard, epoch: int, secret: bytes, place: int) -> bytes:
    # The points are part of the seed: one seed never encrypts two values.
    where = epoch.to_bytes(8, "big") + place.to_bytes(4, "big")
    return hashlib.sha256(b"chainnode/he-private-points/v1" + secret + card.hash() + where).digest()


def _invalid(subject: str, reason: str) -> ClientFault:
    return ClientFault("MODEL_INVALID", reason, subject=subject, fix="correct the scorecard")
