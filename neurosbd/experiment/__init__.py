"""Experiments: a resolved definition, the training loop, and the run directory it leaves. Layer 4."""
