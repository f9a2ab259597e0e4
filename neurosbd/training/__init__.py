"""Trainings: a network learns from a data set or a task, batch by batch, on one process or several."""
