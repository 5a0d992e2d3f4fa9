"""Curves of the simulated executor, on request: `chainnode bench sim96 --plot DIR`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Final

from chainnode.bench import ablation, sim96, workloads
from chainnode.bench.workloads import Workload
from chainnode.types.errors import ClientFault, ConfigError

WORKERS: Final = (1, 2, 4, 8, 16, 32, 48, 64, 80, 96)
CURVES: Final[dict[str, Workload]] = {
    "uniform, 100 us": workloads.UNIFORM_100,
    "uniform, 20 us": workloads.UNIFORM_20,
    "uniform, 3 us": workloads.UNIFORM_3,
    "zipf 0.99, deltas": workloads.ZIPF_99_DELTA,
    "zipf 0.99, exact keys": workloads.ZIPF_99,
}


def draw(name: str, folder: Path) -> list[Path]:
    """Write a benchmark's curves as SVG and return their paths.

    Raises:
        ClientFault: `BENCH_NO_PLOT`.
        ConfigError: `MATPLOTLIB_MISSING`.
    """
    if name != "sim96":
        raise ClientFault(
            "BENCH_NO_PLOT", f"{name} has no plot.", subject=name, fix="sim96 has one"
        )
    pyplot = _pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    return [_curves(pyplot, folder / "sim96.svg"), _ablation(pyplot, folder / "ablation.svg")]


def _curves(pyplot: ModuleType, path: Path) -> Path:
    figure, axes = pyplot.subplots(figsize=(7.5, 5.0))
    for label, load in CURVES.items():
        trace = load.trace()
        bands = [
            [sim96.speedup(trace, band, workers) for workers in WORKERS]
            for band in ("worst", "nominal", "best")
        ]
        (line,) = axes.plot(WORKERS, bands[1], marker="o", markersize=3, label=label)
        axes.fill_between(WORKERS, bands[0], bands[2], alpha=0.15, color=line.get_color())
    axes.plot(WORKERS, WORKERS, linestyle=":", color="grey", label="as many times as workers")
    axes.set_xlabel("virtual workers")
    axes.set_ylabel("times plain serial execution")
    axes.set_title("Simulated: blocks of 10,000, band from worst to best")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    return _save(pyplot, figure, path)


def _ablation(pyplot: ModuleType, path: Path) -> Path:
    """Bars: each mix in full and with one part taken away."""
    bars = [
        (f"{mix}, {missing.replace('_', ' ')}", found.speedup, missing == "full")
        for mix, load in ablation.MIXES.items()
        for missing, found in ablation.cases(load).items()
    ]
    labels, heights, whole = zip(*reversed(bars), strict=True)
    figure, axes = pyplot.subplots(figsize=(7.5, 1.0 + 0.22 * len(bars)))
    axes.barh(labels, heights, color=["tab:blue" if full else "tab:orange" for full in whole])
    axes.set_xlabel("times plain serial execution, 96 virtual workers, nominal band")
    axes.tick_params(axis="y", labelsize=7)
    axes.grid(visible=True, axis="x", alpha=0.3)
    figure.tight_layout()
    return _save(pyplot, figure, path)


def _save(pyplot: ModuleType, figure: Any, path: Path) -> Path:
    # Fixed ids and no date: the same figures give the same file.
    with pyplot.rc_context({"svg.hashsalt": "chainnode"}):
        figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _pyplot() -> ModuleType:
    try:
        import matplotlib
    except ImportError:
        raise ConfigError(
            "MATPLOTLIB_MISSING",
            "Plots need matplotlib, which is not installed.",
            fix="pip install 'chainnode[dev]'",
        ) from None
    matplotlib.use("svg")
    from matplotlib import pyplot

    return pyplot
