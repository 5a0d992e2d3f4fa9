"""The CUDA kernels' text against the native kernels, byte for byte.

The C compiler compiles them for this machine; where CuPy finds a device they run there as well.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from no_fallback import NoFallback

from chainnode import _native
from chainnode._native import HeColumns
from chainnode.he.cuda.device import Buffer, CupyDevice, Device, DeviceFaultError, DeviceFullError
from chainnode.he.cuda.kernels import CudaKernels
from chainnode.he.kernels import NativeKernels, Pass, Term
from chainnode.he.profiles import ProfileName
from chainnode.testing.cuda_on_host import HostDevice

BLOCKS = 3
NAMES = [f"c{i}" for i in range(6)]
MEMORY_MIB = 4_096


@pytest.fixture(scope="module", params=["host", *(["cuda"] if find_spec("cupy") else [])])
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Device:
    if request.param == "cuda":
        return CupyDevice()
    return HostDevice(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def cuda(device: Device) -> Iterator[CudaKernels]:
    faults: list[str] = []
    yield CudaKernels(device, NoFallback(), MEMORY_MIB, faults.append)
    assert faults == []


def residues(profile: ProfileName, rows: Sequence[int], seed: int) -> bytes:
    """Rows modulo the primes so numbered: random, all the largest, or 0 and the largest."""
    described = _native.he_profile(profile)
    primes, degree = (*described.moduli, described.special_modulus), described.ring_degree
    random = np.random.default_rng(seed)
    out = np.empty((len(rows), degree), "<u8")
    for row, limb in enumerate(rows):
        out[row] = random.integers(0, primes[limb], degree)
        if seed % 3 == 1:
            out[row] = primes[limb] - 1
        if seed % 3 == 2:
            out[row, :: seed % 5 + 1] = 0
            out[row, 1 :: seed % 7 + 2] = primes[limb] - 1
    return out.tobytes()


class Store:
    """Columns of one profile, both packings, at all limbs."""

    def __init__(self, profile: ProfileName, folder: Path) -> None:
        self.profile, self.limbs = profile, len(_native.he_profile(profile).moduli)
        rows = 2 * list(range(self.limbs))
        for number, name in enumerate(NAMES):
            blocks = [residues(profile, rows, 10 * number + block) for block in range(BLOCKS)]
            size_bytes = 8 if number == 1 else 6
            HeColumns.write(str(folder), name, profile, self.limbs, blocks, size_bytes)
        self.columns = HeColumns.open(str(folder), profile)

    def part(self, limbs: int = 0, first: int = 0, count: int = BLOCKS) -> Pass:
        return Pass(self.profile, limbs or self.limbs, first, count)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    names: list[ProfileName] = ["S", "S36", "M"]
    return {name: Store(name, tmp_path_factory.mktemp(name)) for name in names}


NATIVE = NativeKernels(2)
LARGE = (1 << 62) - 3


@pytest.mark.parametrize("profile", ["S", "M"])
@pytest.mark.parametrize("span", [(0, 0, BLOCKS), (2, 1, 1), (1, 1, 2)])
@pytest.mark.parametrize(
    "weights",
    [
        [[1, -1, 38, -151, 7, 0]],
        [[i + m for i in range(6)] for m in range(7)],
        [[LARGE, -LARGE, 1, -1, 1 << 42, -(1 << 43)]],
        [[LARGE - i * m for i in range(6)] for m in range(3)],
        [[1 << 16, -(1 << 16), 0, 0, 0, 0]],
        [[1 << 16, -(1 << 16), 1, 0, 0, 0]],
    ],
    ids=["one", "seven", "large", "three large", "largest small", "smallest large"],
)
def test_weighted_columns(
    cuda: CudaKernels,
    stores: dict[str, Store],
    profile: str,
    span: tuple[int, int, int],
    weights: list[list[int]],
) -> None:
    store = stores[profile]
    part = store.part(*span)
    expected = NATIVE.weighted(store.columns, NAMES, weights, part)
    assert cuda.weighted(store.columns, NAMES, weights, part) == expected


def factor(names: str, *weights: int, constant: int = 0) -> tuple[list[str], list[int], int]:
    return [f"c{digit}" for digit in names], list(weights), constant


ONE = [factor("012", 1, -1, 3)]
TWO = [factor("01", 1, -1), factor("2", 1)]
THREE = [factor("01", 1, -1, constant=1), factor("1", 1, constant=-5), factor("345", 9, -1, 2)]
FOUR = [*THREE, factor("0", -1, constant=1)]
LARGE_ONE = [factor("01", LARGE, -LARGE)]
LARGE_TWO = [factor("01", LARGE, -LARGE, constant=-LARGE), factor("2", 1 << 40)]
LARGE_FOUR = [factor(str(i), LARGE - i, constant=-i) for i in range(4)]


@pytest.mark.parametrize("span", [(0, 0, BLOCKS), (3, 1, 1), (2, 1, 2)])
@pytest.mark.parametrize(
    ("profile", "outputs"),
    [
        ("M", [[ONE]]),
        ("M", [[FOUR]]),
        ("M", [[LARGE_FOUR]]),
        ("M", [[LARGE_ONE, THREE], [FOUR, ONE, TWO], [TWO]]),
        ("S36", [[TWO]]),
        ("S36", [[LARGE_TWO], [ONE, TWO], [LARGE_ONE]]),
    ],
)
def test_sums_of_products(
    cuda: CudaKernels,
    stores: dict[str, Store],
    profile: str,
    outputs: list[list[Term]],
    span: tuple[int, int, int],
) -> None:
    store = stores[profile]
    part = store.part(*span)
    expected = NATIVE.sums(store.columns, outputs, part)
    assert cuda.sums(store.columns, outputs, part) == expected


@pytest.mark.parametrize("polynomials", [3, 4, 5])
@pytest.mark.parametrize(
    ("profile", "limbs"), [("S36", 4), ("S36", 2), ("S", 3), ("M", 7), ("M", 5), ("M", 1)]
)
def test_relinearisation(
    cuda: CudaKernels, profile: ProfileName, limbs: int, polynomials: int
) -> None:
    all_limbs = len(_native.he_profile(profile).moduli) + 1
    key = residues(profile, 2 * (all_limbs - 1) * list(range(all_limbs)), 3)
    for seed in range(3):
        ciphertext = residues(profile, polynomials * list(range(limbs)), seed)
        expected = _native.he_relinearise(profile, limbs, ciphertext, key)
        assert cuda.relinearise(profile, limbs, ciphertext, key) == expected


def test_another_key_is_another_result(cuda: CudaKernels) -> None:
    ciphertext = residues("S", 3 * [0, 1, 2], 0)
    for seed in (0, 3):
        key = residues("S", 2 * 4 * list(range(5)), seed)
        expected = _native.he_relinearise("S", 3, ciphertext, key)
        assert cuda.relinearise("S", 3, ciphertext, key) == expected


def test_malformed_input_is_refused_as_by_every_engine(device: Device) -> None:
    kernels = CudaKernels(device, NATIVE, MEMORY_MIB)
    key = residues("S", 2 * 4 * list(range(5)), 0)
    good = residues("S", 3 * [0, 1, 2], 0)
    high = good[:-8] + b"\xff" * 8
    cases = [(high, key), (good[:-8], key), (good, key[:-8]), (good, key[:-8] + b"\xff" * 8)]
    for ciphertext, used in cases:
        with pytest.raises(ValueError) as native:
            _native.he_relinearise("S", 3, ciphertext, used)
        with pytest.raises(ValueError) as cuda:
            kernels.relinearise("S", 3, ciphertext, used)
        assert str(cuda.value) == str(native.value)


def test_parts_that_columns_do_not_have_are_refused(
    device: Device, stores: dict[str, Store]
) -> None:
    kernels, store = CudaKernels(device, NATIVE, MEMORY_MIB), stores["S"]
    for part in (store.part(limbs=5), store.part(first=BLOCKS, count=1), store.part(count=0)):
        with pytest.raises(ValueError):
            kernels.weighted(store.columns, NAMES, [[1] * 6], part)
        with pytest.raises(ValueError):
            kernels.sums(store.columns, [[ONE]], part)
    with pytest.raises(ValueError):
        kernels.sums(store.columns, [[FOUR]], store.part())
    with pytest.raises(ValueError):
        kernels.sums(store.columns, [[[(["c0"], [1, 2], 0)]]], store.part())
    with pytest.raises(ValueError):
        kernels.weighted(store.columns, NAMES, [[1] * 5], store.part())


class Counting(HostDevice):
    """Counts uploads of whole planes, and breaks or is full when told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.planes = 0
        self.fault: DeviceFaultError | None = None

    def upload(self, data: bytes | npt.NDArray[Any]) -> Buffer:
        if self.fault is not None:
            raise self.fault
        buffer = super().upload(data)
        self.planes += buffer.size_bytes == 2 * BLOCKS * 8_192 * 6
        return buffer


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path)


def test_planes_stay_on_the_device_until_others_need_the_room(
    counting: Counting, stores: dict[str, Store]
) -> None:
    plane_mib = 2 * BLOCKS * 8_192 * 6 / 2**20
    kernels = CudaKernels(counting, NoFallback(), int(4 * plane_mib) + 1)
    store = stores["S"]
    part = store.part(limbs=2)
    for names, uploaded in ((["c0"], 2), (["c0"], 2), (["c2", "c0"], 4), (["c3"], 6), (["c0"], 6)):
        weights = [[1] * len(names)]
        expected = NATIVE.weighted(store.columns, names, weights, part)
        assert kernels.weighted(store.columns, names, weights, part) == expected
        assert counting.planes == uploaded


def test_what_does_not_fit_is_computed_on_the_processor(
    counting: Counting, stores: dict[str, Store]
) -> None:
    store = stores["S"]
    kernels = CudaKernels(counting, NATIVE, 1)
    weights = [[1] * 6]
    expected = NATIVE.weighted(store.columns, NAMES, weights, store.part())
    assert kernels.weighted(store.columns, NAMES, weights, store.part()) == expected
    assert kernels.sums(store.columns, [[ONE]], store.part()) == NATIVE.sums(
        store.columns, [[ONE]], store.part()
    )


def test_what_has_more_indices_than_a_kernel_is_computed_on_the_processor(
    counting: Counting, stores: dict[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, weights = stores["S"], [[1] * 6]
    part = store.part(limbs=1, count=1)
    expected = NATIVE.weighted(store.columns, NAMES, weights, part)
    kernels = CudaKernels(counting, NATIVE, MEMORY_MIB)
    for most, uploaded in ((2 * 8_192 - 1, 0), (2 * 8_192, len(NAMES))):
        monkeypatch.setattr("chainnode.he.cuda.kernels._INDICES_MAX", most)
        assert kernels.weighted(store.columns, NAMES, weights, part) == expected
        assert counting.planes == uploaded


def test_a_device_that_breaks_is_left_alone_and_reported_once(
    counting: Counting, stores: dict[str, Store]
) -> None:
    faults: list[str] = []
    store = stores["S"]
    kernels = CudaKernels(counting, NATIVE, MEMORY_MIB, faults.append)
    expected = NATIVE.sums(store.columns, [[ONE]], store.part())
    assert kernels.sums(store.columns, [[ONE]], store.part()) == expected
    counting.fault = DeviceFaultError("the bus is gone")
    assert kernels.sums(store.columns, [[ONE]], store.part()) == expected
    counting.fault, counting.planes = None, 0
    assert kernels.sums(store.columns, [[ONE]], store.part()) == expected
    assert (faults, counting.planes) == (["the bus is gone"], 0)


def test_a_device_that_is_full_is_asked_again(counting: Counting, stores: dict[str, Store]) -> None:
    faults: list[str] = []
    store = stores["S"]
    kernels = CudaKernels(counting, NATIVE, MEMORY_MIB, faults.append)
    counting.fault = DeviceFullError("no room")
    expected = NATIVE.sums(store.columns, [[ONE]], store.part())
    assert kernels.sums(store.columns, [[ONE]], store.part()) == expected
    counting.fault = None
    assert kernels.sums(store.columns, [[ONE]], store.part()) == expected
    assert (faults, counting.planes > 0) == ([], True)


def test_a_damaged_column_is_named(device: Device, tmp_path: Path) -> None:
    HeColumns.write(str(tmp_path), "c", "S", 3, [residues("S", [0, 1, 2] * 2, 0)])
    columns = HeColumns.open(str(tmp_path), "S")
    (tmp_path / "c.1.tiles").write_bytes(b"")
    kernels = CudaKernels(device, NATIVE, MEMORY_MIB)
    with pytest.raises(_native.HeCorruptColumn, match=r"c\.1\.tiles"):
        kernels.weighted(columns, ["c"], [[1]], Pass("S", 3, 0, 1))
