"""Effective dimension of the activity of every layer over training.

The participation ratio of the covariance C of the activity over examples says along how many directions it varies:

    PR = (tr C)^2 / tr(C^2)

It is 1 if all units move together and the number of units if they are independent and equally strong. The steps of a
trial are averaged first, so spikes count as rates. With n examples and v = n - 1, PR is too small (it cannot exceed v,
and 1/PR grows by about 1/n); the corrected value divides unbiased estimates of its numerator and denominator:

    PR' = ((v + 1) (tr C)^2 - 2 tr(C^2)) / (v tr(C^2) - (tr C)^2)

Source: Gao et al. 2017, bioRxiv 214262 (participation ratio of neural activity); Srivastava 2005, J. Japan Statist.
Soc. 35:251 (unbiased traces of a covariance, exact for Gaussian data).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurosbd import Run, UsageError
from neurosbd.report import RecordAxis, epochs, label_axis, panels, place_in_words, quantity_field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_UNITS = 2048  # of a layer; more are thinned out evenly, since C has their square
RELIABLE = 2.0  # corrected over plain PR above which more examples are needed
COLLAPSED = 2.0  # dimensions


@dataclass(frozen=True)
class Result:
    """Dimensions of every recorded layer; NaN at stages in which a layer was not recorded or did not vary.

    axis: what `progress` counts: 'epoch', 'time, s' or 'trial', at the end of each stage: of an epoch, of what lies
        between two reports of a free run, of the whole of a protocol.
    layer: names of the recorded signals, '@test' behind those of test batches.
    """

    layer: tuple[str, ...] = quantity_field("1")
    axis: str = quantity_field("1")
    progress: np.ndarray = quantity_field("see axis", "progress")
    participation_ratio: np.ndarray = quantity_field("dimensions", "layer", "progress")
    corrected: np.ndarray = quantity_field("dimensions", "layer", "progress")
    share: np.ndarray = quantity_field("dimensions per unit", "layer", "progress")
    examples: np.ndarray = quantity_field("1", "layer", "progress")
    units: np.ndarray = quantity_field("1", "layer")
    taught: bool = quantity_field("1")  # whether it is a training


class Moments:
    """Mean and covariance of examples that come piece by piece, in float64.

    Pieces are merged by Chan, Golub, LeVeque 1983, so that a large mean costs no digits.
    """

    def __init__(self, units: int) -> None:
        self.count = 0
        self.mean = np.zeros(units)
        self.scatter = np.zeros((units, units))  # sum over examples of (x - mean)(x - mean)^T

    def add(self, x: np.ndarray) -> None:
        """Take in examples [n, units]."""
        if not len(x):
            return
        x = x.astype(np.float64)
        mean, total = x.mean(0), self.count + len(x)
        shift = mean - self.mean
        x -= mean
        self.scatter += x.T @ x
        self.scatter += np.outer(shift, shift) * (self.count * len(x) / total)
        self.mean += shift * (len(x) / total)
        self.count = total

    def dimensions(self) -> tuple[float, float]:
        """Participation ratio, plain and corrected for few examples; NaN without variance or examples."""
        v = self.count - 1
        trace, square = float(np.trace(self.scatter)), float(np.sum(self.scatter**2))
        if v < 2 or square <= 0:
            return np.nan, np.nan
        plain = trace**2 / square
        below = v * square - trace**2
        return plain, ((v + 1) * trace**2 - 2 * square) / below if below > 0 else np.nan


def analyse(run: Run) -> Result:
    """Dimensions of every layer whose `rate` or `spikes` were recorded, per stage; of test batches, if there are.

    Raises:
        NotRecorded: if neither was.
        UsageError: of a free run with fewer than 3 examples, which have no covariance.
    """
    signals = run.trace.need("rate", "spikes")
    if run.config["definition"].get("simulation") and max(signal.shape[1] for signal in signals) < 3:
        raise UsageError("compares examples, of which a free run has one or two; set simulation.examples to 3 or more")
    tested = {signal.where for signal in signals if signal.on == "test"}
    signals = [signal for signal in signals if signal.on == "test" or signal.where not in tested]
    axis = RecordAxis.of(run)
    stages = np.unique(np.concatenate([epochs(signal) for signal in signals]))
    table = np.full((4, len(signals), len(stages)), np.nan)
    units = []
    for i, signal in enumerate(signals):
        chosen = _thinned(signal.shape[-1])
        units.append(len(chosen))
        for j, stage in enumerate(stages):
            moments = Moments(len(chosen))
            for rows, values in signal.trials(int(stage)):
                there = signal.sample[rows.start] >= 0
                moments.add(values[:, there][..., chosen].mean(0))
            ratio, unbiased = moments.dimensions()
            table[:, i, j] = ratio, unbiased, ratio / len(chosen), moments.count
    layer = tuple(f"{s.where}{'@test' if s.on == 'test' else ''}" for s in signals)
    plain, corrected, share, examples = table
    return Result(
        layer,
        axis.label,
        axis.ends(stages, epochs, signals),
        plain,
        corrected,
        share,
        examples,
        np.array(units),
        not run.config["definition"].get("simulation"),
    )


def _thinned(units: int) -> np.ndarray:
    return np.unique(np.linspace(0, units - 1, min(units, MOST_UNITS)).round().astype(int))


def figure(result: Result) -> "Figure":
    """Dimensions over the run, and the same per unit."""
    drawing, (left, right) = panels(2, width=4.2, height=3.0)
    for i, layer in enumerate(result.layer):
        (line,) = left.plot(
            result.progress, result.participation_ratio[i], "o-", ms=3, label=f"{layer} ({result.units[i]} units)"
        )
        left.plot(result.progress, result.corrected[i], ":", color=line.get_color())
        right.plot(result.progress, result.share[i], "o-", ms=3, color=line.get_color())
    left.plot([], [], "k:", label="corrected for few examples")
    left.set(ylabel="participation ratio, dimensions", ylim=(0, None), title="effective dimension")
    right.set(ylabel="dimensions per unit", ylim=(0, None), title="relative to the number of units")
    drawing.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    for ax in (left, right):
        label_axis(ax, result.axis)
    return drawing


def caption(result: Result) -> str:
    """First and last dimension of every layer, and how many examples they rest on."""
    changes = [
        f"{layer} {np.round(known[0], 1):g} to {np.round(known[-1], 1):g} of {units}"
        for layer, row, units in zip(result.layer, result.participation_ratio, result.units, strict=True)
        if len(known := row[np.isfinite(row)])
    ]
    counted = result.examples[result.examples > 0]
    few = f"{counted.min():.0f}" + (f" to {counted.max():.0f}" if counted.max() > counted.min() else "")
    first, last = (place_in_words(result.axis, place) for place in result.progress[[0, -1]])
    when = f"from {first} to {last}" if first != last else f"up to {last}"
    return (
        f"Participation ratio of the activity over {few} examples each, {when}: "
        f"{'; '.join(changes) or 'no layer varied'}. Dotted: corrected for the bias of few examples, which makes the "
        f"plain value too small."
    )


def advice(result: Result) -> list[str]:
    """Layers that collapsed, and dimensions that rest on too few examples."""
    found = []
    for i, layer in enumerate(result.layer):
        known = np.flatnonzero(np.isfinite(result.participation_ratio[i]))
        if not len(known):
            found.append(f"{layer}: its activity did not vary between examples, or fewer than 3 were recorded.")
            continue
        last, corrected = result.participation_ratio[i, known[-1]], result.corrected[i, known[-1]]
        if last < COLLAPSED and result.units[i] >= 10 and result.examples[i, known[-1]] >= 10:
            remedy = "a smaller learning rate, a larger rule.neuromodulator.scale, or several score channels"
            found.append(
                f"{layer}: its activity collapsed onto {last:.1f} of {result.units[i]} dimensions"
                f"{f'; try {remedy}' if result.taught else ''}."
            )
        if not corrected < RELIABLE * last:
            found.append(
                f"{layer}: its dimension rests on {result.examples[i, known[-1]]:.0f} examples and is underestimated; "
                f"record more of them (a larger examples= filter)."
            )
    return found
