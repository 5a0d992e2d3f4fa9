"""Checks of published columns by sums that open to zero, over audited columns.

Of every group of indicators of which exactly one is set in each row, the sum less one; of every
indicator b, b^2 - b where the ring carries the product: each is weighted in every slot with a
number modulo t that nobody could foresee, and summed. If any slot is off, such a sum is zero with
a chance of 1 / t, whatever the others hold: errors cannot be made to cancel (the linear test of
Schwartz and Zippel). Repetitions with independent weights push it below 2^-80. Weights come from
the plan, which names the columns' root, and the check's id: whoever tries columns or ids until a
false sum opens to zero must try 2^80 of them.

The council alone sees the sums. They are zero for honest columns, so they tell nothing about them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from math import ceil, log2
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from chainnode import _native
from chainnode.he.plan import (
    AggregatePart,
    Cost,
    LinearForm,
    Output,
    Plan,
    Term,
)
from chainnode.he.planner import build, degree_and_noise
from chainnode.he.profiles import PROFILES, Profile, ProfileName
from chainnode.he.schema import PRESENCE_COLUMN, Digits, TableSchema, rows_per_block
from chainnode.types.errors import ClientFault

if TYPE_CHECKING:
    from chainnode._native import HeColumns

SOUNDNESS_BITS: Final = 80
"""A publication with a slot that is off passes with a chance of at most 2^-80."""

WEIGHT_DOMAIN: Final = b"chainnode/he-check-weights/v1"
_STATEMENT: Final = re.compile(
    r"CHECK COLUMNS OF ([^ ]+) OF ([^ ]+) IN (S|S36|M) AT ([0-9a-f]{64})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class CheckStatement:
    """What a check is about, as its text on chain says.

    Args:
        table: name.
        owner: whose columns.
        profile: of the columns.
        root: of the publication.
    """

    table: str
    owner: str
    profile: ProfileName
    root: bytes

    def text(self) -> str:
        """As it stands on chain."""
        return (
            f"CHECK COLUMNS OF {self.table} OF {self.owner} IN {self.profile} AT {self.root.hex()}"
        )

    @staticmethod
    def read(text: str) -> CheckStatement | None:
        """The statement a text is; None if it is another text, such as SQL."""
        found = _STATEMENT.fullmatch(text)
        if found is None:
            return None
        table, owner, profile, root = found.groups()
        return CheckStatement(table, owner, cast(ProfileName, profile), bytes.fromhex(root))


def repetitions(profile: Profile) -> int:
    """Sums of independent weights that `SOUNDNESS_BITS` takes."""
    return ceil(SOUNDNESS_BITS / log2(profile.plain_modulus))


def indicator_groups(
    schema: TableSchema, owner: str, profile: ProfileName
) -> dict[str, tuple[str, ...]]:
    """Stored indicators of which exactly one is 1 in every row, by a readable name."""
    stored = schema.stored_columns(profile, owner)
    found: dict[str, tuple[str, ...]] = {}
    if PRESENCE_COLUMN in stored:
        found[PRESENCE_COLUMN] = (PRESENCE_COLUMN,)
    for column in schema.columns:
        if column.owner != owner or profile not in column.profiles or column.encoding is None:
            continue
        if not isinstance(column.encoding, Digits):
            found[column.name] = column.indicators()
            continue
        missing = (column.missing_indicator(),) if column.may_be_missing() else ()
        for place in range(column.encoding.digit_count()):
            name = column.digit(place)
            values = range(column.encoding.digit_values(place))
            found[name] = (*(f"{name}.{value}" for value in values), *missing)
    for joint in schema.stored_joints(profile):
        if joint.owner == owner:
            found[joint.name] = schema.joint_indicators(joint)
    return found


def check_plan(
    statement: CheckStatement, schema: TableSchema, parties: int, chunk_count: int
) -> Plan:
    """The one plan every member makes of a check.

    Args:
        statement: what to check.
        schema: of the table.
        parties: pieces of the joint key.
        chunk_count: workers to split the blocks over.

    Raises:
        ClientFault: `NOTHING_TO_CHECK`, or `PLAN_TOO_DEEP` for more indicators and blocks than the
            profile's noise allows.
    """
    profile = PROFILES[statement.profile]
    blocks = schema.block_count(profile.name)
    groups = indicator_groups(schema, statement.owner, profile.name)
    if not groups or statement.table != schema.table:
        raise ClientFault(
            "NOTHING_TO_CHECK",
            f"{statement.owner} stores no indicators of {schema.table} in {profile.name}",
            subject=statement.owner,
            fix="name a table, an owner and a profile that stores its indicators",
        )
    capacity = degree_and_noise.scalar_capacity_bits(profile, parties)
    outputs: list[Output] = []
    for name, columns in groups.items():
        sums = (Term((LinearForm(columns, (1,) * len(columns)),)),)
        outputs += _repeated(f"{name}: sum", sums, profile, parties, blocks)
        bits = tuple(_bit(column) for column in columns)
        if profile.factors_max() > 1 and _noise_bits(profile, bits, parties, blocks) <= capacity:
            outputs += _repeated(f"{name}: bits", bits, profile, parties, blocks)
    text, noise = statement.text(), max(output.noise_bits for output in outputs)
    room = build.sums_room(profile, noise, parties, text)
    part = AggregatePart((), ((),), 0, tuple(outputs), ())
    cost = _cost(outputs, blocks, 2 * room.limbs * profile.slots * 8)
    return build.plan_of("check", text, schema, room, cost, chunk_count, part)


def _cost(outputs: list[Output], blocks: int, block_bytes: int) -> Cost:
    work = build.work(outputs)
    return Cost(
        bytes_read=work.columns * blocks * block_bytes,
        products=work.products * blocks,
        relinearisations=work.relinearisations,
        result_bytes=len(outputs) * block_bytes,
    )


def checks_bits(plan: Plan) -> bool:
    """Whether a check looks at b^2 - b too, which only profile M has the noise for."""
    return plan.aggregate is not None and any(out.degree() > 1 for out in plan.aggregate.outputs)


def _bit(column: str) -> Term:
    return Term((LinearForm((column,), (1,)), LinearForm((column,), (1,), -1)))


def _repeated(
    name: str, terms: tuple[Term, ...], profile: Profile, parties: int, blocks: int
) -> list[Output]:
    noise = _noise_bits(profile, terms, parties, blocks)
    return [
        Output(f"{name} {number}", 0, "count", terms, 0, profile.plain_modulus - 1, noise)
        for number in range(repetitions(profile))
    ]


def _noise_bits(profile: Profile, terms: tuple[Term, ...], parties: int, blocks: int) -> int:
    """Of a weighted sum: a plaintext of random slots multiplies noise by sqrt(N) t / sqrt(12)."""
    weights = profile.plain_modulus**2 * profile.slots // 12
    growth = degree_and_noise.root_bits(weights)
    return degree_and_noise.output_noise_bits(profile, terms, blocks, parties) + growth


# --- computing ------------------------------------------------------------------------------------


def slot_weights(profile: Profile, bound: bytes, output: str, term: int, block: int) -> bytes:
    """One number modulo t a slot, as plaintext slots, for one block of one term.

    `bound` is the plan's hash and the check's id.
    """
    place = term.to_bytes(4, "big") + block.to_bytes(8, "big") + output.encode()
    stream = hashlib.shake_256(WEIGHT_DOMAIN + bound + place)
    numbers = np.frombuffer(stream.digest(8 * profile.slots), "<u8")
    return (numbers % np.uint64(profile.plain_modulus)).astype("<u8").tobytes()


def weighted_output(
    plan: Plan,
    output: Output,
    columns: HeColumns,
    span: tuple[int, int],
    query_id: bytes,
    table_first: int,
) -> bytes:
    """The ciphertext of one output over a few blocks.

    Args:
        plan: of a check.
        output: one of the plan's.
        columns: opened with the plan's profile.
        span: first block, counted within `columns`, and number of blocks.
        query_id: of the check; part of the weights.
        table_first: the table's number of that first block.
    """
    first, count = span
    profile, bound, total = PROFILES[plan.profile], plan.hash() + query_id, b""
    for place in range(count):
        block = table_first + place
        for number, term in enumerate(output.terms):
            value = _block_value(plan, term, columns, first + place, block)
            weights = slot_weights(profile, bound, output.name, number, block)
            part = _native.he_multiply_plain(plan.profile, plan.limbs, value, weights)
            total = _native.he_add(plan.profile, plan.limbs, [total, part]) if total else part
    return total


def _block_value(plan: Plan, term: Term, columns: HeColumns, place: int, block: int) -> bytes:
    if len(term.factors) > 1:
        forms = [(form.columns, form.weights, form.constant) for form in term.factors]
        return columns.tensor_sum(forms, plan.limbs, place, 1)
    (form,) = term.factors
    summed = columns.sum(form.columns, form.weights, plan.limbs, place, 1)
    return _native.he_add_plain(plan.profile, plan.limbs, summed, _minus_rows(plan, block))


def _minus_rows(plan: Plan, block: int) -> bytes:
    """-1 in the slot of every row of a block, 0 elsewhere."""
    profile, held = PROFILES[plan.profile], rows_per_block(plan.profile)
    slots = np.zeros(profile.slots, "<u8")
    slots[: max(0, min(held, plan.rows - block * held))] = profile.plain_modulus - 1
    return slots.tobytes()
