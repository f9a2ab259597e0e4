"""How weights are distributed over the course of a run: percentiles, and the first and last histogram.

Of every recorded `weight`, at the rows that it has: over the epochs of a training, the time of a free run, the trials
of a protocol. Over the synapses that were recorded; those that were 0 in every row are left out: most are absent. The
histograms have 2 n^(1/3) bins for n synapses, up to 40.

Source: Lane, Online Statistics Education (the number of bins, the Rice rule).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run, UsageError
from neurosbd.report import COLOURS, RecordAxis, label_axis, panels, quantity_field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
MOST_BINS = 40


@dataclass(frozen=True)
class Result:
    """Every recorded weight; NaN behind the rows and the bins that one has.

    axis: what `progress` counts: 'epoch', 'time, s' or 'trial'.
    synapses: how many are counted.
    first, last: share of its synapses in each bin between `edge` and `edge + width`.
    """

    connection: tuple[str, ...] = quantity_field("1")
    percentile: tuple[str, ...] = quantity_field("1")
    axis: str = quantity_field("1")
    progress: np.ndarray = quantity_field("see axis", "connection", "row")
    synapses: np.ndarray = quantity_field("1", "connection")
    weight: np.ndarray = quantity_field("weight", "connection", "percentile", "row")
    width: np.ndarray = quantity_field("weight", "connection")
    edge: np.ndarray = quantity_field("weight", "connection", "bin")
    first: np.ndarray = quantity_field("1", "connection", "bin")
    last: np.ndarray = quantity_field("1", "connection", "bin")


def analyse(run: Run) -> Result:
    """Percentiles and histograms of every recorded weight.

    Raises:
        NotRecorded: if there is none.
        UsageError: if none has a row yet.
    """
    signals, axis = [signal for signal in run.trace.need("weight") if len(signal)], RecordAxis.of(run)
    if not signals:
        raise UsageError(f"{run.trace.path}: no row of weights has been written yet")
    there = [_there(signal) for signal in signals]
    bins = [min(MOST_BINS, math.ceil(2 * each.sum() ** (1 / 3))) for each in there]
    shape = len(signals), max(len(signal) for signal in signals)
    progress, weight = np.full(shape, np.nan), np.full((shape[0], len(PERCENTILES), shape[1]), np.nan)
    width, (edges, first, last) = np.zeros(len(signals)), np.full((3, len(signals), max(bins)), np.nan)
    for i, signal in enumerate(signals):
        progress[i, : len(signal)] = axis.of_rows(signal)
        for part, values in signal.blocks():
            weight[i, :, part] = np.percentile(values[:, there[i]], PERCENTILES, axis=1)
        low, high = np.nanmin(weight[i]), np.nanmax(weight[i])
        beside = 0.0 if high > low else abs(low) / 2 or 0.5  # on both sides of weights that are all the same
        bounds = np.linspace(low - beside, high + beside, bins[i] + 1)
        width[i], edges[i, : bins[i]] = bounds[1] - bounds[0], bounds[:-1]
        for shares, row in ((first, 0), (last, len(signal) - 1)):
            shares[i, : bins[i]] = np.histogram(signal[row][there[i]], bounds)[0] / there[i].sum()
    names = tuple(signal.where for signal in signals)
    counts = np.array([each.sum() for each in there])
    percentiles = tuple(f"{p} %" for p in PERCENTILES)
    return Result(names, percentiles, axis.label, progress, counts, weight, width, edges, first, last)


def _there(signal: Any) -> np.ndarray:
    """Which synapses were another number than 0 at some time; all, if none was."""
    moved = np.zeros(signal.shape[1], bool)
    for _, values in signal.blocks():
        moved |= (values != 0).any(0)
    return moved if moved.any() else ~moved


def figure(result: Result) -> "Figure":
    """Percentiles over the run, and both histograms, of every connection."""
    drawing, axes = panels(2 * len(result.connection), columns=2)
    for i, name in enumerate(result.connection):
        over, shape, colour = axes[2 * i], axes[2 * i + 1], COLOURS[i % len(COLOURS)]
        for low, high, alpha in ((0, 6, 0.15), (1, 5, 0.25), (2, 4, 0.35)):
            between = result.weight[i, low], result.weight[i, high]
            over.fill_between(result.progress[i], *between, color=colour, alpha=alpha, lw=0)
        over.plot(result.progress[i], result.weight[i, 3], color=colour, lw=1.3)
        over.set(ylabel="weight", title=f"{name}: median, 50, 90 and 100 %")
        label_axis(over, result.axis)
        known = np.isfinite(result.edge[i])
        edges = np.append(result.edge[i, known], result.edge[i, known][-1] + result.width[i])
        shape.stairs(result.first[i, known], edges, fill=True, color="0.75", label="first")
        shape.stairs(result.last[i, known], edges, color=colour, lw=1.3, label="last")
        of = "1 synapse" if result.synapses[i] == 1 else f"{result.synapses[i]:,} synapses"
        shape.set(xlabel="weight", ylabel="share of the synapses", title=f"{name}: {of}", ylim=(0, None))
        shape.legend(fontsize=7, frameon=False)
    return drawing


def caption(result: Result) -> str:
    """Median and spread of every connection, before and after."""
    parts = []
    for i, name in enumerate(result.connection):
        known = result.weight[i][:, np.isfinite(result.progress[i])]
        spans = [f"{row[3]:.3g} ({row[1]:.3g} to {row[5]:.3g})" for row in (known[:, 0], known[:, -1])]
        parts.append(f"{name}: {spans[0]}, then {spans[1]}")
    return f"Median weight, and the range of 90 % of the synapses. {'; '.join(parts)}."
