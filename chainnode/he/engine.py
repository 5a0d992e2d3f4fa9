"""Running a plan: chunk tasks over encrypted columns, their reduction, and reading opened results.

A result is a container: u32 little-endian count, then per ciphertext u32 little-endian length and
the raw ciphertext. A score result has one ciphertext a block in block order; an aggregate result
one per output of the plan. The same bytes come out on every machine and for every split.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from chainnode import _native
from chainnode.he import checks, encode, private_constants, private_points
from chainnode.he.kernels import Factor, Kernels, NativeKernels, Pass
from chainnode.he.plan import (
    LinearForm,
    Output,
    Plan,
    ScorePart,
)
from chainnode.he.private_points import EncryptedPoints
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.he.schema import rows_per_block
from chainnode.types.errors import ClientFault, InternalError, PeerFault

if TYPE_CHECKING:
    from chainnode._native import HeColumns

__all__ = [
    "Engine",
    "LocalEngine",
    "chunk_blocks",
    "combine",
    "pack_container",
    "public_addend",
    "unpack_container",
    "validate_result",
]

RESIDUE_BYTES: Final = 8


class Engine(Protocol):
    """Computes plans. `LocalEngine` uses this machine; others must return the same bytes."""

    def run_chunk(
        self,
        plan: Plan,
        chunk_index: int,
        columns: HeColumns,
        mask_blocks: Sequence[bytes],
        query_id: bytes,
        points: EncryptedPoints | None = None,
    ) -> bytes:
        """One chunk's result container.

        Args:
            plan: the approved plan.
            chunk_index: position in `plan.chunks`.
            columns: opened with the plan's profile; all blocks of every column the plan reads.
            mask_blocks: for scores, the 0/1 mask of all blocks of the table; else empty.
            query_id: seeds the sentinel values of a score result.
            points: of a model with private points; None for every other plan.
        """
        ...

    def reduce(
        self,
        plan: Plan,
        chunk_results: Sequence[bytes],
        relin_key: bytes,
        selectors: Sequence[bytes] = (),
    ) -> bytes:
        """The final result container of all chunks, given in chunk order.

        Args:
            plan: the approved plan.
            chunk_results: one container per chunk.
            relin_key: the council's relinearisation key; unused for scores.
            selectors: of a private constant, one for each choice.
        """
        ...


class LocalEngine:
    """The engine on this machine.

    Args:
        threads: native threads a kernel may use; never changes a byte of the result.
        kernels: compute passes and relinearisations; the native ones unless given.
    """

    def __init__(self, threads: int = 1, kernels: Kernels | None = None) -> None:
        self._threads = threads
        self._kernels = kernels or NativeKernels(threads)

    def run_chunk(
        self,
        plan: Plan,
        chunk_index: int,
        columns: HeColumns,
        mask_blocks: Sequence[bytes],
        query_id: bytes,
        points: EncryptedPoints | None = None,
    ) -> bytes:
        """See `Engine.run_chunk`."""
        first, count = chunk_blocks(plan, chunk_index)
        masks = mask_blocks[first : first + count]
        return self.run_blocks(plan, columns, first, count, masks, query_id, first, points)

    def run_blocks(
        self,
        plan: Plan,
        columns: HeColumns,
        first: int,
        count: int,
        mask_blocks: Sequence[bytes],
        query_id: bytes,
        table_first: int,
        points: EncryptedPoints | None = None,
    ) -> bytes:
        """The result container of a few blocks, which may be all that `columns` holds.

        Args:
            plan: the approved plan.
            columns: opened with the plan's profile.
            first: first block, counted within `columns`.
            count: number of blocks.
            mask_blocks: for scores, the 0/1 mask of these blocks only.
            query_id: seeds the sentinel values of a score result.
            table_first: the table's number of that first block.
            points: see `Engine.run_chunk`.
        """
        part = Pass(plan.profile, plan.limbs, first, count)
        if plan.scores is None:
            if plan.kind == "check":
                return self._check(plan, columns, (first, count), query_id, table_first)
            return self._sums(plan, columns, part)
        parts = plan.score_parts()
        vectors: list[list[bytes]] = []
        if not plan.has_private_points():
            names, weights = _weight_rows(parts)
            vectors = self._kernels.weighted(columns, names, weights, part)

        def scores(model: int, index: int) -> bytes:
            if not plan.has_private_points():
                return vectors[model][index]
            if points is None:
                raise InternalError("POINTS_MISSING", "a private plan needs its points")
            return private_points.score_block(plan, columns, first + index, points)

        places = [(index, model) for index in range(count) for model in range(len(parts))]
        with ThreadPoolExecutor(self._threads) as pool:
            blocks = list(pool.map(lambda place: scores(place[1], place[0]), places))
        masks = [mask_blocks[index] for index, _ in places]
        first_number = table_first * len(parts)
        addends = [
            public_addend(parts[model], mask, query_id, number, plan.profile)
            for number, ((_, model), mask) in enumerate(
                zip(places, masks, strict=True), first_number
            )
        ]
        # Block by block, so that results of other splits are put together alike.
        return pack_container(
            _native.he_mask_add(plan.profile, plan.limbs, blocks, masks, addends, self._threads)
        )

    def _check(
        self,
        plan: Plan,
        columns: HeColumns,
        span: tuple[int, int],
        query_id: bytes,
        table_first: int,
    ) -> bytes:
        def one(output: Output) -> bytes:
            return checks.weighted_output(plan, output, columns, span, query_id, table_first)

        with ThreadPoolExecutor(self._threads) as pool:
            return pack_container(list(pool.map(one, plan.sums().outputs)))

    def _sums(self, plan: Plan, columns: HeColumns, part: Pass) -> bytes:
        outputs = [
            [[_factor(form) for form in term.factors] for term in output.terms]
            for output in plan.sums().outputs
        ]
        return self._kernels.sums(columns, outputs, part)

    def reduce(
        self,
        plan: Plan,
        chunk_results: Sequence[bytes],
        relin_key: bytes,
        selectors: Sequence[bytes] = (),
    ) -> bytes:
        """See `Engine.reduce`."""
        if len(chunk_results) != len(plan.chunks):
            raise ClientFault(
                "CHUNKS_INCOMPLETE",
                f"{len(chunk_results)} results for {len(plan.chunks)} chunks",
                subject=plan.hash().hex(),
                fix="wait for every chunk of the plan",
            )
        if plan.kind == "scores":
            return combine(plan, chunk_results)
        results = []
        for total in _totals(plan, chunk_results):
            if len(total) > 2 * _polynomial_bytes(plan):
                total = self._kernels.relinearise(plan.profile, plan.limbs, total, relin_key)
            results.append(total)
        if plan.private_constant() is not None:
            results = private_constants.select(plan, results, selectors, relin_key)
        return pack_container(results)


def chunk_blocks(plan: Plan, chunk_index: int) -> tuple[int, int]:
    """A chunk's first block and number of blocks.

    Raises:
        ClientFault: `CHUNK_UNKNOWN`.
    """
    if not 0 <= chunk_index < len(plan.chunks):
        raise ClientFault(
            "CHUNK_UNKNOWN",
            f"chunk {chunk_index} of a plan with {len(plan.chunks)} chunks",
            subject=plan.hash().hex(),
            fix="ask for a chunk the plan lists",
        )
    return plan.chunks[chunk_index]


def combine(plan: Plan, results: Sequence[bytes]) -> bytes:
    """One container of the blocks that several containers cover, given in block order.

    Sums are added without relinearisation: modular addition is exact, so that any split of the
    blocks gives the same bytes.
    """
    if plan.kind == "scores":
        return pack_container([item for part in results for item in unpack_container(part)])
    return pack_container(_totals(plan, results))


def pack_container(ciphertexts: Sequence[bytes]) -> bytes:
    """Frame ciphertexts: u32 count, then u32 length and bytes of each, little endian."""
    parts = [struct.pack("<I", len(ciphertexts))]
    for ciphertext in ciphertexts:
        parts.append(struct.pack("<I", len(ciphertext)))
        parts.append(ciphertext)
    return b"".join(parts)


def unpack_container(data: bytes) -> list[bytes]:
    """The ciphertexts of a container.

    Raises:
        PeerFault: `RESULT_MALFORMED` when the framing does not add up.
    """
    items: list[bytes] = []
    offset = 4
    count = int.from_bytes(data[:4], "little")
    while len(items) < count and offset + 4 <= len(data):
        length = int.from_bytes(data[offset : offset + 4], "little")
        items.append(data[offset + 4 : offset + 4 + length])
        offset += 4 + length
    if len(data) < 4 or len(items) != count or offset != len(data):
        raise PeerFault(
            "RESULT_MALFORMED",
            "a result container's lengths do not add up",
            fix="fetch the result again by its hash from another worker",
        )
    return items


def validate_result(plan: Plan, result: bytes) -> list[bytes]:
    """The ciphertexts of a reduced result, each checked for shape and residue range.

    Raises:
        PeerFault: `RESULT_MALFORMED`.
    """
    items = unpack_container(result)
    expected = (
        sum(count for _, count in plan.chunks) * len(plan.score_parts())
        if plan.kind == "scores"
        else private_constants.result_count(plan)
    )
    if len(items) != expected:
        raise PeerFault(
            "RESULT_MALFORMED",
            f"{len(items)} ciphertexts where the plan has {expected}",
            subject=plan.hash().hex(),
            fix="fetch the result again by its hash from another worker",
        )
    for item in items:
        try:
            _native.he_validate_ciphertext(plan.profile, item, 2, plan.limbs)
        except ValueError as error:
            raise PeerFault(
                "RESULT_MALFORMED",
                f"not a ciphertext of the plan's profile: {error}",
                subject=plan.hash().hex(),
                fix="fetch the result again by its hash from another worker",
            ) from error
    return items


def public_addend(
    part: ScorePart, mask: bytes, query_id: bytes, block: int, profile: ProfileName = "S"
) -> bytes:
    """The public slots added to a masked score block: the offset where the mask keeps a row, the
    sentinel values at the end, zero elsewhere."""
    modulus = PROFILES[profile].plain_modulus
    slots = np.frombuffer(mask, dtype="<u8") * np.uint64(part.offset % modulus)
    slots[rows_per_block(profile) :] = encode.sentinel_values(query_id, block)
    return slots.astype("<u8").tobytes()


def _weight_rows(parts: Sequence[ScorePart]) -> tuple[list[str], list[list[int]]]:
    """The columns that any scorecard reads, each once, and every scorecard's weight of each."""
    names = list(dict.fromkeys(name for part in parts for name in part.points.columns))
    rows = []
    for part in parts:
        known = dict(zip(part.points.columns, part.points.weights, strict=True))
        rows.append([known.get(name, 0) for name in names])
    return names, rows


def _factor(form: LinearForm) -> Factor:
    return (form.columns, form.weights, form.constant)


def _polynomial_bytes(plan: Plan) -> int:
    return plan.limbs * PROFILES[plan.profile].slots * RESIDUE_BYTES


def _totals(plan: Plan, results: Sequence[bytes]) -> list[bytes]:
    """Every output's sum over containers."""
    opened = [unpack_container(result) for result in results]
    outputs = range(len(plan.sums().outputs))
    return [_add(plan, [part[index] for part in opened]) for index in outputs]


def _add(plan: Plan, ciphertexts: Sequence[bytes]) -> bytes:
    if len(ciphertexts) == 1:
        return ciphertexts[0]
    longest = max(len(item) for item in ciphertexts)
    # A shorter ciphertext is a longer one whose last polynomials are zero.
    padded = [item + bytes(longest - len(item)) for item in ciphertexts]
    return _native.he_add(plan.profile, plan.limbs, padded)
