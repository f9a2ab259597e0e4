"""The campaign of damaged files and killed runs: what `benchmarks/faults.py` is made of."""
