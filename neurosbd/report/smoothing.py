"""Quantities along a training: when they were taken, their course without the noise, their start and their end."""

import numpy as np

from neurosbd.tracefiles import Signal


def batches_learned(signal: Signal) -> np.ndarray:
    """Batches learned when each row of a signal per batch was taken, int [row].

    0 before the first. Of a trace that does not say how many batches an epoch has: the simulated time in units of a
    trial, which has step + 1 steps.
    """
    per_epoch = signal.trace.contents.batches
    if per_epoch is not None:
        return np.where(signal.batch < 0, 0, (signal.epoch - 1) * per_epoch + signal.batch + 1).astype(int)
    return np.rint(signal.time / (signal.trace.dt * (signal.step + 1))).astype(int)


def smoothed(x: np.ndarray, y: np.ndarray, points: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Medians of neighbours, three at least where there are enough, in at most `points` groups; x [n], y [n]."""
    count = min(points, max(len(x) // 3, min(len(x), 8)))
    groups = np.array_split(np.arange(len(x)), count) if count else []
    return np.array([x[g].mean() for g in groups]), np.array([np.median(y[g]) for g in groups])


def start_and_end(values: np.ndarray) -> tuple[float, float]:
    """Median of the first and of the last quarter of the finite values [n]; NaN if there are none."""
    there = values[np.isfinite(values)]
    if not len(there):
        return float("nan"), float("nan")
    quarter = max(1, len(there) // 4)
    return float(np.median(there[:quarter])), float(np.median(there[-quarter:]))
