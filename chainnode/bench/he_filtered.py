"""Three predicates and a value (degree 4, profile M): against SEAL, and the TPC-H Q6 shape whole.

The predicates are public and lie on bin edges, and the value is pre-multiplied by its owner: HE3DB
and ArcEDB hide the constants too and pay 440 and 120 ms a row for it.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from chainnode import _native as native
from chainnode.bench import he_cuda
from chainnode.bench.frame import Figures
from chainnode.bench.he_seal import Exact, Seal, Slots, medians, seeds
from chainnode.he.engine import unpack_container
from chainnode.he.kernels import Factor, Kernels, NativeKernels, Pass
from chainnode.testing.he_council import joint_keys
from chainnode.types.errors import InternalError

PROFILE: Final = "M"
MEMBERS: Final = 4
NAMES: Final = ("date_high", "date_low", "discount_high", "discount_low", "quantity", "revenue")
FACTORS: Final[list[Factor]] = [
    (["date_high", "date_low"], [1, -1], 0),
    (["discount_high", "discount_low"], [1, -1], 0),
    (["quantity"], [1], 0),
    (["revenue"], [1], 0),
]
FILTER_BLOCKS: Final = 13
Q6_BLOCKS: Final = 62
Q6_BLOCKS_QUICK: Final = FILTER_BLOCKS
NATIVE: Final = NativeKernels()


@dataclass(frozen=True)
class Table:
    """Columns in the clear and encrypted, with the keys of a council of four."""

    members: list[native.HeSecretKey]
    relin_key: bytes
    plain: dict[str, list[Slots]]
    encrypted: dict[str, list[bytes]]
    store: native.HeColumns
    limbs: int

    def expected(self) -> int:
        total = 0
        for block in range(len(self.plain["revenue"])):
            dh, dl, ih, il, quantity, value = (
                self.plain[name][block].astype(np.int64) for name in NAMES
            )
            total += int(((dh - dl) * (ih - il) * quantity * value).sum())
        return total

    def fused(self, blocks: int, kernels: Kernels = NATIVE) -> bytes:
        part = Pass(PROFILE, self.limbs, 0, blocks)
        (product,) = unpack_container(kernels.sums(self.store, [[FACTORS]], part))
        return kernels.relinearise(PROFILE, self.limbs, product, self.relin_key)

    def release(self, ciphertext: bytes) -> int:
        shares = [
            member.scalar_share(ciphertext, self.limbs, b"bench", MEMBERS)
            for member in self.members
        ]
        answer, room = native.he_combine_scalar(PROFILE, self.limbs, ciphertext, shares)
        if room < native.HE_SCALAR_MARGIN_BITS:
            raise InternalError("HE_BENCH_MISMATCH", f"{room} noise bits are left.")
        return answer


def run(quick: bool, exact: Exact) -> tuple[Figures, list[str]]:
    """Ratios of the filtered sum and nanoseconds of the Q6 shape; quick reads 212,992 rows."""
    try:
        import seal
    except ImportError:
        seal = None
    rounds = 5 if quick else 9
    with tempfile.TemporaryDirectory(prefix="chainnode-he-") as folder:
        table = _table(Path(folder), Q6_BLOCKS_QUICK if quick else Q6_BLOCKS)
        figures, notes = _filtered(Path(folder), table, (seal, rounds), exact)
        shape, note = _q6(table, rounds, exact)
        shape |= _q6_on_device(table, rounds, exact)
    return figures | shape, [*notes, note]


def _table(folder: Path, blocks: int) -> Table:
    profile = native.he_profile(PROFILE)
    limbs = len(profile.moduli)
    members = [native.HeSecretKey.generate(PROFILE) for _ in range(MEMBERS)]
    common = b"bench".ljust(32, b"\0")
    public_key, relin_key = joint_keys(PROFILE, common, members)
    plain = _rows(blocks, profile.slots)
    encrypted: dict[str, list[bytes]] = {}
    for name, values in plain.items():
        data = [block.tobytes() for block in values]
        sealed = native.he_encrypt_many(PROFILE, public_key, data, seeds(blocks), limbs)
        native.HeColumns.write(str(folder / "q6"), name, PROFILE, limbs, sealed)
        encrypted[name] = sealed[:FILTER_BLOCKS]
    store = native.HeColumns.open(str(folder / "q6"), PROFILE)
    return Table(members, relin_key, plain, encrypted, store, limbs)


def _rows(blocks: int, slots: int) -> dict[str, list[Slots]]:
    """Thermometer indicators as the owner encodes them, and a 16-bit limb of the revenue."""
    plain: dict[str, list[Slots]] = {name: [] for name in NAMES}
    random = np.random.default_rng(6)

    def indicator(condition: npt.NDArray[np.bool_]) -> Slots:
        return condition.astype("<u8")

    for _ in range(blocks):
        year, discount, quantity = (random.integers(0, n, slots) for n in (7, 11, 50))
        values = (
            indicator(year >= 2),
            indicator(year >= 3),
            indicator(discount >= 5),
            indicator(discount >= 8),
            indicator(quantity < 24),
            random.integers(0, 1 << 16, slots).astype("<u8"),
        )
        for name, block in zip(NAMES, values, strict=True):
            plain[name].append(block)
    return plain


def _filtered(
    folder: Path, table: Table, peer: tuple[Any, int], exact: Exact
) -> tuple[Figures, list[str]]:
    """Ratios over FILTER_BLOCKS blocks; ours includes the relinearisation."""
    seal, rounds = peer

    def factor(names: Sequence[str], weights: Sequence[int]) -> list[tuple[int, Sequence[bytes]]]:
        return [(w, table.encrypted[n]) for n, w in zip(names, weights, strict=True)]

    steps = [factor(names, weights) for names, weights, _ in FACTORS]

    def ideal() -> bytes:
        product = native.he_stepwise_sum(PROFILE, table.limbs, steps)
        return native.he_relinearise(PROFILE, table.limbs, product, table.relin_key)

    exact.value(ideal(), table.fused(FILTER_BLOCKS), "the op-by-op filtered sum")
    actions: dict[str, Callable[[], object]] = {
        "fused": lambda: table.fused(FILTER_BLOCKS),
        "ideal": ideal,
    }
    if seal is not None:
        actions |= _seal(folder, table, seal, exact)
    seconds = medians(actions, rounds)
    residues = len(NAMES) * FILTER_BLOCKS * len(table.encrypted["revenue"][0]) // 8
    size_bytes = residues * table.store.residue_bytes("revenue")
    figures: Figures = {
        "profile": PROFILE,
        "bytes_read": size_bytes,
        "filtered_sum_ms": 1e3 * seconds["fused"],
        "filtered_sum_vs_ideal": seconds["ideal"] / seconds["fused"],
        "filtered_sum_vs_seal": None,
        "filtered_sum_vs_seal_lazy": None,
    }
    notes = [
        f"filtered_sum_*: profile {PROFILE}, {FILTER_BLOCKS} blocks of 16,384 rows, (a - b)(c - d) "
        "e v over six columns, all 7 limbs on both sides, one relinearisation included in ours"
    ]
    if seal is None:
        return figures, [*notes, "seal-python is not installed: no ratio to it"]
    figures["filtered_sum_vs_seal"] = seconds["eager"] / seconds["fused"]
    figures["filtered_sum_vs_seal_lazy"] = seconds["lazy"] / seconds["fused"]
    notes.append(
        "filtered_sum_vs_seal relinearises each product; _lazy relinearises nothing at all (SEAL "
        "has no public call for keys of s^4); SEAL's ciphertexts are in memory"
    )
    return figures, notes


def _seal(folder: Path, table: Table, seal: Any, exact: Exact) -> dict[str, Callable[[], object]]:
    profile = native.he_profile(PROFILE)
    bgv = Seal(seal, seal.scheme_type.bgv, profile, folder)
    columns = [
        [bgv.encrypt(block) for block in table.plain[name][:FILTER_BLOCKS]] for name in NAMES
    ]
    rows = list(zip(*columns, strict=True))
    tool = bgv.evaluator

    def multiply(left: Any, right: Any, eager: bool) -> Any:
        product = tool.multiply(left, right)
        if eager:
            tool.relinearize_inplace(product, bgv.relin_keys)
        return product

    def total(eager: bool) -> Any:
        terms = []
        for date_high, date_low, discount_high, discount_low, quantity, value in rows:
            factors = (
                tool.sub(date_high, date_low),
                tool.sub(discount_high, discount_low),
                quantity,
                value,
            )
            terms.append(functools.reduce(lambda a, b: multiply(a, b, eager), factors))
        return tool.add_many(terms)

    expected = np.zeros(profile.slots, dtype=np.int64)
    for block in range(FILTER_BLOCKS):
        dh, dl, ih, il, quantity, value = (
            table.plain[name][block].astype(np.int64) for name in NAMES
        )
        expected += (dh - dl) * (ih - il) * quantity * value
    for eager in (True, False):
        exact.slots(bgv.decrypt(total(eager)), expected.astype("<u8"), "SEAL's filtered sum")
    return {"eager": lambda: total(True), "lazy": lambda: total(False)}


def _q6(table: Table, rounds: int, exact: Exact) -> tuple[Figures, str]:
    """One thread, all blocks, one value limb, relinearisation and four shares included."""
    blocks = len(table.plain["revenue"])
    rows, expected = blocks * native.he_profile(PROFILE).slots, table.expected()
    times, processor = [], []
    for _ in range(rounds + 1):
        start, used = time.perf_counter(), time.thread_time()
        answer = table.release(table.fused(blocks))
        times.append(time.perf_counter() - start)
        processor.append(time.thread_time() - used)
        exact.value(answer, expected, "Q6")
    note = (
        f"q6: {rows} rows, one thread (its processor time; _wall_ is what the clock said), one "
        "16-bit limb of revenue, relinearisation and the release of four members included; "
        "constants are public here, private in HE3DB and ArcEDB"
    )
    return {
        "q6_ns_per_row_thread_limb": 1e9 * median(processor[1:]) / rows,
        "q6_wall_ns_per_row": 1e9 * median(times[1:]) / rows,
        "q6_rows": rows,
    }, note


def _q6_on_device(table: Table, rounds: int, exact: Exact) -> Figures:
    """The same with the passes and the relinearisation on a CUDA device, its columns there."""
    cuda = he_cuda.kernels()
    if cuda is None:
        return {}
    blocks = len(table.plain["revenue"])
    rows, expected = blocks * native.he_profile(PROFILE).slots, table.expected()
    times, computing = [], []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        product = table.fused(blocks, cuda)
        computing.append(time.perf_counter() - start)
        answer = table.release(product)
        times.append(time.perf_counter() - start)
        exact.value(answer, expected, "Q6 on the CUDA device")
    return {
        "cuda_q6_ns_per_row": 1e9 * median(times[1:]) / rows,
        "cuda_q6_without_release_ns_per_row": 1e9 * median(computing[1:]) / rows,
    }
