"""Reading opened results: residues to numbers, groups to rows, slots to scores.

Nothing here needs a ciphertext or a key. The council judges group sizes by it, the bank reads its
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from chainnode.he import answer, encode
from chainnode.he.answer import Average, Row
from chainnode.he.plan import AggregatePart, GroupLabel, Plan
from chainnode.he.profiles import PROFILES
from chainnode.he.schema import rows_per_block
from chainnode.he.score_column import ScoreColumn
from chainnode.types.errors import InternalError, PeerFault

__all__ = [
    "Average",
    "Row",
    "assemble",
    "group_outputs",
    "lift",
    "open_models",
    "open_scores",
    "passes_gate",
]


def group_outputs(plan: Plan, group: int) -> tuple[int, ...]:
    """Indices of one group's outputs, its count first."""
    return tuple(index for index, output in enumerate(plan.sums().outputs) if output.group == group)


def passes_gate(plan: Plan, group_count: int) -> bool:
    """Whether a group is large enough to be opened to the bank, or a check's sum is zero."""
    if plan.kind == "check":
        return group_count == 0
    return group_count >= plan.sums().minimum_group_size


def lift(plan: Plan, output_index: int, residue: int) -> int:
    """The integer an opened residue modulo t stands for.

    Raises:
        PeerFault: `WRONG_SHARE` when no value the plan allows has this residue.
    """
    output = plan.sums().outputs[output_index]
    modulus = PROFILES[plan.profile].plain_modulus
    value = output.minimum + (residue - output.minimum) % modulus
    if value > output.maximum:
        raise PeerFault(
            "WRONG_SHARE",
            f"output {output.name} opened to a value outside its possible range",
            subject=plan.hash().hex(),
            fix="open it with another active set and report the members whose shares disagree",
        )
    return value


def assemble(plan: Plan, opened: Sequence[int | None]) -> list[Row]:
    """The user's rows from the opened residues.

    Args:
        plan: of kind `aggregate`, from `private_constants.released_plan`.
        opened: one residue modulo t per output; None where the council refused the group.

    Raises:
        PeerFault: `WRONG_SHARE` for an impossible value.
    """
    part = plan.sums()
    names = tuple(item.name for item in part.answers)
    rows = []
    for group, labels in enumerate(part.groups):
        indices = group_outputs(plan, group)
        residues = [opened[index] for index in indices]
        values = [
            lift(plan, index, residue)
            for index, residue in zip(indices, residues, strict=True)
            if residue is not None
        ]
        gates = [
            value
            for index, value in zip(indices, values, strict=False)
            if part.outputs[index].kind == "count"
        ]
        if len(values) < len(indices) or not all(passes_gate(plan, gate) for gate in gates):
            rows.append(Row(names, _labels_alone(part, labels), "group too small"))
        elif part.group_columns and values[0] == 0:
            continue
        elif part.having is None or answer.holds(part.having, labels, values):
            shown = [answer.evaluate(item.value, labels, values) for item in part.answers]
            rows.append(Row(names, tuple(shown)))
    return answer.ordered(part, rows)


def _labels_alone(part: AggregatePart, labels: Sequence[str | None]) -> tuple[str | None, ...]:
    return tuple(
        labels[item.value.position] if isinstance(item.value, GroupLabel) else None
        for item in part.answers
    )


def open_scores(
    plan: Plan,
    block_slots: Sequence[bytes],
    mask_blocks: Sequence[bytes],
    ids: Sequence[str],
    query_id: bytes,
) -> ScoreColumn:
    """The scores of the rows the mask keeps, checked against sentinels and zeros.

    Args:
        plan: of kind `scores`.
        block_slots: decrypted slots of every block.
        mask_blocks: the mask the workers used.
        ids: the registry's ids in order.
        query_id: as given to `run_chunk`.

    Raises:
        PeerFault: `WRONG_SHARE` when a sentinel, a masked slot or a score's range is wrong.
    """
    if len(plan.score_parts()) != 1:
        raise InternalError("PLAN_KIND", "not of one score", subject=plan.hash().hex())
    return next(iter(open_models(plan, block_slots, mask_blocks, ids, query_id).values()))


def open_models(
    plan: Plan,
    block_slots: Sequence[bytes],
    mask_blocks: Sequence[bytes],
    ids: Sequence[str],
    query_id: bytes,
) -> dict[str, ScoreColumn]:
    """The scores of every scorecard of a plan, by its name; see `open_scores`."""
    parts = plan.score_parts()
    return {
        part.model: _open_model(
            plan, place, block_slots[place :: len(parts)], mask_blocks, ids, query_id
        )
        for place, part in enumerate(parts)
    }


def _open_model(
    plan: Plan,
    place: int,
    block_slots: Sequence[bytes],
    mask_blocks: Sequence[bytes],
    ids: Sequence[str],
    query_id: bytes,
) -> ScoreColumn:
    parts = plan.score_parts()
    part = parts[place]
    modulus, rows = PROFILES[plan.profile].plain_modulus, rows_per_block(plan.profile)
    for block, (slots, mask) in enumerate(zip(block_slots, mask_blocks, strict=True)):
        values = np.frombuffer(slots, dtype="<u8")
        kept = np.frombuffer(mask, dtype="<u8")[:rows] != 0
        sentinels = encode.sentinel_values(query_id, block * len(parts) + place)
        if not np.array_equal(values[rows:], sentinels):
            raise _wrong_share(plan, block, "a sentinel value is wrong")
        if np.any(values[:rows][~kept]):
            raise _wrong_share(plan, block, "a masked slot is not zero")
    residues = encode.unpack(block_slots, plan.rows, plan.profile).astype(np.int64)
    keep = encode.unpack(mask_blocks, plan.rows, plan.profile) != 0
    scores = part.minimum + (residues - part.minimum) % modulus
    if np.any(scores[keep] > part.maximum):
        raise _wrong_share(plan, -1, "a score is outside the model's range")
    if len(ids) != plan.rows:
        raise InternalError("IDS_INCOMPLETE", f"{len(ids)} ids of {plan.rows} rows")
    kept_ids = ids if keep.all() else list(compress(ids, keep.tolist()))
    return ScoreColumn(kept_ids, scores[keep])


def _wrong_share(plan: Plan, block: int, reason: str) -> PeerFault:
    where = f" in block {block}" if block >= 0 else ""
    return PeerFault(
        "WRONG_SHARE",
        f"{reason}{where}",
        subject=plan.hash().hex(),
        fix="open it with another active set and report the members whose shares disagree",
    )
