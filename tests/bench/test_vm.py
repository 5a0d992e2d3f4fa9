"""The machine benchmark gives every promised key, or a reason."""

import pytest

from chainnode.bench import vm


@pytest.mark.slow
def test_quick_run_gives_the_promised_keys() -> None:
    figures, notes = vm.run(True)
    assert set(figures) == {
        "transfer_reused_us",
        "transfer_fresh_us",
        "metering_overhead_ratio",
        "threads2_scaling",
        "compile_ms_max",
        "cpython_inprocess_us",
        "worker_socket_us",
    }
    for key, value in figures.items():
        if value is None:
            assert any(key in note for note in notes), f"{key} is null without a reason"
    reused, fresh = figures["transfer_reused_us"], figures["transfer_fresh_us"]
    assert isinstance(reused, float) and isinstance(fresh, float)
    assert 0 < reused < fresh
