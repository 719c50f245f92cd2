"""Benchmarks: run from the project's root as `python -m benchmarks.NAME`."""
