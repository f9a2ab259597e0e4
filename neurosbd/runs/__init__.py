"""Runs, a directory each: records, log, lock, checkpoints; how they begin, go on, end and are opened again."""
