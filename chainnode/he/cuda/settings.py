"""What a worker is told of its graphics processor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CudaSettings:
    """The `[cuda]` table of a worker's configuration.

    Args:
        device: number of the CUDA device, from 0.
        device_memory_max_mib: how much of its memory columns may keep; results and keys need some
            hundred MiB beside.
    """

    device: int = 0
    device_memory_max_mib: int = 8_192
