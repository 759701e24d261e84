"""Benchmarks: `python -m bench NAME [--json]`, from the root of the repository."""
