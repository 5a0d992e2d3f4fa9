"""The deterministic simulator: consensus under faults, replayed exactly from a seed."""

from chainnode.testing.simulator import RunReport, Setup, Simulation, replay, run_seeds

__all__ = ["RunReport", "Setup", "Simulation", "replay", "run_seeds"]
