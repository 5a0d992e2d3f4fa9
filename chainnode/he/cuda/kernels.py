"""The engine's kernels on a graphics processor, with this machine's processor to fall back on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from chainnode.he.cuda import passes
from chainnode.he.cuda.device import Device, DeviceFaultError, DeviceFullError
from chainnode.he.cuda.planes import Planes
from chainnode.he.cuda.relinearise import Relinearisation
from chainnode.he.cuda.ring import DeviceRing, device_ring
from chainnode.he.engine import pack_container
from chainnode.he.kernels import Kernels, Pass, Term
from chainnode.he.profiles import PROFILES, ProfileName
from chainnode.types.limits import MEBI

if TYPE_CHECKING:
    from chainnode._native import HeColumns

Result = TypeVar("Result")

# Indices of a kernel are 32 bits wide, and one more stride must not wrap around.
_INDICES_MAX: Final = 2**31 - 1


class CudaKernels:
    """Kernels on a device. What does not fit there, and all after the device broke, is computed on
    the processor: the same bytes, later.

    Args:
        device: computes.
        native: computes what the device cannot, and says what is wrong with malformed input.
        memory_max_mib: of columns kept on the device.
        on_fault: told once, with the reason, when the device breaks.
    """

    def __init__(
        self,
        device: Device,
        native: Kernels,
        memory_max_mib: int,
        on_fault: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._device, self._native, self._on_fault = device, native, on_fault
        self._planes = Planes(device, memory_max_mib * MEBI)
        self._rings: dict[ProfileName, DeviceRing] = {}
        self._keys: dict[ProfileName, tuple[bytes, Relinearisation]] = {}
        self._is_broken = False
        # One pass at a time: the next one's columns may take the place of this one's.
        self._lock = threading.Lock()

    def weighted(
        self,
        columns: HeColumns,
        names: Sequence[str],
        weights: Sequence[Sequence[int]],
        part: Pass,
    ) -> list[list[bytes]]:
        """See `Kernels.weighted`."""
        blocks = columns.check_pass(names, part.limbs, part.first, part.count)
        rows = len(weights) * part.count * 2 * part.limbs

        def compute() -> list[list[bytes]] | None:
            if any(len(row) != len(names) for row in weights) or not self._fits(part, rows):
                return None
            planes = self._planes.find(columns, names, part.limbs)
            if planes is None:
                return None
            ring = self._ring(part.profile)
            sums = passes.weighted(self._device, ring, planes, weights, blocks, part)
            models = self._device.download(sums).reshape(len(weights), part.count, -1)
            return [[block.tobytes() for block in model] for model in models]

        found = self._guarded(compute) if weights else None
        return self._native.weighted(columns, names, weights, part) if found is None else found

    def sums(self, columns: HeColumns, outputs: Sequence[Sequence[Term]], part: Pass) -> bytes:
        """See `Kernels.sums`."""
        terms = [term for output in outputs for term in output]
        names = list(dict.fromkeys(n for term in terms for factor in term for n in factor[0]))
        blocks = columns.check_pass(names, part.limbs, part.first, part.count)
        deepest = len(PROFILES[part.profile].noise_bits)
        rows = sum(len(term) + 1 for term in terms) * part.limbs * part.count

        def compute() -> bytes | None:
            regular = all(outputs) and all(
                1 <= len(term) <= deepest and all(len(f[0]) == len(f[1]) for f in term)
                for term in terms
            )
            if not regular or not self._fits(part, rows):
                return None
            planes = self._planes.find(columns, names, part.limbs)
            if planes is None:
                return None
            ring = self._ring(part.profile)
            sums = passes.sums(self._device, ring, planes, names, outputs, blocks, part)
            polynomial = part.limbs * ring.degree
            sizes = [(max(map(len, output)) + 1) * polynomial for output in outputs]
            words = np.split(self._device.download(sums), list(accumulate(sizes))[:-1])
            return pack_container([output.tobytes() for output in words])

        found = self._guarded(compute)
        return self._native.sums(columns, outputs, part) if found is None else found

    def relinearise(
        self, profile: ProfileName, limbs: int, ciphertext: bytes, relin_key: bytes
    ) -> bytes:
        """See `Kernels.relinearise`."""

        def compute() -> bytes | None:
            kept = self._keys.get(profile)
            try:
                if kept is None or kept[0] != relin_key:
                    ring = self._ring(profile)
                    kept = relin_key, Relinearisation(self._device, ring, relin_key)
                    self._keys[profile] = kept
                return kept[1].apply(limbs, ciphertext)
            except ValueError:
                # Refused below, in the words every engine uses.
                return None

        found = self._guarded(compute)
        if found is None:
            return self._native.relinearise(profile, limbs, ciphertext, relin_key)
        return found

    def _ring(self, profile: ProfileName) -> DeviceRing:
        if profile not in self._rings:
            self._rings[profile] = device_ring(self._device, profile)
        return self._rings[profile]

    def _fits(self, part: Pass, rows: int) -> bool:
        return rows * PROFILES[part.profile].slots <= _INDICES_MAX

    def _guarded(self, compute: Callable[[], Result | None]) -> Result | None:
        with self._lock:
            if self._is_broken:
                return None
            try:
                return compute()
            except DeviceFullError:
                # Others may use the device too: what it keeps for later makes room.
                self._planes.clear()
                return None
            except DeviceFaultError as error:
                self._is_broken = True
                self._planes.clear()
                self._keys.clear()
                self._on_fault(str(error))
                return None
