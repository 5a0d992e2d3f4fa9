"""The executor's benchmarks: the promised keys, null with a reason, blocks as described."""

import json
from pathlib import Path

import pytest

from chainnode import _native
from chainnode.bench import (
    ablation,
    asset_block,
    executor,
    frame,
    plots,
    sim96,
    vm,
    whole_block,
    workloads,
)
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
    "speedup_4t",
    "speedup_8t",
    "speedup_16t",
    "speedup_16t_uniform100",
    "speedup_16t_zipf80",
    "speedup_16t_zipf99_delta",
    "speedup_16t_asset_block",
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
    "validation_executions_error_1t",
    "validation_executions_error_2t",
    "block_transfer_nominal",
    "block_transfer_worst",
    "block_transfer_one_worker_share",
    "uniform20_measured_costs",
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


def test_more_threads_are_told_where_a_spin_kernel_gains_as_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "LOADS", {"": Workload(20, transactions=300)})
    monkeypatch.setattr(workloads, "BLOCK_TRANSACTIONS", 50)
    monkeypatch.setattr(executor, "MANY_ACCOUNTS", 100)
    spins = {4: 3.9, 8: 5.0, 16: None}
    figures, notes = executor.many_threads(spins, 1)
    assert {int(key.split("_")[2][:-1]) for key in figures if key.startswith("spin")} == {*spins}
    for suffix in ("", "_asset_block"):
        found = figures[f"speedup_4t{suffix}"]
        assert isinstance(found, float)
        assert 0 < found < 4
        # What was seen is told, and is no figure.
        assert figures[f"speedup_8t{suffix}"] is None
        [seen] = [note for note in notes if note.startswith(f"speedup_8t{suffix}: ")]
        assert "median of 1, a spin kernel 5.00" in seen
        assert figures[f"speedup_16t{suffix}"] is None
        assert not any(note.startswith(f"speedup_16t{suffix}: ") for note in notes)
    nulls_have_reasons(figures, notes)


def test_the_simulator_is_compared_on_as_many_threads_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sim96, "VALIDATED", {"": Workload(20, transactions=300)})
    monkeypatch.setattr(sim96, "SERIAL_SPREAD_MAX", 100)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    spins = {2: 1.98, 4: 3.9, 8: 6.0, 16: None}
    for check, name in (
        (sim96.validation, "validation_error"),
        (sim96.executions, "validation_executions_error"),
    ):
        figures, notes = check(spins, 1)
        assert [*figures] == [f"{name}_{threads}t" for threads in sim96.THREADS]
        told = [isinstance(value, float) for value in figures.values()]
        assert told == [True, True, True, False, False]
        assert any(note.startswith(f"{name}_8t: ") for note in notes)
        assert not any(note.startswith(f"{name}_16t: ") for note in notes)
        nulls_have_reasons(figures, notes)


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


def nominal(key: str) -> str:
    return key.replace("worst", "nominal")


@pytest.mark.timeout(240)
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
        if key.endswith("worst") and None not in (figures[key], figures[nominal(key)]):
            assert 1 < figures[key] <= figures[nominal(key)] <= 96, key
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


FREE = dict.fromkeys(_native.scheduler_costs(), 0.0)


def test_a_makespan_lies_between_what_no_scheduler_beats_and_what_a_greedy_one_reaches() -> None:
    loads = [
        Workload(20, transactions=2_000),
        Workload(3, transactions=2_000, accounts=1_000),
        Workload(20, transactions=2_000, accounts=10_000, skew=0.8),
        Workload(20, transactions=2_000, accounts=1_000, skew=0.99),
        Workload(20, transactions=2_000, accounts=1_000, counter="exact", payments_only=True),
    ]
    for load in loads:
        trace = load.trace()
        work_ns, path_ns = trace.work_ns, trace.critical_path_ns
        for workers in (1, 2, 16, 96):
            free = _native.simulate(trace, workers, engine="dag", costs=FREE)
            least = max(work_ns / workers, path_ns)
            # Brent (1974), and what walking the hints takes.
            most = work_ns / workers + path_ns + 10 * len(trace)
            assert least <= free.makespan_ns <= most, (load, workers)
            found = _native.simulate(trace, workers, engine="dag")
            assert found.makespan_ns > free.makespan_ns
            # Work and path each dearer by what the scheduler adds to a transaction, all lines met
            # by all workers, and what lies around.
            dearer = 1 + (2_000 + 20 * 50 * min(workers, 4)) / (work_ns / len(trace))
            bound = 1.1 * dearer * (work_ns / workers + path_ns) + found.around_ns
            assert found.makespan_ns <= bound + 1_000 * len(trace) / workers + 100_000


def test_what_one_worker_does_alone_is_charged_undivided() -> None:
    trace = Workload(20, transactions=8_000).trace()
    one, many = (_native.simulate(trace, workers, engine="dag") for workers in (1, 96))
    costs = _native.scheduler_costs()
    # Three jobs follow the execution; each worker is to be thought of, no transaction and no key.
    for workers, found in ((1, one), (96, many)):
        alone = workers * (costs["begin_ns"] + 3 * costs["join_ns"])
        assert alone <= found.serial_part_ns <= 1.1 * alone + 4
    longer = _native.simulate(Workload(20, transactions=16_000).trace(), 96, engine="dag")
    assert longer.serial_part_ns == many.serial_part_ns < many.around_ns < longer.around_ns
    cheap = _native.simulate(trace, 96, engine="dag", costs={"join_ns": costs["join_ns"] - 100})
    assert 3 * 100 * 96 <= many.makespan_ns - cheap.makespan_ns <= 1.1 * 3 * 100 * 96 + 4
    # Whoever waits for more than 50 us falls asleep and is woken: seven steps of a tree, each time.
    late = _native.simulate(trace, 96, engine="dag", costs={"join_ns": 50_000 / 96})
    assert late.makespan_ns - many.makespan_ns > 3 * 7 * costs["wake_ns"]
    dear = _native.simulate(trace, 96, engine="dag", costs={"begin_ns": costs["begin_ns"] + 100})
    assert 100 * 96 <= dear.makespan_ns - many.makespan_ns <= 1.1 * 100 * 96 + 4
    # Where the gate chooses one worker looks at 256 transactions, of 2 to 4 accesses here.
    chosen = _native.simulate(trace, 96)
    survey_ns = chosen.serial_part_ns - many.serial_part_ns
    assert 2 * 256 * costs["survey_ns"] <= survey_ns <= 1.1 * 4 * 256 * costs["survey_ns"]


def test_a_small_block_is_collected_by_as_many_as_it_is_worth() -> None:
    costs = _native.scheduler_costs()
    crews = []
    for transactions in (100, 500, 2_000, 10_000):
        trace = Workload(20, transactions=transactions).trace()
        found = _native.simulate(trace, 96, engine="dag")
        joining_ns = found.serial_part_ns / 1.1 - 96 * costs["begin_ns"]
        crews.append(round(joining_ns / (3 * costs["join_ns"])))
    assert crews == sorted(set(crews))
    assert crews[0] == 1
    assert 20 < crews[1] < 40
    assert crews[3] == 96


def test_measured_costs_have_the_names_of_the_assumed_ones() -> None:
    here = _native.measured_costs(500, 96)
    assert set(here) == set(_native.scheduler_costs())
    assert all(value > 0 for name, value in here.items() if name != "commit_ns")
    with pytest.raises(ValueError, match="at least one"):
        _native.measured_costs(0, 96)


def test_a_whole_block_is_timed_as_it_divides() -> None:
    made = asset_block.chain(200)
    executed = asset_block.recorded(made, 400, 1)
    plain, shared = (whole_block.timed(made, 400, workers, 2) for workers in (1, 96))
    rows = whole_block.rows(plain, shared, executed, 96, "nominal")
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    for name in ("decode", "hints", "schedule", "execute", "collect", "receipts root"):
        assert name in names
    assert names[-2:] == ["state tree", "state"]
    for row in rows:
        assert 0 <= row.serial_ns <= row.whole_ns, row
        assert row.time_ns >= row.serial_ns, row
    worst = whole_block.rows(plain, shared, executed, 96, "worst")
    assert sum(row.time_ns for row in worst) > sum(row.time_ns for row in rows)
    with pytest.raises(ValueError, match="another block"):
        plain.least(shared)
    context, batch, verified = made.block(3, 10)
    serial, timed = made.executor(), made.executor()
    expected = serial.execute_block(context, batch, verified)
    result, _ = timed.time_block(context, batch, verified, 96)
    assert result.state_root == expected.state_root
    assert result.receipts == expected.receipts
    with pytest.raises(ValueError, match="workers"):
        timed.time_block(context, batch, verified, 0)


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
