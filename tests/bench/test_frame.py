"""The benchmark envelope that BENCHMARKS.md fixes."""

import json

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


def test_only_a_quiet_machine_with_two_cores_tells_about_two_threads() -> None:
    assert [bool(frame.two_threads_doubt(spin)) for spin in (None, 1.3, 1.94, 1.97, 2.05, 6.2)] == [
        True, True, True, False, False, True,
    ]  # fmt: skip
