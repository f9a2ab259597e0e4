"""How scripts here judge the spikes of a network, whichever simulator they are of."""

import numpy as np

Spikes = np.ndarray  # [steps, units], 0 or 1


def irregularity(spikes: Spikes) -> float:
    """Mean over units of the coefficient of variation of their intervals, of those with five intervals or more."""
    intervals = (np.diff(np.flatnonzero(train)) for train in spikes.T)
    return float(np.mean([each.std() / each.mean() for each in intervals if len(each) >= 5] or [np.nan]))


def oscillation(spikes: Spikes, dt: float) -> float:
    """Frequency of the largest peak in the spectrum of all spikes together, from 10 to 500 Hz."""
    total = spikes.sum(1, dtype=np.float64)
    total -= total.mean()
    power = np.abs(np.fft.rfft(total * np.hanning(len(total)))) ** 2
    frequency = np.fft.rfftfreq(len(total), dt)
    inside = (frequency >= 10) & (frequency <= 500)
    return float(frequency[inside][power[inside].argmax()])


def synchrony(spikes: Spikes, bins: int) -> float:
    """Variance of the mean over units by the mean of their variances, of counts in bins of so many steps.

    1 where all units spike together, 1 / units where none knows of another.
    """
    counts = spikes[: len(spikes) // bins * bins].reshape(-1, bins, spikes.shape[1]).sum(1, dtype=np.float64)
    return float(counts.mean(1).var() / max(counts.var(0).mean(), 1e-12))
