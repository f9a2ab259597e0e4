"""Statistics of spike trains: rates, irregularity, correlations; each a pass of numpy over all trains at once.

Names and definitions are those of Elephant, whose values they have (tests/test_spike_statistics.py). What was recorded
in pieces, such as the trials of a task, is pooled over them as Neo's segments are: no interval, no bin, no pair of
spikes and no window around an event reaches from one segment into another.
"""

import math
from typing import NamedTuple

import numpy as np

from neurosbd.errors import UsageError
from neurosbd.spike_times import SpikeTimes

_EDGE = 1e-6  # of a bin: a spike at its left edge is in it, however the time was rounded


class Intervals(NamedTuple):
    """Times between two spikes of one train in one segment."""

    seconds: np.ndarray  # [M]
    trains: np.ndarray  # whose they are, ascending, [M]
    segments: np.ndarray  # and where, ascending within a train, [M]


def firing_rates(spikes: SpikeTimes) -> np.ndarray:
    """Spikes per second of each train, Hz, [count]; all spikes over the time of all segments."""
    return spikes.counts / spikes.duration


def intervals(spikes: SpikeTimes) -> Intervals:
    """All interspike intervals, in the order of trains, segments and times."""
    segments = np.asarray(spikes.segments)
    same = (spikes.trains[1:] == spikes.trains[:-1]) & (segments[1:] == segments[:-1])
    return Intervals(np.diff(spikes.times)[same], spikes.trains[1:][same], segments[1:][same])


def isi_cv(spikes: SpikeTimes) -> np.ndarray:
    """CV = std(I) / mean(I) of the intervals of each train, [count]; NaN of fewer than two intervals.

    Intervals of all segments are pooled; those longer than a segment are not in it, which makes short ones regular.
    1 for a Poisson process, 0 for a clock.

    >>> isi_cv(SpikeTimes(np.array([0.0, 1.0, 4.0]), np.zeros(3, int), 1, 0.0, 5.0))
    array([0.5])
    """
    seconds, trains, _ = intervals(spikes)
    number = np.bincount(trains, minlength=spikes.count)
    mean = _mean(seconds, trains, spikes.count)
    square = _mean((seconds - mean[trains]) ** 2, trains, spikes.count)
    return np.where(number > 1, np.sqrt(square) / mean, np.nan)


def cv2(spikes: SpikeTimes) -> np.ndarray:
    """CV2 = mean of 2 |I[n+1] - I[n]| / (I[n+1] + I[n]) of each train, [count]; NaN of fewer than two intervals.

    Unlike the CV it does not grow where the rate drifts.
    Source: Holt, Softky, Koch, Douglas 1996, J. Neurophysiol. 75.
    """
    relative, trains, _ = _successive(spikes)
    return _mean(2 * np.abs(relative), trains, spikes.count)


def lv(spikes: SpikeTimes) -> np.ndarray:
    """LV = mean of 3 ((I[n+1] - I[n]) / (I[n+1] + I[n]))^2 of each train, [count]; NaN of fewer than two intervals.

    Source: Shinomoto, Shima, Tanji 2003, Neural Comput. 15.
    """
    relative, trains, _ = _successive(spikes)
    return _mean(3 * relative**2, trains, spikes.count)


def _successive(spikes: SpikeTimes) -> Intervals:
    """(I[n+1] - I[n]) / (I[n+1] + I[n]) of all successive intervals, and their trains and segments."""
    seconds, trains, segments = intervals(spikes)
    same = (trains[1:] == trains[:-1]) & (segments[1:] == segments[:-1])
    relative = np.diff(seconds) / (seconds[1:] + seconds[:-1])
    return Intervals(relative[same], trains[1:][same], segments[1:][same])


def _mean(values: np.ndarray, trains: np.ndarray, count: int) -> np.ndarray:
    """Of the values of each train; NaN where there is none."""
    number = np.bincount(trains, minlength=count)
    return np.where(number > 0, np.bincount(trains, values, count) / np.maximum(number, 1), np.nan)


def binned(spikes: SpikeTimes, width: float) -> np.ndarray:
    """Spikes of each train in successive bins of `width` s, [count, bins], segment after segment.

    What is left at the end of a segment is left out.

    Raises:
        UsageError: if not one bin fits.
    """
    bins = _bins(spikes, width)
    at = np.floor(spikes.since / width + _EDGE).astype(np.int64)
    kept = at < bins[spikes.segments]
    within = at[kept] + (np.cumsum(bins) - bins)[spikes.segments][kept]
    total = int(bins.sum())
    places = spikes.trains[kept] * total + within
    return np.bincount(places, minlength=spikes.count * total).reshape(spikes.count, total)


def _bins(spikes: SpikeTimes, width: float) -> np.ndarray:
    """How many bins each segment has, [S]."""
    bins = (spikes.durations / width + _EDGE).astype(np.int64) if width > 0 else np.zeros(1, np.int64)
    if not bins.any():
        raise UsageError(
            f"a bin must be above 0 s and at most the {spikes.durations.max():g} s of the spikes, got {width:g} s"
        )
    return bins


def fano_factor(spikes: SpikeTimes, width: float) -> np.ndarray:
    """Variance over mean of the spike counts of each train in bins of `width` s, [count]; NaN without a spike.

    1 for a Poisson process at every width. Over the bins of all segments: with bins as long as a trial it is the Fano
    factor over trials, and where rates differ from trial to trial that is part of the variance.
    """
    counts = binned(spikes, width)
    mean = counts.mean(1)
    return np.where(mean > 0, counts.var(1) / np.where(mean > 0, mean, 1), np.nan)


def count_correlation(spikes: SpikeTimes, width: float) -> np.ndarray:
    """Pearson correlation of the spike counts of all pairs of trains in bins of `width` s, [count, count].

    NaN of a train whose count does not vary. Over the bins of all segments, so that what trains share because trials
    differ, in their stimulus for example, counts.
    """
    counts = binned(spikes, width).astype(np.float64)
    counts -= counts.mean(1, keepdims=True)
    scale = np.sqrt((counts**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(counts @ counts.T / np.outer(scale, scale), -1, 1)


def synchrony(spikes: SpikeTimes, width: float) -> float:
    """chi = sqrt(var(mean count) / mean(var(count))) in bins of `width` s.

    1 if all trains are one, 1 / sqrt(count) if they are independent. Over the bins of all segments.

    Source: Golomb, Rinzel 1993, Phys. Rev. E 48 (of potentials; here of counts).
    """
    counts = binned(spikes, width)
    single = counts.var(1).mean()
    return float(np.sqrt(counts.mean(0).var() / single)) if single > 0 else math.nan


class Histogram(NamedTuple):
    """Values over lags."""

    lags: np.ndarray  # s, [L]
    values: np.ndarray  # [L]


def psth(spikes: SpikeTimes, events: np.ndarray | None, before: float, after: float, width: float) -> Histogram:
    """Peri-stimulus time histogram: rate, Hz, mean over trains and events, in bins from -before to after.

    Args:
        spikes: of some trains.
        events: s, [E]; each is one in every segment in which its whole window is, and those in none are left out.
            None: the start of each segment.
        before, after: s around each event.
        width: of a bin, s.
    Raises:
        UsageError: if no event is left, or not one bin fits.
    Returns:
        Lags of the left edges of the bins, and rates.
    """
    bins = int((before + after) / width + _EDGE) if width > 0 else 0
    start, stop = np.asarray(spikes.start), np.asarray(spikes.stop)
    given = np.unique(start) if events is None else np.sort(np.asarray(events, np.float64))
    low = np.searchsorted(given, start + before - 1e-9)  # of the events in each segment, [S]
    high = np.searchsorted(given, stop - after + 1e-9, "right")
    if events is None:
        high = np.minimum(high, np.searchsorted(given, start, "right"))
    inside = int(np.maximum(high - low, 0).sum())
    if not bins or not inside:
        raise UsageError(
            f"psth needs an event with {before:g} s before and {after:g} s after it in a segment, which last up to "
            f"{spikes.durations.max():g} s, from {start.min():g} s to {stop.max():g} s, and a bin of "
            f"at most their sum; got {len(given)} events, {inside} of them inside, and bins of {width:g} s"
        )
    near = np.maximum(low[spikes.segments], np.searchsorted(given, spikes.times - after - width))
    far = np.minimum(high[spikes.segments], np.searchsorted(given, spikes.times + before + width, "right"))
    number = np.maximum(far - near, 0)  # of events around each spike, [N]
    event = np.arange(number.sum()) + np.repeat(near - (np.cumsum(number) - number), number)
    at = np.floor((np.repeat(spikes.times, number) - given[event] + before) / width + _EDGE).astype(np.int64)
    counts = np.bincount(at[(at >= 0) & (at < bins)], minlength=bins)
    return Histogram(np.arange(bins) * width - before, counts / (inside * spikes.count * width))


def cross_correlogram(spikes: SpikeTimes, one: int, other: int, width: float, longest: float) -> Histogram:
    """How many pairs of spikes of two trains lie at each lag, t_other - t_one, in bins of `width` s, up to +- longest.

    Args:
        spikes: of some trains; both spikes of a pair are in the same segment.
        one, other: numbers of the two trains; the same for an autocorrelogram, with every spike at lag 0.
        width: of a bin, s.
        longest: s, in whole bins.
    Raises:
        UsageError: if there is no such train, or no such lag.
    """
    for train in (one, other):
        if not 0 <= train < spikes.count:
            raise UsageError(f"there is no train {train}; there are {spikes.count}: 0 to {spikes.count - 1}")
    chosen = np.array([one] if one == other else [one, other])
    counts = _apart(spikes.of_trains(chosen), width, longest)
    return _correlated(counts[0], counts[-1], width, longest)


def autocorrelogram(spikes: SpikeTimes, width: float, longest: float) -> Histogram:
    """How many pairs of spikes of one train lie at each lag, summed over all trains; no spike is paired with itself."""
    counts = _apart(spikes, width, longest)
    lags = _lags(width, longest)
    total = sum((_correlated(each, each, width, longest).values for each in counts), np.zeros(len(lags)))
    total[lags == 0] -= counts.sum()
    return Histogram(lags * width, total)


def _lags(width: float, longest: float) -> np.ndarray:
    """In bins."""
    most = round(longest / width)
    return np.arange(-most, most + 1)


def _apart(spikes: SpikeTimes, width: float, longest: float) -> np.ndarray:
    """`binned` with so many empty bins between two segments that no lag reaches across, [count, ...]."""
    bins, most = _bins(spikes, width), round(longest / width)
    if not 0 <= most < bins.max():
        raise UsageError(
            f"longest = {longest:g} s must be less than the {bins.max() * width:g} s that were recorded in one piece"
        )
    places = np.arange(bins.sum()) + np.repeat(np.arange(len(bins)) * most, bins)
    counts = np.zeros((spikes.count, int(places[-1]) + 1), np.int64)
    counts[:, places] = binned(spikes, width)
    return counts


def _correlated(one: np.ndarray, other: np.ndarray, width: float, longest: float) -> Histogram:
    """sum_t one[t] other[t + lag] of counts, by one Fourier transform."""
    lags, size = _lags(width, longest), 1 << (2 * len(one) - 1).bit_length()
    both = np.fft.irfft(np.conj(np.fft.rfft(one, size)) * np.fft.rfft(other, size), size)
    return Histogram(lags * width, np.round(both[lags]))
