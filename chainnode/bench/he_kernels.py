"""The fused kernels against seal-python on the same rows, in the same run, one thread each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chainnode import _native as native
from chainnode.bench.he_seal import Exact, Seal, medians, seeds
from chainnode.testing.he_council import joint_keys

DEGREE = 8192
COLUMNS = 70
SCORE_LIMBS = 3
FILTER_BLOCKS = 13
INGEST_BLOCKS = 8
KEPT_MEMORY_BYTES = 256 << 20
RESIDUE_BYTES = (6, 8)
Figures = dict[str, float | int | str | bool | None]
Slots = npt.NDArray[np.uint64]


def run(quick: bool, exact: Exact) -> tuple[Figures, list[str]]:
    """Kernel ratios by the keys of BENCHMARKS.md, and notes; medians of 15, or of 5 if quick."""
    rounds = 5 if quick else 15
    try:
        import seal
    except ImportError:
        seal = None
    native.keep_freed_memory(KEPT_MEMORY_BYTES)
    notes = [
        f"kernels: {native.CPU_PATH}; one thread; interleaved medians of {rounds}, in "
        "processor time of that thread (wall time on an idle machine)"
    ]
    figures: Figures = {"ifma": native.CPU_PATH == "avx512ifma"}
    with tempfile.TemporaryDirectory(prefix="chainnode-he-") as folder:
        score, score_notes = _scorecard(Path(folder), seal, rounds, exact)
        filtered, filter_notes = _one_filter(Path(folder), seal, rounds, exact)
    figures |= score | filtered | {"ingest_ms_per_block": _ingest(rounds)}
    return figures, [*notes, *score_notes, *filter_notes]


def _flags(seed: int) -> Slots:
    return np.random.default_rng(seed).integers(0, 2, DEGREE).astype("<u8")


def _weighted(columns: Sequence[Slots], points: Sequence[int], modulus: int) -> Slots:
    signed = sum(p * c.astype(np.int64) for p, c in zip(points, columns, strict=True))
    return np.asarray(signed % modulus, "<u8")


def _scorecard(folder: Path, seal: Any, rounds: int, exact: Exact) -> tuple[Figures, list[str]]:
    profile = native.he_profile("S")
    key = native.HeSecretKey.generate("S")
    public_key = key.public_key()
    points = [(7 * i) % 152 - 38 or 1 for i in range(COLUMNS)]
    columns = [_flags(i) for i in range(COLUMNS)]
    names = [f"bin{i:02}" for i in range(COLUMNS)]
    blocks = native.he_encrypt_many(
        "S", public_key, [c.tobytes() for c in columns], seeds(COLUMNS), SCORE_LIMBS
    )
    for name, block in zip(names, blocks, strict=True):
        native.HeColumns.write(str(folder / "score"), name, "S", SCORE_LIMBS, [block])
    store = native.HeColumns.open(str(folder / "score"), "S")
    expected = _weighted(columns, points, profile.plain_modulus)

    def fused() -> bytes:
        return store.mac_scalar(names, [points], SCORE_LIMBS, 0, 1)[0][0]

    exact.slots(key.decrypt(fused(), SCORE_LIMBS), expected, "the fused scorecard")
    one_by_one = [[(p, [b]) for p, b in zip(points, blocks, strict=True)]]

    def ideal() -> bytes:
        return native.he_stepwise_sum("S", SCORE_LIMBS, one_by_one)

    exact.value(ideal(), fused(), "the op-by-op scorecard")
    actions: dict[str, Callable[[], object]] = {"fused": fused, "ideal": ideal}
    if seal is not None:
        actions |= _seal_scorecard(folder, seal, profile, (columns, points, expected), exact)
    seconds = medians(actions, rounds)
    stream, stream_notes = _stream(folder / "stream", names, blocks, points, rounds)
    size_bytes = COLUMNS * 2 * SCORE_LIMBS * DEGREE * store.residue_bytes(names[0])
    figures: Figures = {
        "scorecard_vs_seal": None,
        "scorecard_vs_seal_best": None,
        "scorecard_vs_ideal": seconds["ideal"] / seconds["fused"],
        "scorecard_ms": 1e3 * seconds["fused"],
        "scorecard_bytes_read": size_bytes,
        **stream,
    }
    if seal is None:
        return figures, [*stream_notes, "seal-python is not installed: no ratio to it"]
    best = min((k for k in seconds if k.startswith("best")), key=lambda k: seconds[k])
    figures["scorecard_vs_seal"] = seconds["seal"] / seconds["fused"]
    figures["scorecard_loaded_vs_seal"] = seconds["loaded"] / seconds["fused"]
    figures["scorecard_vs_seal_best"] = seconds[best] / seconds["fused"]
    return figures, [
        *stream_notes,
        f"scorecard: {COLUMNS} columns, profile S, {SCORE_LIMBS} of 4 limbs on both sides (what a "
        "masked and flooded release needs)",
        "scorecard_vs_seal starts from stored ciphertexts, BGV, constant plaintexts; _loaded_ has "
        "them in memory",
        f"scorecard_vs_seal_best is {best.removeprefix('best ')}, ciphertexts and plaintexts in "
        "memory",
    ]


def _stream(
    folder: Path,
    names: Sequence[str],
    blocks: Sequence[bytes],
    points: Sequence[int],
    rounds: int,
) -> tuple[Figures, list[str]]:
    """The kernel and a pure read loop over more columns than any cache holds, in both packings."""
    actions: dict[str, Callable[[], object]] = {}

    def add(size: int) -> None:
        place = str(folder / str(size))
        for name, block in zip(names, blocks, strict=True):
            copies = [block] * FILTER_BLOCKS
            native.HeColumns.write(place, name, "S", SCORE_LIMBS, copies, size)
        store = native.HeColumns.open(place, "S")
        span = (SCORE_LIMBS, 0, FILTER_BLOCKS)
        actions[f"fused {size}"] = lambda: store.mac_scalar(names, [points], *span)
        actions[f"read {size}"] = lambda: store.read_all(names, SCORE_LIMBS)

    for size in RESIDUE_BYTES:
        add(size)
    seconds = medians(actions, 2 * rounds + 1)
    residues = FILTER_BLOCKS * COLUMNS * 2 * SCORE_LIMBS * DEGREE
    packed, plain = (seconds[f"read {size}"] / seconds[f"fused {size}"] for size in RESIDUE_BYTES)
    figures: Figures = {
        "bandwidth_share": packed if packed <= 1 else None,
        "bandwidth_share_8_bytes": plain if plain <= 1 else None,
        "packing_speedup": seconds["fused 8"] / seconds["fused 6"],
        "read_gb_per_s": 8 * residues / seconds["read 8"] / 1e9,
    }
    notes = [
        f"bandwidth_share: {FILTER_BLOCKS} blocks of {COLUMNS} columns in the page cache, "
        f"{6 * residues / 1e6:.0f} MB at six bytes a residue (the default), results handed to "
        "Python included; _8_bytes and packing_speedup: the same columns unpacked, same run"
    ]
    if max(packed, plain) > 1:
        notes.append("bandwidth_share: null, the read loop was slower: the machine is busy")
    return figures, notes


def _seal_scorecard(
    folder: Path,
    seal: Any,
    profile: native.HeProfile,
    data: tuple[Sequence[Slots], Sequence[int], Slots],
    exact: Exact,
) -> dict[str, Callable[[], object]]:
    columns, points, expected = data
    dropped = len(profile.moduli) - SCORE_LIMBS
    bgv = Seal(seal, seal.scheme_type.bgv, profile, folder)
    bfv = Seal(seal, seal.scheme_type.bfv, profile, folder)
    stored = [bgv.encrypt(c, dropped) for c in columns]
    paths = [bgv.store(f"seal{i}", c) for i, c in enumerate(stored)]
    plain = [bgv.constant(p) for p in points]
    plain_ntt = [bgv.constant(p) for p in points]
    for item in plain_ntt:
        bgv.evaluator.transform_to_ntt_inplace(item, stored[0].parms_id())
    coefficients = [bfv.encrypt(c, dropped) for c in columns]
    bfv_plain = [bfv.constant(p) for p in points]

    def from_store() -> Any:
        return bgv.weighted([bgv.load(p) for p in paths], [bgv.constant(p) for p in points])

    exact.slots(bgv.decrypt(from_store()), expected, "SEAL's scorecard")
    exact.slots(
        bfv.decrypt(bfv.weighted(coefficients, bfv_plain)), expected, "SEAL's BFV scorecard"
    )
    exact.slots(bgv.decrypt(bgv.weighted(stored, plain_ntt)), expected, "SEAL's NTT scorecard")
    return {
        "seal": from_store,
        "loaded": lambda: bgv.weighted(stored, plain),
        "best BGV with plaintexts in NTT form": lambda: bgv.weighted(stored, plain_ntt),
        "best BFV with constant plaintexts": lambda: bfv.weighted(coefficients, bfv_plain),
    }


def _one_filter(folder: Path, seal: Any, rounds: int, exact: Exact) -> tuple[Figures, list[str]]:
    profile, limbs = native.he_profile("S36"), 4
    high = [_flags(100 + b) for b in range(FILTER_BLOCKS)]
    low = [np.asarray(h * _flags(200 + b), "<u8") for b, h in enumerate(high)]
    values = [
        np.random.default_rng(300 + b).integers(0, 1 << 16, DEGREE).astype("<u8")
        for b in range(FILTER_BLOCKS)
    ]
    expected = np.zeros(DEGREE, "<u8")
    for h, item, v in zip(high, low, values, strict=True):
        expected = np.asarray((expected + (h - item) * v) % profile.plain_modulus, "<u8")
    key = native.HeSecretKey.generate("S36")
    public_key, relin_key = joint_keys("S36", os.urandom(32), [key])
    for name, blocks in {"high": high, "low": low, "value": values}.items():
        data = native.he_encrypt_many(
            "S36", public_key, [b.tobytes() for b in blocks], seeds(FILTER_BLOCKS), limbs
        )
        native.HeColumns.write(str(folder / "filter"), name, "S36", limbs, data)
    store = native.HeColumns.open(str(folder / "filter"), "S36")

    def fused() -> bytes:
        factors = [(["high", "low"], [1, -1], 0), (["value"], [1], 0)]
        total = store.tensor_sum(factors, limbs, 0, FILTER_BLOCKS)
        return native.he_relinearise("S36", limbs, total, relin_key)

    exact.slots(key.decrypt(fused(), limbs), expected, "the fused filtered sum")
    actions: dict[str, Callable[[], object]] = {"fused": fused}
    if seal is not None:
        actions |= _seal_filter(folder, seal, profile, (high, low, values, expected), exact)
    seconds = medians(actions, rounds)
    figures: Figures = {"one_filter_ms": 1e3 * seconds["fused"]}
    if seal is not None:
        figures["one_filter_vs_seal"] = seconds["eager"] / seconds["fused"]
        figures["one_filter_vs_seal_lazy"] = seconds["lazy"] / seconds["fused"]
    return figures, [f"one_filter_*: profile S36, {FILTER_BLOCKS} blocks of {DEGREE} rows, 4 limbs"]


def _seal_filter(
    folder: Path,
    seal: Any,
    profile: native.HeProfile,
    data: tuple[Sequence[Slots], Sequence[Slots], Sequence[Slots], Slots],
    exact: Exact,
) -> dict[str, Callable[[], object]]:
    bgv = Seal(seal, seal.scheme_type.bgv, profile, folder)
    *columns, expected = data
    rows = list(zip(*([bgv.encrypt(b) for b in column] for column in columns), strict=True))

    def total(eager: bool) -> Any:
        terms = []
        for high, low, value in rows:
            term = bgv.evaluator.multiply(bgv.evaluator.sub(high, low), value)
            if eager:
                bgv.evaluator.relinearize_inplace(term, bgv.relin_keys)
            terms.append(term)
        out = bgv.evaluator.add_many(terms)
        if not eager:
            bgv.evaluator.relinearize_inplace(out, bgv.relin_keys)
        return out

    for eager in (True, False):
        exact.slots(bgv.decrypt(total(eager)), expected, "SEAL's filtered sum")
    return {"eager": lambda: total(True), "lazy": lambda: total(False)}


def _ingest(rounds: int) -> float:
    """Milliseconds to encrypt one block of 8,192 flags for the three limbs a score reads."""
    public_key = native.HeSecretKey.generate("S").public_key()
    blocks = [_flags(400 + b).tobytes() for b in range(INGEST_BLOCKS)]
    drawn = seeds(INGEST_BLOCKS)
    seconds = medians(
        {"ingest": lambda: native.he_encrypt_many("S", public_key, blocks, drawn, SCORE_LIMBS)},
        rounds,
    )
    return 1e3 * seconds["ingest"] / INGEST_BLOCKS
