"""The tables of NWB, from what was recorded: spike times per neuron, and when there was a trial."""

import math
from typing import Any

import h5py
import numpy as np

from neurosbd.files.hdf5 import Node
from neurosbd.tracefiles.series import Contents, Series, place

MOST_UNITS = 200_000  # rows of a table that people and viewers can still open
MOST_SPIKES = 20_000_000
SPIKE_BYTES = 8.01  # of a spike in the table, with its share of the index and the checksums of the chunks
TRIAL_BYTES = 110  # of a trial in its table, names of the splits included
UNIT_BYTES = 120  # of a unit: the other columns, names of populations included
Columns = dict[str, Any]  # of a table: lists or arrays by name


def units_of(file: h5py.File, contents: Contents, rows: list[int], room: float | None) -> tuple[Columns, str]:
    """Columns of the Units table: a row per neuron and place in the batch.

    Time is simulated time as the rows have it, so examples side by side in a batch share it.

    Args:
        file: open, with its rows.
        contents: of the file.
        rows: of each clock.
        room: bytes that the table may take, of at most 200,000 rows and 20 million spikes; None: as many as there are.
    Returns:
        Column name -> values, and ''; or {}, and why there is no table.
    """
    spiking = [series for series in contents.series if series.what == "spikes"]
    counts = [int(np.prod(series.columns)) for series in spiking]
    total = sum(counts)
    most = math.inf if room is None else min(MOST_SPIKES, (room - total * UNIT_BYTES) / SPIKE_BYTES)
    if total and (most < 0 or (room is not None and total > MOST_UNITS)):
        return {}, _left_out(f"{total:,} units")
    columns: Columns = {name: [] for name in ("population", "neuron", "example")}
    times, ends, intervals = [np.zeros(0)], [np.zeros(0, int)], [np.zeros((0, 2))]
    spikes = 0
    for series, count in zip(spiking, counts, strict=True):
        found = _spikes(file, series, rows[series.clock], most - spikes)
        if found is None:
            return {}, _left_out(f"{total:,} units and more than {int(most):,} spikes")
        moments, each = found
        ends.append(spikes + np.cumsum(each))
        times.append(moments)
        spikes += len(moments)
        intervals.append(np.tile(_observed(file, series, rows[series.clock], contents.dt), (count, 1)))
        for name, values in _whose(series, contents).items():
            columns[name] += values
    return {
        "id": np.arange(total),
        "spike_times": np.concatenate(times),
        "spike_times_index": np.concatenate(ends).astype(np.uint32),
        "obs_intervals": np.concatenate(intervals),
        "obs_intervals_index": np.arange(1, total + 1, dtype=np.uint32),
        **columns,
    }, ""


def _left_out(what: str) -> str:
    return (
        f"the table of units is left out: {what} are more than fit into record.limit (or than {MOST_UNITS:,} units or "
        f"{MOST_SPIKES:,} spikes, which no viewer opens). The spikes themselves are all there; `neurosbd export RUN "
        f"--to nwb FILE` writes the table however large"
    )


def trials_of(file: h5py.File, contents: Contents, rows: list[int]) -> Columns:
    """Columns of the table of trials: a row per batch of which there is a row per step; {} if there are too many.

    Training and test share one axis of time, so that no two trials overlap. A trial has one or more examples side by
    side, whose places, samples and targets are lists of its own.
    """
    found: set[tuple[float, float, str, int, int]] = set()
    for number, clock in enumerate(contents.clocks):
        if clock.per == "step" and rows[number]:
            time, step, epoch, batch = (_coordinate(file, number, name, rows[number]) for name in _WHEN)
            first = np.flatnonzero(np.diff(epoch, prepend=-1) | np.diff(batch, prepend=-1))
            starts = time[first] - step[first] * contents.dt
            stops = starts + contents.steps * contents.dt
            when = zip(starts.tolist(), stops.tolist(), epoch[first].tolist(), batch[first].tolist(), strict=True)
            found |= {(round(start, 9), round(stop, 9), clock.on, e, b) for start, stop, e, b in when}
    if len(found) > MOST_UNITS:
        return {}
    names = ("start_time", "stop_time", "split", "epoch", "batch")
    trials = sorted(found)
    values = zip(*trials, strict=True) if trials else [()] * len(names)
    columns = {"id": np.arange(len(trials)), **{n: list(v) for n, v in zip(names, values, strict=True)}}
    return columns | _shown(file, contents, rows, [trial[2:] for trial in trials])


def _shown(file: h5py.File, contents: Contents, rows: list[int], trials: list[tuple[str, int, int]]) -> Columns:
    """Places, samples and targets of the examples of every trial, one behind the other, and where those of each end."""
    known: dict[tuple[str, int, int], dict[str, np.ndarray]] = {}
    for series in contents.series:
        clock = contents.clocks[series.clock]
        if series.what == "target" and clock.per == "step":
            epoch, batch, sample = (
                _coordinate(file, series.clock, name, rows[series.clock]) for name in ("epoch", "batch", "sample")
            )
            data: Node = file[series.path]
            values = data[: rows[series.clock]]
            for row, key in enumerate(zip(epoch.tolist(), batch.tolist(), strict=True)):
                there = sample[row] >= 0
                places = np.array(clock.examples)[there]
                known.setdefault((clock.on, *key), {
                    "example": places, "sample": sample[row, there], "target": values[row, there],
                })  # fmt: skip
    each = [known.get(trial, {}) for trial in trials]
    ends = np.cumsum([len(one.get("sample", ())) for one in each], dtype=np.int64)
    width = next((one["target"].shape[1:] for one in known.values()), ())
    columns: Columns = {}
    for name, none in (("example", np.zeros(0, int)), ("sample", np.zeros(0, int)), ("target", np.zeros((0, *width)))):
        columns[name] = np.concatenate([none, *(one[name] for one in each if one)])
        columns[f"{name}_index"] = ends
    return columns


_WHEN = ("time", "step", "epoch", "batch")


def _whose(series: Series, contents: Contents) -> Columns:
    """Whose spikes the units of a series are, example after example."""
    examples, count = contents.clocks[series.clock].examples, series.columns[1]
    neurons = list(range(count) if series.items is None else series.items)
    return {
        "population": [series.name.replace(".spikes", "")] * count * len(examples),
        "neuron": neurons * len(examples),
        "example": [example for example in examples for _ in neurons],
    }


def _spikes(file: h5py.File, series: Series, rows: int, most: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Spike times of all units, unit after unit, and how many each has, read block by block; None: more than `most`."""
    data: Node = file[series.path]
    time = _coordinate(file, series.clock, "time", rows)
    units, moments = [np.zeros(0, int)], [np.zeros(0)]
    count, step = 0, data.chunks[0]
    for start in range(0, rows, step):
        when, *where = np.nonzero(data[start : min(start + step, rows)])
        units.append(np.ravel_multi_index(tuple(where), series.columns))
        moments.append(time[start + when])
        count += len(when)
        if count > most:
            return None
    unit = np.concatenate(units)
    order = np.argsort(unit, kind="stable")
    return np.concatenate(moments)[order], np.bincount(unit, minlength=int(np.prod(series.columns)))


def _coordinate(file: h5py.File, clock: int, name: str, rows: int) -> np.ndarray:
    data: Node = file[place(clock, name)]
    return data[:rows]


def _observed(file: h5py.File, series: Series, rows: int, dt: float) -> tuple[float, float]:
    time = _coordinate(file, series.clock, "time", rows)
    return (float(time[0]), float(time[-1]) + dt) if rows else (0.0, 0.0)
