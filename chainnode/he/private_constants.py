"""Conditions whose constant stays with the bank: each category's selector is a ciphertext.

`WHERE sector = PRIVATE(x)` is computed as GROUP BY sector is, and every group's sum is multiplied
with its selector: 1 in all slots for the bank's category, 0 in all slots for the others. What is
released is the sum of the products. The council opens the counts of all groups to itself, and
checks that are 0 if the selectors are what they should be: random linear combinations of "all slots
are equal", "the value is 0 or 1" and, for `=`, "the values add up to 1". The weights are drawn
from the plan's hash, which names the selectors, so that they are fixed before the weights are
known (Fiat and Shamir, CRYPTO 1986); one check misses with a chance of 1/t.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from chainnode import _native
from chainnode.he import canonical
from chainnode.he.plan import AggregatePart, Output, Plan, PrivateConstant
from chainnode.he.planner import constants
from chainnode.he.planner.tree import Compare, Constant, Name
from chainnode.he.profiles import PROFILES
from chainnode.he.schema import Bins, OneHot, TableSchema
from chainnode.types.errors import ClientFault, InternalError, PeerFault

CHECKS: Final = 4
"""Four checks miss together with a chance of t^-4, below 2^-128."""

SELECTORS_MALFORMED: Final = "SELECTORS_MALFORMED"
SECRET_SIZE_BYTES: Final = 32
_WORD_BYTES: Final = 8

Slots = npt.NDArray[np.uint64]


class SelectorRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The blob that a private constant's text names by its hash.

    Args:
        table: SQL table of the query.
        schema_hash: of its schema, hex.
        epoch: of the council whose key the selectors are encrypted under.
        column: SQL column.
        limbs: of every ciphertext.
        selectors: SHA-256 of the ciphertexts, hex, one for each category or bin in order.
    """

    table: str
    schema_hash: str
    epoch: int
    column: str
    limbs: int
    selectors: tuple[str, ...]

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical.encode(self)

    def hash(self) -> bytes:
        """SHA-256 of the canonical JSON: where the record is kept as a blob."""
        return hashlib.sha256(self.encode()).digest()

    @staticmethod
    def decode(data: bytes) -> SelectorRecord:
        """Read canonical JSON.

        Raises:
            ClientFault: `MALFORMED`.
        """
        return canonical.decode(SelectorRecord, data)


# --- the bank's side ------------------------------------------------------------------------------


def chosen(private: PrivateConstant, schema: TableSchema, value: str) -> tuple[bool, ...]:
    """Which categories or bins satisfy the comparison with the bank's constant.

    Args:
        private: of the plan.
        schema: of the table.
        value: category, number or date as text.

    Raises:
        ClientFault: `SQL_UNSUPPORTED` where the same text with the constant in it would be, and
            where `=` names nothing.
    """
    column = schema.column(private.column)
    if column is None or not isinstance(column.encoding, OneHot | Bins):
        raise InternalError("PLAN_KIND", "no column to choose from", subject=private.column)
    encoding = column.encoding
    text = f"{column.name} {private.operator} {value!r}"
    number = isinstance(encoding, Bins) and not encoding.dates
    constant = Constant(value, "number" if number else "text")
    compare = Compare(Name(column.name), private.operator, constant, text)
    true, _ = constants.sides(compare, column)
    bins = {monomial[0][1] for monomial in true}
    if private.operator == "=" and len(bins) != 1:
        raise ClientFault(
            "SQL_UNSUPPORTED",
            f"{text}: the constant is in no bin",
            subject=text,
            fix="choose a value within the column's range",
        )
    return tuple(index in bins for index in range(encoding.bin_count()))


def encrypt_selectors(
    plan: Plan, picks: Sequence[bool], epoch: int, key: bytes, secret: bytes
) -> tuple[SelectorRecord, list[bytes]]:
    """The record of a private constant and its ciphertexts.

    Args:
        plan: of the text with the constant's name.
        picks: from `chosen`.
        epoch: active epoch of the council.
        key: its public key of the plan's profile.
        secret: 32 bytes, drawn for this query alone, that all randomness comes from: whoever is
            shown them and the constant can encrypt again and compare.
    """
    private = private_of(plan)
    if len(secret) != SECRET_SIZE_BYTES or len(picks) != private.choices:
        raise InternalError("SELECTORS_SHAPE", "a secret of 32 bytes and one pick for each choice")
    blobs = []
    for place, pick in enumerate(picks):
        seed = hashlib.sha256(
            b"chainnode/he-private-constant/v1"
            + secret
            + epoch.to_bytes(8, "big")
            + place.to_bytes(4, "big")
            + bytes([pick])
        ).digest()
        slots = _constant_slots(plan, int(pick)).tobytes()
        blobs.append(_native.he_encrypt(plan.profile, key, slots, seed, plan.limbs))
    digests = tuple(hashlib.sha256(blob).hexdigest() for blob in blobs)
    record = SelectorRecord(
        plan.table, plan.schema_hash, epoch, private.column, plan.limbs, digests
    )
    return record, blobs


# --- the workers' side ----------------------------------------------------------------------------


def require_record(plan: Plan, record: SelectorRecord, epoch: int) -> None:
    """Whether a record is for this plan and epoch.

    Raises:
        PeerFault: `SELECTORS_MALFORMED`.
    """
    private = private_of(plan)
    wanted = (plan.table, plan.schema_hash, epoch, private.column, plan.limbs, private.choices)
    stated = (record.table, record.schema_hash, record.epoch, record.column, record.limbs)
    if (*stated, len(record.selectors)) != wanted:
        raise _malformed(plan, "the record is for another query")
    if not all(map(canonical.is_digest, record.selectors)):
        raise _malformed(plan, "the record names what is no hash")


def require_selector(plan: Plan, blob: bytes) -> None:
    """Whether a selector has the shape and the residue range of a ciphertext.

    Raises:
        PeerFault: `SELECTORS_MALFORMED`.
    """
    try:
        _native.he_validate_ciphertext(plan.profile, blob, 2, plan.limbs)
    except ValueError as error:
        raise _malformed(plan, f"it is no ciphertext: {error}") from error


def select(
    plan: Plan, totals: Sequence[bytes], selectors: Sequence[bytes], relin_key: bytes
) -> list[bytes]:
    """The result of a plan with a private constant, from the sums of all its groups.

    Args:
        plan: of kind `aggregate`, with a private constant.
        totals: every output of every group, two polynomials each.
        selectors: one for each choice.
        relin_key: of the council.

    Returns:
        The counts that are gates, the checks, and what is released: the places that
        `gate_places`, `check_places` and `released_places` tell.
    """
    part, choices = plan.sums(), private_of(plan).choices
    if len(selectors) != choices:
        raise InternalError("SELECTORS_MISSING", "a private plan needs its selectors")
    gates = [totals[index] for index in part.gates()]
    width = len(part.outputs) // len(part.groups)
    released = []
    for first in range(0, len(part.outputs), choices * width):
        for position in range(width):
            sums = [totals[first + choice * width + position] for choice in range(choices)]
            products = [
                _native.he_multiply(plan.profile, plan.limbs, selector, total)
                for selector, total in zip(selectors, sums, strict=True)
            ]
            released.append(_relinearised(plan, products, relin_key))
    return [*gates, *(_check(plan, j, selectors, relin_key) for j in range(CHECKS)), *released]


def _relinearised(plan: Plan, products: Sequence[bytes], relin_key: bytes) -> bytes:
    total = _native.he_add(plan.profile, plan.limbs, list(products))
    return _native.he_relinearise(plan.profile, plan.limbs, total, relin_key)


def _check(plan: Plan, number: int, selectors: Sequence[bytes], relin_key: bytes) -> bytes:
    """A ciphertext whose slots add up to 0 if the selectors are well formed.

    Per selector s: slot i of s is weighted with v_i - r + q and its square with r, where the v_i
    add up to 0; then q is taken away once for each slot. Slots that differ leave the first sum,
    a value other than 0 and 1 leaves r (s^2 - s), a total other than 1 leaves q.
    """
    profile, limbs = plan.profile, plan.limbs
    modulus, slots = np.uint64(PROFILES[profile].plain_modulus), PROFILES[profile].slots
    words = len(selectors) * (slots + 1) + 1
    domain = b"chainnode/he-selector-check/v1" + plan.hash() + bytes([number])
    stream = hashlib.shake_256(domain).digest(_WORD_BYTES * words)
    drawn = np.frombuffer(stream, dtype="<u8") % modulus
    total = drawn[-1] if private_of(plan).operator == "=" else np.uint64(0)
    linear, squares = [], []
    for place, selector in enumerate(selectors):
        weights = drawn[place * (slots + 1) : (place + 1) * (slots + 1)].copy()
        square, varied = weights[-1], weights[:-1]
        # Sums of fewer than 2^15 numbers below 2^37 stay below 2^64.
        varied[-1] = (modulus - varied[:-1].sum() % modulus) % modulus
        varied = (varied + total + modulus - square) % modulus
        linear.append(_native.he_multiply_plain(profile, limbs, selector, _packed(varied)))
        weighted = _native.he_multiply_plain(
            profile, limbs, selector, _constant_slots(plan, int(square)).tobytes()
        )
        squares.append(_native.he_multiply(profile, limbs, weighted, selector))
    summed = _native.he_add(profile, limbs, [*linear, _relinearised(plan, squares, relin_key)])
    away = _constant_slots(plan, int((modulus - total) % modulus))
    return _native.he_add_plain(profile, limbs, summed, away.tobytes())


# --- places in a result ---------------------------------------------------------------------------


def gate_places(plan: Plan) -> tuple[int, ...]:
    """Where a result holds the counts that the council opens to itself first."""
    gates = plan.sums().gates()
    return gates if plan.private_constant() is None else tuple(range(len(gates)))


def check_places(plan: Plan) -> tuple[int, ...]:
    """Where a result holds checks of selectors, opened with the counts: all of them are 0."""
    if plan.private_constant() is None:
        return ()
    first = len(plan.sums().gates())
    return tuple(range(first, first + CHECKS))


def released_places(plan: Plan) -> tuple[int, ...]:
    """Where a result holds what the bank receives; nothing else of it leaves the council."""
    outputs = len(plan.sums().outputs)
    private = plan.private_constant()
    if private is None:
        return tuple(range(outputs))
    first = len(plan.sums().gates()) + CHECKS
    return tuple(range(first, first + outputs // private.choices))


def result_count(plan: Plan) -> int:
    """Ciphertexts of a result of an aggregate plan."""
    if plan.private_constant() is None:
        return len(plan.sums().outputs)
    return len(plan.sums().gates()) + CHECKS + len(released_places(plan))


def selection_cost(part: AggregatePart, private: PrivateConstant) -> tuple[int, int, int]:
    """Products and relinearisations that choosing takes, and ciphertexts of its result."""
    released = len(part.outputs) // private.choices
    products = len(part.outputs) + CHECKS * private.choices
    return products, released + CHECKS, len(part.gates()) + CHECKS + released


def released_plan(plan: Plan) -> Plan:
    """The plan as whoever opens the answer reads it: one group where the constant chose."""
    private = plan.private_constant()
    if private is None:
        return plan
    part = plan.sums()
    width = len(part.outputs) // len(part.groups)
    outputs: list[Output] = []
    for first in range(0, len(part.outputs), private.choices * width):
        group = len(outputs) // width
        chosen_from = part.outputs[first : first + width]
        outputs += [msgspec.structs.replace(output, group=group) for output in chosen_from]
    public = msgspec.structs.replace(
        part,
        group_columns=part.group_columns[:-1],
        groups=tuple(labels[:-1] for labels in part.groups[:: private.choices]),
        outputs=tuple(outputs),
        # The council looked at each group that was chosen from; no group at all is an answer too.
        minimum_group_size=0,
        private=msgspec.UNSET,
    )
    return msgspec.structs.replace(plan, aggregate=public)


def require_checks(plan: Plan, residues: Sequence[int]) -> None:
    """Whether the checks of a plan's selectors opened to 0.

    Raises:
        PeerFault: `SELECTORS_MALFORMED`.
    """
    if any(residues):
        raise _malformed(plan, "the private constant's selectors do not choose whole categories")


def private_of(plan: Plan) -> PrivateConstant:
    """The private constant of a plan that has one."""
    private = plan.private_constant()
    if private is None:
        raise InternalError("PLAN_KIND", "no private constant", subject=plan.hash().hex())
    return private


def _constant_slots(plan: Plan, value: int) -> Slots:
    return np.full(PROFILES[plan.profile].slots, value, dtype="<u8")


def _packed(slots: Slots) -> bytes:
    return slots.astype("<u8").tobytes()


def _malformed(plan: Plan, reason: str) -> PeerFault:
    return PeerFault(
        SELECTORS_MALFORMED,
        reason,
        subject=plan.hash().hex(),
        fix="the bank must ask again with an unchanged client",
    )
