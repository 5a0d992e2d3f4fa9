"""The benchmark of the CUDA kernels gives its keys where there is a device, and says why not."""

from pathlib import Path

import pytest

from chainnode.bench import he_cuda, he_filtered, he_queries
from chainnode.bench.he_seal import Exact
from chainnode.he.cuda.kernels import CudaKernels
from chainnode.he.kernels import NativeKernels
from chainnode.testing.cuda_on_host import HostDevice


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """The kernels compiled for this machine, over few columns, blocks and rows."""
    made = HostDevice(tmp_path)
    kernels = CudaKernels(made, NativeKernels(), 1_000)
    monkeypatch.setattr(he_cuda, "opened", lambda: (made, ""))
    monkeypatch.setattr(he_cuda, "kernels", lambda: kernels)
    for name, value in {"READ_WORDS": 1 << 16, "SCORE_BLOCKS": 2, "PRODUCT_BLOCKS": 2}.items():
        monkeypatch.setattr(he_cuda, name, value)
    for name, value in {"SCORE_COLUMNS": 8, "EXACT_BLOCKS": 1, "LAUNCHES": 1}.items():
        monkeypatch.setattr(he_cuda, name, value)
    monkeypatch.setattr(he_filtered, "FILTER_BLOCKS", 1)
    monkeypatch.setattr(he_filtered, "Q6_BLOCKS_QUICK", 1)
    monkeypatch.setattr(he_queries, "SIZES", {"100k": 3_000})
    return made


def test_every_key_and_equal_bytes_on_a_device(device: HostDevice) -> None:
    exact = Exact()
    figures, notes = he_cuda.run(True, exact)
    assert set(figures) == set(he_cuda.KEYS)
    assert figures["cuda_device"] == device.name
    assert all(isinstance(value, str) or (value and value > 0) for value in figures.values())
    # Scorecards of both profiles, a product of four, a relinearisation.
    assert (exact.compared, exact.mismatches, len(notes)) == (3, 0, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("device")
def test_whole_questions_run_on_the_device_as_well() -> None:
    exact = Exact()
    filtered, _ = he_filtered.run(True, exact)
    queries, _ = he_queries.run(True, exact)
    for key in ("cuda_q6_ns_per_row", "cuda_query_100k_sum_ms", "cuda_query_100k_score_ms"):
        value = (filtered | queries)[key]
        assert isinstance(value, float) and value > 0
    assert exact.mismatches == 0


def test_without_a_device_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(he_cuda, "opened", lambda: (None, "CUDA_MISSING: no CuPy"))
    figures, notes = he_cuda.run(True, Exact())
    assert figures == dict.fromkeys(he_cuda.KEYS)
    assert "CUDA_MISSING" in notes[0]
