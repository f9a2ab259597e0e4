"""The spikes of several trains, as they are counted and analysed."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from neurosbd.errors import UsageError

if TYPE_CHECKING:
    from neurosbd.tracefiles import Signal

_AT_ONCE = 16 << 20  # values that are read at once
_ROUNDING = 1e-9  # s, by which a spike at the start of a segment may be before it


@dataclass(frozen=True)
class SpikeTimes:
    """The spikes of several trains, in one or several segments of time.

    A segment is a piece of time whose end says nothing of the beginning of the next one: a trial, or an example that
    was shown beside others. Two segments may be of the same time; every train is in all of them.

    Args:
        times: of all spikes, s, [N], in any order.
        trains: which train each is of, 0 <= train < count, [N].
        count: of trains, those without a spike too.
        start, stop: of every segment, s, [S] each, or two numbers: of the only one; spikes are in start <= t < stop.
        segments: which segment each spike is in, 0 <= segment < S, [N]; None: in the only one.
    Raises:
        UsageError: if they do not belong together.

    >>> SpikeTimes(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 0]), 2, 0.0, 1.0).counts
    array([2, 1])
    >>> two = SpikeTimes(np.array([0.1, 0.4, 1.1]), np.zeros(3, int), 1, [0.0, 1.0], [1.0, 2.0], np.array([0, 0, 1]))
    >>> two.since.round(3)  # from the start of its segment
    array([0.1, 0.4, 0.1])
    """

    times: np.ndarray
    trains: np.ndarray
    count: int
    start: ArrayLike
    stop: ArrayLike
    segments: np.ndarray | None = None

    def __post_init__(self) -> None:
        times, trains = np.asarray(self.times, np.float64), np.asarray(self.trains)
        start, stop = (np.atleast_1d(np.asarray(ends, np.float64)) for ends in (self.start, self.stop))
        segments = np.zeros(len(trains), np.int64) if self.segments is None else np.asarray(self.segments)
        for what, numbers in (("train", trains), ("segment", segments)):
            if times.ndim != 1 or times.shape != numbers.shape or numbers.dtype.kind not in "iu":
                raise UsageError(
                    f"spike times need a time and a whole number of a {what} each, [N], got {times.dtype} "
                    f"{list(times.shape)} and {numbers.dtype} {list(numbers.shape)}"
                )
        if self.segments is None and len(start) > 1:
            raise UsageError(f"there are {len(start)} segments; give `segments`, the number of that of each spike")
        _check_numbers("trains", trains, self.count)
        _check_numbers("segments", segments, len(start))
        _check_times(times, segments, start, stop)
        order = np.lexsort((times, segments, trains))
        ordered = {"times": times, "trains": trains.astype(np.int64), "segments": segments.astype(np.int64)}
        for name, values in ordered.items():
            object.__setattr__(self, name, values[order])
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "stop", stop)

    @classmethod
    def of(
        cls, signal: "Signal", start: float | None = None, stop: float | None = None, epoch: int | None = None
    ) -> "SpikeTimes":
        """The recorded spikes of a population, `run.trace["exc.spikes"]`, a train for every neuron.

        Each example of each trial is a segment; of a free run, whose reports are no breaks, each example.

        Args:
            signal: recorded at every step.
            start, stop: s of the run, between which they are taken; None: from its first, to its last step.
            epoch: whose trials are taken; None: of all.
        Raises:
            UsageError: if it holds no spikes, or a segment has gaps, in which nobody knows what happened.
        """
        if signal.what != "spikes" or not len(signal):
            raise UsageError(f"{signal.name}: is no recording of spikes with a row; record 'POPULATION.spikes'")
        time, dt = signal.time, signal.trace.dt
        taken = (time >= (time[0] if start is None else start) - dt / 2) & (time < (stop or np.inf))
        rows = np.flatnonzero(taken if epoch is None else taken & (signal.epoch == epoch))
        if not len(rows):
            raise UsageError(
                f"{signal.name}: has no row in {start} to {stop} s{'' if epoch is None else f' of epoch {epoch}'}; it "
                f"has {time[0]:g} to {time[-1]:g} s, epochs {signal.epoch[0]} to {signal.epoch[-1]}"
            )
        first, last = int(rows[0]), int(rows[-1]) + 1
        begins = signal.begins[first:last]
        begins[0] = True
        gap = np.abs(np.diff(time[first:last]) - dt)[~begins[1:]].max(initial=0.0)
        if gap > dt / 2 or signal.clock.steps > 1:
            raise UsageError(
                f"{signal.name}: its rows are not {dt:g} s from one to the next, so that intervals and rates are not "
                f"known; record every step, or give start and stop of a time without a gap"
            )
        starts = np.flatnonzero(begins) + first
        stops = np.append(starts[1:], last) - 1
        shown = signal.sample[starts] >= 0  # [trial, example]
        number = np.where(shown, np.cumsum(shown).reshape(shown.shape) - 1, -1)[np.cumsum(begins) - 1]
        steps, trains, segments = _events(signal, first, number)
        trial = np.nonzero(shown)[0]
        return cls(time[steps], trains, signal.shape[-1], time[starts][trial], time[stops][trial] + dt, segments)

    @property
    def durations(self) -> np.ndarray:
        """Of each segment, s, [S]."""
        return np.asarray(self.stop) - np.asarray(self.start)

    @property
    def duration(self) -> float:
        """Of all segments together, s."""
        return float(self.durations.sum())

    @property
    def counts(self) -> np.ndarray:
        """Spikes of each train, [count]."""
        return np.bincount(self.trains, minlength=self.count)

    @property
    def since(self) -> np.ndarray:
        """When each spike was, s from the start of its segment, [N]."""
        return self.times - np.asarray(self.start)[self.segments]

    def of_trains(self, chosen: np.ndarray) -> "SpikeTimes":
        """Some of the trains, by their numbers, in the same segments."""
        places = np.full(self.count, -1)
        places[chosen] = np.arange(len(chosen))
        kept = places[self.trains] >= 0
        segments = np.asarray(self.segments)[kept]
        return SpikeTimes(self.times[kept], places[self.trains][kept], len(chosen), self.start, self.stop, segments)

    def __repr__(self) -> str:
        start, stop = np.asarray(self.start), np.asarray(self.stop)
        many = f" in {len(start):,} segments" if len(start) > 1 else ""
        return (
            f"<SpikeTimes {len(self.times):,} spikes of {self.count:,} trains{many}, {start.min():g} to "
            f"{stop.max():g} s>"
        )


def _check_numbers(what: str, numbers: np.ndarray, count: int) -> None:
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < count:
        raise UsageError(
            f"{what} are numbered {numbers.min()} to {numbers.max()}, but there are {count}: 0 to {count - 1}"
        )


def _check_times(times: np.ndarray, segments: np.ndarray, start: np.ndarray, stop: np.ndarray) -> None:
    if start.shape != stop.shape or start.ndim != 1 or not len(start):
        raise UsageError(
            f"spike times need as many starts as stops of segments, [S], got {list(start.shape)} and {list(stop.shape)}"
        )
    wrong = np.flatnonzero(~(start < stop))
    if len(wrong):
        raise UsageError(f"spike times need start < stop, got {start[wrong[0]]:g} s and {stop[wrong[0]]:g} s")
    outside = np.flatnonzero((times < start[segments] - _ROUNDING) | (times >= stop[segments]))
    if len(outside):
        within = segments[outside[0]]
        raise UsageError(
            f"a spike is at {times[outside[0]]:g} s, but start = {start[within]:g} s and stop = {stop[within]:g} s of "
            f"its segment; a spike must be in start <= t < stop"
        )


def _events(signal: "Signal", first: int, number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, neuron and segment of every spike; `number` of the segment by row from `first` on and example, -1: none."""
    found, length = [], max(1, _AT_ONCE // max(1, math.prod(signal.shape[1:])))
    for begin in range(0, len(number), length):
        end = min(begin + length, len(number))
        step, example, train = np.nonzero(signal[first + begin : first + end])
        segment = number[begin:end][step, example]
        found.append(np.stack((step + first + begin, train, segment))[:, segment >= 0])
    steps, trains, segments = np.concatenate(found, axis=1)
    return steps, trains, segments
