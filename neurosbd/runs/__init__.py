"""Runs: a directory each, with its records, log, checkpoints and lock; how they begin, go on, end and are opened again."""
