"""Scripts behind every figure in README and docs: ``python -m benchmarks.NAME``."""
