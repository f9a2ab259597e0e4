"""How weights are distributed over the time of a free run: percentiles, and the first and last histogram.

Of every recorded `weight`, over the synapses that were recorded; those that were 0 in every row are left out: most are
absent.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run, UsageError
from neurosbd.report import COLOURS, panels, quantity_field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
BINS = 40


@dataclass(frozen=True)
class Result:
    """Every recorded weight; NaN behind the rows that one has.

    first, last: share of its synapses in each bin between `edge` and the next one.
    """

    connection: tuple[str, ...] = quantity_field("1")
    percentile: tuple[str, ...] = quantity_field("1")
    time: np.ndarray = quantity_field("s", "connection", "row")
    weight: np.ndarray = quantity_field("weight", "connection", "percentile", "row")
    edge: np.ndarray = quantity_field("weight", "connection", "bin")
    first: np.ndarray = quantity_field("1", "connection", "bin")
    last: np.ndarray = quantity_field("1", "connection", "bin")


def analyse(run: Run) -> Result:
    """Percentiles and histograms of every recorded weight.

    Raises:
        NotRecorded: if there is none.
        UsageError: if the run is no free run; analysis `weights` is that of a training.
    """
    signals = [signal for signal in run.trace.need("weight") if len(signal)]
    if not (run.config.get("definition") or {}).get("simulation"):
        raise UsageError("weights over simulated time are of free runs; those of a training are in 'weights'")
    rows = max(len(signal) for signal in signals)
    time, weight = np.full((len(signals), rows), np.nan), np.full((len(signals), len(PERCENTILES), rows), np.nan)
    edges, first, last = np.zeros((3, len(signals), BINS))
    for i, signal in enumerate(signals):
        there = _there(signal)
        time[i, : len(signal)] = signal.time
        for part, values in signal.blocks():
            weight[i, :, part] = np.percentile(values[:, there], PERCENTILES, axis=1)
        low, high = np.nanmin(weight[i]), np.nanmax(weight[i])
        bounds = np.linspace(low, high if high > low else low + 1, BINS + 1)
        edges[i] = bounds[:-1]
        first[i], last[i] = (np.histogram(signal[row][there], bounds)[0] / there.sum() for row in (0, len(signal) - 1))
    names = tuple(signal.where for signal in signals)
    return Result(names, tuple(f"{p} %" for p in PERCENTILES), time, weight, edges, first, last)


def _there(signal: Any) -> np.ndarray:
    """Which synapses were another number than 0 at some time; all, if none was."""
    moved = np.zeros(signal.shape[1], bool)
    for _, values in signal.blocks():
        moved |= (values != 0).any(0)
    return moved if moved.any() else ~moved


def figure(result: Result) -> "Figure":
    """Percentiles over time, and both histograms, of every connection."""
    drawing, axes = panels(2 * len(result.connection), columns=2)
    for i, name in enumerate(result.connection):
        over, shape, colour = axes[2 * i], axes[2 * i + 1], COLOURS[i % len(COLOURS)]
        for low, high, alpha in ((0, 6, 0.15), (1, 5, 0.25), (2, 4, 0.35)):
            between = result.weight[i, low], result.weight[i, high]
            over.fill_between(result.time[i], *between, color=colour, alpha=alpha, lw=0)
        over.plot(result.time[i], result.weight[i, 3], color=colour, lw=1.3)
        over.set(xlabel="time, s", ylabel="weight", title=f"{name}: median, 50, 90 and 100 %")
        width = float(np.diff(result.edge[i]).mean())
        shape.bar(result.edge[i], result.first[i], width, align="edge", color="0.75", label="first")
        shape.step(result.edge[i], result.last[i], where="post", color=colour, lw=1.3, label="last")
        shape.set(xlabel="weight", ylabel="share of the synapses", title=name)
        shape.legend(fontsize=7, frameon=False)
    return drawing


def caption(result: Result) -> str:
    """Median and spread of every connection, before and after."""
    parts = []
    for i, name in enumerate(result.connection):
        known = result.weight[i][:, np.isfinite(result.time[i])]
        spans = [f"{row[3]:.3g} ({row[1]:.3g} to {row[5]:.3g})" for row in (known[:, 0], known[:, -1])]
        parts.append(f"{name}: {spans[0]}, then {spans[1]}")
    return f"Median weight, and the range of 90 % of the synapses. {'; '.join(parts)}."
