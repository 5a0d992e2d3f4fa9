"""A graphics processor: its memory, and the kernels of `kernels.cu` compiled for it.

Nothing here knows what is computed. CuPy is the only thing needed beyond the processor's driver
and is imported when a device is opened, not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from chainnode.types.errors import ConfigError

WORD_BYTES: Final = 8
SOURCE: Final = Path(__file__).with_name("kernels.cu")
_OPTIONS: Final = ("--std=c++17", "--device-int128")
_BLOCK_THREADS: Final = 128
_GRID_MAX: Final = 2**31 - 1
Words = npt.NDArray[np.uint64]
Result = TypeVar("Result")


class DeviceFaultError(Exception):
    """The device refused or broke off what it was asked: what was computed on it is lost."""


class DeviceFullError(DeviceFaultError):
    """The device has no room; it goes on working."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a device.

    Args:
        address: its first byte's, on the device.
        size_bytes: its length.
        owner: keeps it alive.
    """

    address: int
    size_bytes: int
    owner: object

    def words_from(self, first: int, count: int) -> Buffer:
        """Some 64-bit words of it, in place."""
        return Buffer(self.address + first * WORD_BYTES, count * WORD_BYTES, self.owner)


class Device(Protocol):
    """What the kernels need of a device. Everything asked of it happens in the order asked.

    Every method raises `DeviceFaultError`.
    """

    name: str

    def upload(self, data: bytes | npt.NDArray[Any]) -> Buffer:
        """A copy on the device."""
        ...

    def empty(self, words: int) -> Buffer:
        """Room for so many 64-bit words, of any content."""
        ...

    def download(self, buffer: Buffer) -> Words:
        """A copy of a buffer's words."""
        ...

    def launch(self, kernel: str, threads: int, *arguments: int | Buffer) -> None:
        """Run a kernel.

        Args:
            kernel: its name in `kernels.cu`.
            threads: how many of its indices are independent; any number gives the same result.
            arguments: in its order; whole numbers below 2^32, and buffers.
        """
        ...


class CupyDevice:
    """One CUDA device through CuPy.

    Args:
        number: of the device, from 0.

    Raises:
        ConfigError: `CUDA_MISSING` without CuPy, `CUDA_UNUSABLE` without a device that takes the
            kernels.
    """

    def __init__(self, number: int = 0) -> None:
        try:
            self._cupy: Any = importlib.import_module("cupy")
            self._pinned: Any = importlib.import_module("cupyx").empty_pinned
        except ImportError as error:
            raise ConfigError(
                "CUDA_MISSING",
                f"the CUDA engine needs CuPy: {error}",
                fix="install chainnode with the extra `cuda`, or set engine = local",
            ) from error
        cuda = self._cupy.cuda
        self._faults: tuple[type[Exception], ...] = (
            cuda.runtime.CUDARuntimeError,
            cuda.driver.CUDADriverError,
            cuda.compiler.CompileException,
        )
        try:
            self._context: AbstractContextManager[object] = cuda.Device(number)
            self.name = self._guarded(
                lambda: str(cuda.runtime.getDeviceProperties(number)["name"], "utf-8")
            )
            self._module = self._guarded(self._compile)
        except DeviceFaultError as error:
            raise ConfigError(
                "CUDA_UNUSABLE",
                f"CUDA device {number} cannot be used: {error}",
                fix="check the driver and the device's number, or set engine = local",
            ) from error
        self._kernels: dict[str, Any] = {}

    def _compile(self) -> Any:
        module = self._cupy.RawModule(code=SOURCE.read_text("utf-8"), options=_OPTIONS)
        module.compile()
        return module

    def _guarded(self, action: Callable[[], Result]) -> Result:
        try:
            with self._context:
                return action()
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            raise DeviceFullError(str(error)) from error
        except self._faults as error:
            raise DeviceFaultError(f"{type(error).__name__}: {error}") from error

    def upload(self, data: bytes | npt.NDArray[Any]) -> Buffer:
        """See `Device.upload`."""
        array = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        copy = self._guarded(lambda: self._cupy.asarray(array))
        return Buffer(int(copy.data.ptr), int(copy.nbytes), copy)

    def empty(self, words: int) -> Buffer:
        """See `Device.empty`."""
        room = self._guarded(lambda: self._cupy.empty(words, np.uint64))
        return Buffer(int(room.data.ptr), words * WORD_BYTES, room)

    def download(self, buffer: Buffer) -> Words:
        """See `Device.download`."""
        runtime = self._cupy.cuda.runtime

        # On the default stream, as every launch: waits for them. Pinned, which is several times
        # as fast.
        def copy() -> Words:
            out: Words = self._pinned(buffer.size_bytes // WORD_BYTES, np.uint64)
            runtime.memcpy(
                out.ctypes.data, buffer.address, buffer.size_bytes, runtime.memcpyDeviceToHost
            )
            return out

        return self._guarded(copy)

    def launch(self, kernel: str, threads: int, *arguments: int | Buffer) -> None:
        """See `Device.launch`."""
        run = self._kernels.get(kernel)
        if run is None:
            run = self._guarded(lambda: self._module.get_function(kernel))
            self._kernels[kernel] = run
        grid = min(-(-threads // _BLOCK_THREADS), _GRID_MAX)
        values = tuple(
            np.uint64(item.address) if isinstance(item, Buffer) else np.uint32(item)
            for item in arguments
        )
        self._guarded(lambda: run((grid,), (_BLOCK_THREADS,), values))
