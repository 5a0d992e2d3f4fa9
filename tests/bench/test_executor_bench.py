"""The executor's benchmarks: the promised keys, null with a reason, blocks as described."""

import json
from pathlib import Path

import pytest

from chainnode import _native
from chainnode.bench import ablation, asset_block, executor, frame, plots, sim96, vm, workloads
from chainnode.bench.frame import Figures
from chainnode.bench.workloads import Workload
from chainnode.types.errors import ClientFault, InternalError

EXECUTOR_KEYS = {
    "one_thread_ratio",
    "two_thread_speedup",
    "worst_gate_ratio",
    "mean_gate_ratio",
    "oracle_blocks",
    "oracle_mismatches",
}
SIM96_KEYS = {
    "uniform20_nominal",
    "uniform20_worst",
    "uniform100_nominal",
    "uniform3_nominal",
    "zipf80_nominal",
    "zipf99_exact_share",
    "zipf99_delta_nominal",
    "counter_delta_nominal",
    "transfer_execute_nominal",
    "transfer_execute_worst",
    "transfer_signed_nominal",
    "transfer_signed_worst",
    "hot_merchant_nominal",
    "hot_merchant_worst",
    "hot_merchant_exact_nominal",
    "verify96_nominal",
    "verify96_worst",
    "validation_error_1t",
    "validation_error_2t",
    "validation_error_16t",
}


def nulls_have_reasons(figures: Figures, notes: list[str]) -> None:
    for key, value in figures.items():
        if value is None:
            assert any(note.startswith(f"{key} is null") for note in notes), key


def test_the_executor_bench_gives_the_promised_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "ORACLE_BLOCKS_QUICK", 10)
    monkeypatch.setattr(executor, "ASSET_ACCOUNTS", 100)
    monkeypatch.setattr(executor, "ASSET_BLOCK_TRANSACTIONS", 50)
    monkeypatch.setattr(workloads, "UNIFORM_20", Workload(20, transactions=300))
    figures, notes = executor.run(True)
    assert set(figures) >= EXECUTOR_KEYS
    assert figures["oracle_blocks"] == 10
    assert figures["oracle_mismatches"] == 0
    nulls_have_reasons(figures, notes)
    ratio = figures["one_thread_ratio"]
    assert isinstance(ratio, float)
    assert 0 < ratio < 2


def test_the_gate_runs_every_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "GATE_BLOCK_TRANSACTIONS", 60)
    monkeypatch.setattr(executor, "GATE_REPEATS", 1)
    figures, notes = executor.gated()
    assert len(notes) == len(executor.MIXES)
    assert figures["worst_gate_mix"] in executor.MIXES
    worst, mean = figures["worst_gate_ratio"], figures["mean_gate_ratio"]
    assert isinstance(worst, float)
    assert isinstance(mean, float)
    assert 0 < worst <= mean


def test_a_block_that_differs_fails_the_run() -> None:
    executor.refuse([])
    with pytest.raises(InternalError, match="BENCH_MISMATCH"):
        executor.refuse(["seed 7: the state root"])


def test_sim96_gives_the_promised_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"": Workload(20, transactions=300), "_3us": Workload(3, transactions=300)}
    monkeypatch.setattr(sim96, "VALIDATED", small)
    monkeypatch.setattr(sim96, "RECORDED_RUNS", 1)
    result = frame.run("sim96", quick=True)
    figures = result["figures"]
    assert set(figures) >= SIM96_KEYS
    nulls_have_reasons(figures, result["notes"])
    assert json.loads(json.dumps(result)) == result
    for key in SIM96_KEYS:
        if key.endswith("worst"):
            assert 1 < figures[key] <= figures[key.replace("worst", "nominal")] <= 96, key
    told = "\n".join(result["notes"])
    for name in ("uniform20", "zipf80", "zipf99", "counter_delta"):
        assert f"{name}: 20 us a transaction, block of 10,000" in told


def test_each_part_taken_away_is_a_figure_with_its_baseline() -> None:
    figures, notes = ablation.measure()
    for mix, load in ablation.MIXES.items():
        assert f"ablation_{mix}: {load.describe()}" in notes
        assert f"ablation_{mix}_full" in figures

    def figure(name: str) -> float:
        found = figures[f"ablation_{name}"]
        assert isinstance(found, float)
        return found

    # Guessing learns in the block: hints may be missing, not both hints and what bounds guesses.
    assert figure("zipf99_no_hints") > 0.9 * figure("zipf99_full")
    assert figure("zipf99_no_hints_executions_per_tx") <= 1.6
    assert figure("zipf99_no_templates") > 0.9 * figure("zipf99_full")
    assert figure("zipf99_no_hints_no_push") < 0.5 * figure("zipf99_no_hints")
    window = figure("zipf99_no_hints_no_window_executions_per_tx")
    assert window > figure("zipf99_no_hints_executions_per_tx")
    assert figure("zipf99_delta_no_deltas") < 0.5 * figure("zipf99_delta_full")
    assert figure("uniform3_no_batch") < figure("uniform3_full")


def test_simulated_figures_are_the_same_every_time() -> None:
    load = Workload(20, accounts=1_000, skew=0.9, transactions=500)
    first = _native.simulate(load.trace(), 96).makespan_ns
    assert _native.simulate(load.trace(), 96).makespan_ns == first
    assert first >= load.trace().critical_path_ns


def test_deltas_are_what_makes_a_shared_counter_free() -> None:
    payments = {"payments_only": True, "transactions": 500, "accounts": 100_000}
    exact = Workload(20, counter="exact", **payments).trace()  # type: ignore[arg-type]
    delta = Workload(20, counter="delta", **payments).trace()  # type: ignore[arg-type]
    assert exact.critical_path_ns == exact.work_ns
    assert delta.critical_path_ns < delta.work_ns / 20
    assert delta.without_deltas().critical_path_ns == exact.critical_path_ns
    assert sim96.speedup(delta) > 20 > 2 > sim96.speedup(exact)


def test_blocks_that_mix_puts_and_deltas_of_one_key_end() -> None:
    load = Workload(20, accounts=20, deltas=True, updates=1.0, transactions=400)
    found = _native.simulate(load.trace(), 96)
    assert found.executions >= 400
    serial, parallel = _native.bench_blocks(load.trace(), ["serial", "dag"], threads=2)
    assert len(serial.times_ns) == len(parallel.times_ns) == 1


def test_the_asset_trace_has_the_keys_of_the_contracts_templates() -> None:
    trace = sim96.asset_trace(2.0)
    lines = trace.encode().splitlines()
    assert len(lines) == 1 + workloads.BLOCK_TRANSACTIONS
    assert lines[1] == "c=2000 r=0@0 w=0 d=1 h=complete"
    assert (vm.shipped("asset") / "contract.py").is_file()


def test_a_recorded_asset_block_has_the_keys_it_touched() -> None:
    trace = asset_block.recorded(asset_block.chain(50), 40, 2)
    assert trace.with_verify(7_000).encode().count(" v=7000 ") == len(trace) == 40
    assert 0 < trace.critical_path_ns <= trace.work_ns
    for line in trace.encode().splitlines()[1:]:
        fields = dict(field.split("=") for field in line.split())
        read = {item.partition("@")[0] for item in fields["r"].split(",")}
        assert read == {*fields["w"].split(",")}
        assert len(read) == len(fields["d"].split(",")) == 1
        assert read != {fields["d"]}


def test_asset_blocks_on_two_threads_equal_serial_ones() -> None:
    assert len(asset_block.compared(asset_block.chain(50), 2, 60, 3)) == 3


def test_plots_are_drawn_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "WORKERS", (1, 4))
    monkeypatch.setattr(plots, "CURVES", {"small": Workload(20, transactions=200)})
    monkeypatch.setattr(ablation, "MIXES", {"small": Workload(3, transactions=200, deltas=True)})
    curves, bars = plots.draw("sim96", tmp_path / "figures")
    assert curves.read_text().startswith("<?xml")
    assert bars.name == "ablation.svg"
    assert bars.read_text().count("small, ") == 7
    with pytest.raises(ClientFault, match="BENCH_NO_PLOT"):
        plots.draw("vm", tmp_path)
