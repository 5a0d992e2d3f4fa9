"""The text of the CUDA kernels, compiled by the C compiler: a device for machines that have none.

The kernels are loops over independent indices, so that one thread gives what many give. Slow, and
for tests only.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chainnode.he.cuda.device import SOURCE, WORD_BYTES, Buffer, Words


class HostDevice:
    """A device whose memory is this process's.

    Args:
        folder: where the compiled kernels go.
    """

    name = "this processor"

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or "clang"
        library = folder / "kernels.so"
        options = ["-O2", "-shared", "-fPIC", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
        command = [compiler, *options, "-x", "c", str(SOURCE), "-o", str(library)]
        subprocess.run(command, check=True)
        self._kernels = ctypes.CDLL(str(library))

    def upload(self, data: bytes | npt.NDArray[Any]) -> Buffer:
        """See `Device.upload`."""
        array = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        words = np.zeros(max(1, -(-array.nbytes // WORD_BYTES)), np.uint64)
        words.view(np.uint8)[: array.nbytes] = (
            np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        )
        return Buffer(words.ctypes.data, array.nbytes, words)

    def empty(self, words: int) -> Buffer:
        """See `Device.empty`."""
        # Of any content: what a kernel leaves unwritten must show.
        room = np.full(max(1, words), 0xDEAD_BEEF_DEAD_BEEF, np.uint64)
        return Buffer(room.ctypes.data, words * WORD_BYTES, room)

    def download(self, buffer: Buffer) -> Words:
        """See `Device.download`."""
        size = buffer.size_bytes
        return np.frombuffer(ctypes.string_at(buffer.address, size), np.uint64).copy()

    def launch(self, kernel: str, threads: int, *arguments: int | Buffer) -> None:
        """See `Device.launch`."""
        values = [
            ctypes.c_void_p(item.address) if isinstance(item, Buffer) else ctypes.c_uint32(item)
            for item in arguments
        ]
        getattr(self._kernels, kernel)(*values)
