"""Trainings and experiments: from a definition to a run directory."""
