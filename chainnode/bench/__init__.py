"""Benchmarks: each measures, prints its figures and never judges them."""
