"""The benchmark envelope that BENCHMARKS.md fixes."""

import json
import os

import pytest

from chainnode.bench import frame
from chainnode.types.errors import ClientFault


def test_the_envelope_has_the_fixed_keys() -> None:
    result = frame.run("verify", quick=True)
    assert set(result) == {"bench", "version", "machine", "parameters", "figures", "notes"}
    assert {"cpu", "cores", "spin_scaling_2t", "ram_gib"} <= set(result["machine"])
    assert {"ed25519_batch_us", "ed25519_library_us", "ed25519_ratio"} <= set(result["figures"])
    assert json.loads(json.dumps(result)) == result


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(ClientFault, match="BENCH_UNKNOWN"):
        frame.run("speed", quick=True)


def test_only_a_quiet_machine_with_the_cores_tells_about_threads() -> None:
    assert [bool(frame.threads_doubt(2, spin)) for spin in (None, 1.3, 1.94, 1.97, 2.05, 6.2)] == [
        True, True, True, False, False, True,
    ]  # fmt: skip
    assert [bool(frame.threads_doubt(16, spin)) for spin in (None, 2.0, 15.1, 15.3, 16.9)] == [
        True, True, True, False, True,
    ]  # fmt: skip
    assert frame.threads_doubt(1, None) == ""
    assert "scales 15.10 on 16 threads, below 15.2" in frame.threads_doubt(16, 15.1)


def test_a_spin_kernel_is_not_asked_for_more_threads_than_there_are_cores() -> None:
    cores = os.cpu_count() or 1
    assert frame.spin_scalings([cores + 1, 2 * cores]) == {cores + 1: None, 2 * cores: None}
    assert 0 < frame.scaling_once(cores + 1) < 2 * cores + 2
