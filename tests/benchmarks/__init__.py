"""Benchmarks: run by hand, never timed in the test suite. See docs/how-to/benchmarks.md."""
