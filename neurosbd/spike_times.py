"""The spikes of several trains, as they are counted and analysed."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurosbd.errors import UsageError

if TYPE_CHECKING:
    from neurosbd.tracefiles import Signal


@dataclass(frozen=True)
class SpikeTimes:
    """The spikes of several trains.

    Args:
        times: of all spikes, s, [N], in any order.
        trains: which train each is of, 0 <= train < count, [N].
        count: of trains, those without a spike too.
        start, stop: s; spikes are in start <= t < stop.
    Raises:
        UsageError: if they do not belong together.

    >>> SpikeTimes(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 0]), 2, 0.0, 1.0).counts
    array([2, 1])
    """

    times: np.ndarray
    trains: np.ndarray
    count: int
    start: float
    stop: float

    def __post_init__(self) -> None:
        times, trains = np.asarray(self.times, np.float64), np.asarray(self.trains)
        if times.ndim != 1 or times.shape != trains.shape or trains.dtype.kind not in "iu":
            raise UsageError(
                f"spike times need a time and a whole number of a train each, [N], got {times.dtype} "
                f"{list(times.shape)} and {trains.dtype} {list(trains.shape)}"
            )
        if not self.start < self.stop:
            raise UsageError(f"spike times need start < stop, got {self.start:g} s and {self.stop:g} s")
        if len(times) and not (self.start <= times.min() and times.max() < self.stop):
            raise UsageError(
                f"spikes are at {times.min():g} to {times.max():g} s, but start = {self.start:g} s and stop = "
                f"{self.stop:g} s; a spike must be in start <= t < stop"
            )
        if len(trains) and not 0 <= trains.min() <= trains.max() < self.count:
            raise UsageError(
                f"trains are numbered {trains.min()} to {trains.max()}, but there are {self.count}: 0 to "
                f"{self.count - 1}"
            )
        order = np.lexsort((times, trains))
        object.__setattr__(self, "times", times[order])
        object.__setattr__(self, "trains", trains[order].astype(np.int64))

    @classmethod
    def of(cls, signal: "Signal", start: float | None = None, stop: float | None = None) -> "SpikeTimes":
        """The recorded spikes of a population, `run.trace["exc.spikes"]`, a train for every example and neuron.

        Args:
            signal: of a free run, or of steps that follow one another.
            start, stop: s of the run, between which they are taken; None: from its first, to its last step.
        Raises:
            UsageError: if it holds no spikes, or its steps have gaps, in which nobody knows what happened.
        """
        if signal.what != "spikes" or not len(signal):
            raise UsageError(f"{signal.name}: is no recording of spikes with a row; record 'POPULATION.spikes'")
        time, dt = signal.time, signal.trace.dt
        rows = np.flatnonzero((time >= (time[0] if start is None else start) - dt / 2) & (time < (stop or np.inf)))
        if not len(rows):
            raise UsageError(f"{signal.name}: has no row in {start} to {stop} s; it has {time[0]:g} to {time[-1]:g} s")
        if np.abs(np.diff(time[rows]) - dt).max(initial=0.0) > dt / 2:
            raise UsageError(
                f"{signal.name}: its rows are not {dt:g} s from one to the next, so that intervals and rates are not "
                f"known; record every step, or give start and stop of one trial"
            )
        found, width = [], math.prod(signal.shape[1:])
        first, last = int(rows[0]), int(rows[-1]) + 1
        length = max(1, (16 << 20) // max(1, width))
        for begin in range(first, last, length):
            step, train = np.nonzero(signal[begin : min(begin + length, last)].reshape(-1, width))
            found.append((begin + step, train))
        steps, trains = (np.concatenate(part) for part in zip(*found, strict=True))
        return cls(time[steps], trains, width, float(time[first]), float(time[last - 1]) + dt)

    @property
    def duration(self) -> float:
        """Between start and stop, s."""
        return self.stop - self.start

    @property
    def counts(self) -> np.ndarray:
        """Spikes of each train, [count]."""
        return np.bincount(self.trains, minlength=self.count)

    def __repr__(self) -> str:
        return f"<SpikeTimes {len(self.times):,} spikes of {self.count:,} trains, {self.start:g} to {self.stop:g} s>"
