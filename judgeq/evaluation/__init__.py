"""Benchmarks: questions, the runner that answers them, metrics, results files, speed, and the report."""
