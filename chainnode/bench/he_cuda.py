"""The kernels on a CUDA device, where there is one: rates, and the bytes of the native kernels.

Whole queries and Q6 on the device are measured where they are measured natively, on the same
columns: `he_queries`, `he_filtered`.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from chainnode import _native as native
from chainnode.bench.frame import Figures
from chainnode.bench.he_cold import disk
from chainnode.bench.he_seal import Exact
from chainnode.he.cuda import passes
from chainnode.he.cuda.device import WORD_BYTES, Buffer, CupyDevice, Device
from chainnode.he.cuda.kernels import CudaKernels
from chainnode.he.cuda.ring import DeviceRing, device_ring
from chainnode.he.kernels import Kernels, NativeKernels, Pass, Term
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.types.errors import ConfigError, InternalError

MEMORY_MIB: Final = 65_536
SCORE_COLUMNS: Final = 70
SCORE_LIMBS: Final = 3
SCORE_BLOCKS: Final = 123
EXACT_BLOCKS: Final = 3
PRODUCT_COLUMNS: Final = 6
PRODUCT_BLOCKS: Final = 62
READ_WORDS: Final = 1 << 29
READ_THREADS: Final = 1 << 18
LAUNCHES: Final = 20
SMALL: Final[Term] = [
    (["c0", "c1"], [1, -1], 0),
    (["c2", "c3"], [1, -1], 0),
    (["c4"], [1], 0),
    (["c5"], [1], 0),
]
KEYS: Final = (
    "cuda_device",
    "cuda_read_gb_per_s",
    "cuda_bandwidth_share",
    "cuda_scorecard_ns_per_row",
    "cuda_product_ns_per_row",
    "cuda_relinearise_ms",
    "cuda_relinearise_vs_native",
    "cuda_upload_gb_per_s",
)


@functools.cache
def opened() -> tuple[Device | None, str]:
    """The first CUDA device, or why there is none."""
    try:
        return CupyDevice(), ""
    except ConfigError as error:
        return None, f"{error.code}: {error.message}"


@functools.cache
def kernels() -> CudaKernels | None:
    """Kernels on the first CUDA device; None where there is none."""
    device, _ = opened()
    if device is None:
        return None

    def broken(reason: str) -> None:
        raise InternalError("CUDA_FAULT", f"The device broke: {reason}", subject=device.name)

    return CudaKernels(device, NativeKernels(), MEMORY_MIB, broken)


def run(quick: bool, exact: Exact) -> tuple[Figures, list[str]]:
    """Rates of the device's kernels by the keys above, None where there is no device."""
    device, reason = opened()
    if device is None:
        return dict.fromkeys(KEYS), [f"{', '.join(KEYS)}: null, {reason}"]
    rounds = 5 if quick else 15
    with tempfile.TemporaryDirectory(prefix="chainnode-he-", dir=disk()) as folder:
        _compare(Path(folder), exact)
    read = _read(device, rounds)
    figures: Figures = {"cuda_device": device.name, "cuda_read_gb_per_s": read / 1e9}
    figures |= _passes(device, rounds, read) | _relinearise(rounds, exact)
    return figures, [
        f"cuda_*: {device.name}, {rounds} rounds, medians of the clock; _read_ exclusive-ors "
        f"{READ_WORDS * WORD_BYTES >> 30} GiB; _scorecard_ {SCORE_COLUMNS} columns, "
        f"{SCORE_LIMBS} limbs of S, {SCORE_BLOCKS * 8_192:,} rows, and _product_ Q6's four factors "
        f"in M, 7 limbs, {PRODUCT_BLOCKS * 16_384:,} rows: columns in the device's memory, "
        "results left there; _relinearise_ five polynomials of M, copied there and back, against "
        "one thread; _upload_ of a plane of columns"
    ]


def _seconds(device: Device, action: Callable[[], object], rounds: int, launches: int) -> float:
    """Median time of an action that only launches."""
    probe = device.empty(1)

    def timed() -> float:
        device.download(probe)
        start = time.perf_counter()
        for _ in range(launches):
            action()
        device.download(probe)
        return (time.perf_counter() - start) / launches

    timed()
    return median(timed() for _ in range(rounds))


def _read(device: Device, rounds: int) -> float:
    """Bytes a second of a loop that only reads."""
    words, out = device.empty(READ_WORDS), device.empty(READ_THREADS)

    def read() -> None:
        device.launch("read_words", READ_THREADS, READ_THREADS, READ_WORDS, words, out)

    return READ_WORDS * WORD_BYTES / _seconds(device, read, rounds, LAUNCHES)


def _planes(device: Device, profile: ProfileName, count: int, blocks: int) -> list[Buffer]:
    """Planes of random residues, each in memory of its own."""
    described = native.he_profile(profile)
    words = 2 * blocks * described.slots * 6 // WORD_BYTES
    content = np.random.default_rng(1).integers(0, 1 << 41, words).astype(np.uint64)
    return [device.upload(content) for _ in range(count)]


def _passes(device: Device, rounds: int, read: float) -> Figures:
    score, upload = _scorecard(device, rounds)
    product = _product(device, device_ring(device, "M"), rounds)
    size_bytes = SCORE_COLUMNS * SCORE_LIMBS * SCORE_BLOCKS * 2 * PROFILES["S"].slots * 6
    return {
        "cuda_upload_gb_per_s": upload / 1e9,
        "cuda_bandwidth_share": size_bytes / score / read,
        "cuda_scorecard_ns_per_row": 1e9 * score / (SCORE_BLOCKS * PROFILES["S"].slots),
        "cuda_product_ns_per_row": 1e9 * product / (PRODUCT_BLOCKS * PROFILES["M"].slots),
    }


def _scorecard(device: Device, rounds: int) -> tuple[float, float]:
    """Seconds of one scorecard, and bytes a second of bringing its columns to the device."""
    ring = device_ring(device, "S")
    start = time.perf_counter()
    planes = _planes(device, "S", SCORE_COLUMNS * SCORE_LIMBS, SCORE_BLOCKS)
    device.download(device.empty(1))
    upload = len(planes) * planes[0].size_bytes / (time.perf_counter() - start)
    points = [(7 * i) % 152 - 38 or 1 for i in range(SCORE_COLUMNS)]
    part = Pass("S", SCORE_LIMBS, 0, SCORE_BLOCKS)

    def scorecard() -> None:
        passes.weighted(device, ring, planes, [points], SCORE_BLOCKS, part)

    return _seconds(device, scorecard, rounds, LAUNCHES), upload


def _product(device: Device, ring: DeviceRing, rounds: int) -> float:
    limbs = len(ring.moduli)
    planes = _planes(device, "M", PRODUCT_COLUMNS * limbs, PRODUCT_BLOCKS)
    names = [f"c{i}" for i in range(PRODUCT_COLUMNS)]
    part = Pass("M", limbs, 0, PRODUCT_BLOCKS)

    def product() -> None:
        passes.sums(device, ring, planes, names, [[SMALL]], PRODUCT_BLOCKS, part)

    return _seconds(device, product, rounds, LAUNCHES)


def _random(profile: ProfileName, rows: list[int], seed: int) -> bytes:
    """Random residues, a row for each prime's number."""
    described = native.he_profile(profile)
    primes = (*described.moduli, described.special_modulus)
    random = np.random.default_rng(seed)
    drawn = [random.integers(0, primes[row], described.ring_degree) for row in rows]
    return np.array(drawn, "<u8").tobytes()


def _compare(folder: Path, exact: Exact) -> None:
    """The device's bytes and the native ones, for a scorecard and for Q6's product."""
    cuda = kernels()
    if cuda is None:
        return
    shapes: list[tuple[ProfileName, int, int]] = [
        ("S", SCORE_LIMBS, SCORE_COLUMNS),
        ("M", len(native.he_profile("M").moduli), PRODUCT_COLUMNS),
    ]
    for profile, limbs, count in shapes:
        names = [f"c{i}" for i in range(count)]
        rows = 2 * list(range(limbs))
        for number, name in enumerate(names):
            blocks = [_random(profile, rows, 8 * number + b) for b in range(EXACT_BLOCKS)]
            native.HeColumns.write(str(folder / profile), name, profile, limbs, blocks)
        columns = native.HeColumns.open(str(folder / profile), profile)
        part = Pass(profile, limbs, 0, EXACT_BLOCKS)
        weights = [[(7 * i) % 152 - 38 or 1 for i in range(count)]]
        results: list[list[object]] = []
        each: list[Kernels] = [cuda, NativeKernels()]
        for engine in each:
            got: list[object] = [engine.weighted(columns, names, weights, part)]
            if profile == "M":
                got.append(engine.sums(columns, [[SMALL]], part))
            results.append(got)
        exact.value(results[0], results[1], f"the CUDA kernels of profile {profile}")


def _relinearise(rounds: int, exact: Exact) -> Figures:
    """Both ways on the clock: here nothing else runs beside."""
    cuda, limbs = kernels(), len(native.he_profile("M").moduli)
    if cuda is None:
        return {}
    key = _random("M", 2 * limbs * list(range(limbs + 1)), 1)
    product = _random("M", 5 * list(range(limbs)), 2)
    seconds = []
    each: list[Kernels] = [cuda, NativeKernels()]
    results = []
    for engine in each:
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            result = engine.relinearise("M", limbs, product, key)
            times.append(time.perf_counter() - start)
        seconds.append(median(times[1:]))
        results.append(result)
    exact.value(results[0], results[1], "relinearisation on the CUDA device")
    return {
        "cuda_relinearise_ms": 1e3 * seconds[0],
        "cuda_relinearise_vs_native": seconds[1] / seconds[0],
    }
