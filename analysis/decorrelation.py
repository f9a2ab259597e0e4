"""Correlation of the score with the activity of every hidden layer, over the training.

At the optimum the score s = dl/dz has mean zero given the input, so it is uncorrelated with every function of the
input, hidden activity h included: E[s h^T] = 0. For every unit i and output c

    rho_ic = cov(h_i, s_c) / sqrt(var(h_i) var(s_c))

over all recorded examples of an epoch; the figure shows the mean of |rho| over units and outputs. Activity and score
are averaged over the recorded steps of a trial before they are correlated, so that a spiking network gives one rate
per example as a rate network does (steps that are not scored only scale the mean, which rho does not see). Sums are
streamed in float64 with shifted means. Units that never change have no correlation; they are left out and counted.

Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558, figure of correlation over epochs.
Sums: Chan, Golub, LeVeque 1983, The American Statistician 37.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosbd import Run
from neurosbd.report import COLOURS, panels, quantity_field
from neurosbd.tracefiles import NotRecorded, Signal

SILENT = 0.5  # fraction of constant units that is worth a word
FALLEN = 0.9  # of the first epoch; less counts as decorrelation
STRENGTHS = np.linspace(0, 1, 51)  # edges of the histogram of |rho|
CONSTANT = 1e-6  # of its mean; a smaller deviation is rounding in float32


@dataclass(frozen=True)
class Result:
    """Epochs are counted from 1, 0 is before the training; NaN where a layer was not recorded in an epoch."""

    layer: tuple[str, ...] = quantity_field("1")
    epoch: np.ndarray = quantity_field("1", "epoch")
    correlation: np.ndarray = quantity_field("1", "layer", "epoch")  # mean |rho| over units and outputs
    independent: np.ndarray = quantity_field("1", "epoch")  # mean |rho| if score and activity were independent
    constant: np.ndarray = quantity_field("1", "layer", "epoch")  # fraction of units that never change
    samples: np.ndarray = quantity_field("1", "epoch")  # examples
    strength: np.ndarray = quantity_field("1", "strength")  # |rho|, centres of the bins below
    stage: tuple[str, ...] = quantity_field("1")  # 'first', 'last' recorded epoch
    share: np.ndarray = quantity_field("1", "layer", "stage", "strength")  # of all pairs of unit and output
    on: str = quantity_field("1")  # 'test' or 'train' examples


class Moments:
    """Running means, variances and covariances of activity [unit] and score [output]."""

    def __init__(self, units: int, outputs: int) -> None:
        self.count = 0
        self.mean_h, self.mean_s = np.zeros(units), np.zeros(outputs)
        self.hh, self.ss, self.hs = np.zeros(units), np.zeros(outputs), np.zeros((units, outputs))

    def add(self, h: np.ndarray, s: np.ndarray) -> None:
        """Take in more examples: h [example, unit], s [example, output], float64."""
        if not len(h):
            return
        with np.errstate(invalid="ignore", over="ignore"):  # activity may have exploded; rho is NaN then
            self._add(h, s)

    def _add(self, h: np.ndarray, s: np.ndarray) -> None:
        mean_h, mean_s = h.mean(0), s.mean(0)
        far_h, far_s = mean_h - self.mean_h, mean_s - self.mean_s
        near_h, near_s = h - mean_h, s - mean_s
        total = self.count + len(h)
        weight = self.count * len(h) / total
        self.hh += (near_h**2).sum(0) + weight * far_h**2
        self.ss += (near_s**2).sum(0) + weight * far_s**2
        self.hs += near_h.T @ near_s + weight * np.outer(far_h, far_s)
        self.mean_h += far_h * len(h) / total
        self.mean_s += far_s * len(h) / total
        self.count = total

    def correlation(self) -> np.ndarray:
        """rho [unit, output]; NaN where one of the two never changes."""
        with np.errstate(invalid="ignore", over="ignore"):
            return self._correlation()

    def _correlation(self) -> np.ndarray:
        h, s = (self._deviation(m2, mean) for m2, mean in ((self.hh, self.mean_h), (self.ss, self.mean_s)))
        return self.hs / max(self.count, 1) / np.outer(h, s)

    def _deviation(self, squares: np.ndarray, mean: np.ndarray) -> np.ndarray:
        deviation = np.sqrt(squares / max(self.count, 1))
        return np.where(deviation > CONSTANT * np.abs(mean), deviation, np.nan)


def independent(samples: np.ndarray) -> np.ndarray:
    """Mean |rho| of independent quantities: a shuffled rho has variance 1 / (n - 1) and is nearly normal."""
    return np.sqrt(2 / (math.pi * np.maximum(samples - 1, 1)))


def analyse(run: Run) -> Result:
    """Correlate all hidden layers with the score that was recorded beside them.

    Raises:
        NotRecorded: if the activity of hidden layers and the score were not recorded with the same filters.
    """
    pairs = _recorded(run)
    moments = [_moments(activity, score) for activity, score in pairs]
    epochs = sorted({epoch for layer in moments for epoch in layer})
    rho = [{epoch: np.abs(there.correlation()) for epoch, there in layer.items()} for layer in moments]
    correlation, constant = np.full((2, len(pairs), len(epochs)), np.nan)
    for layer, found in enumerate(rho):
        for epoch, values in found.items():
            dead = np.isnan(values).all(1)
            constant[layer, epochs.index(epoch)] = dead.mean()
            if not dead.all():
                correlation[layer, epochs.index(epoch)] = np.nanmean(values)
    samples = np.array([max(layer[e].count for layer in moments if e in layer) for e in epochs], float)
    shares = [[_share(found[at]) for at in (min(found), max(found))] for found in rho]
    return Result(
        layer=tuple(activity.where for activity, _ in pairs),
        epoch=np.array(epochs),
        correlation=correlation,
        independent=independent(samples),
        constant=constant,
        samples=samples,
        strength=(STRENGTHS[1:] + STRENGTHS[:-1]) / 2,
        stage=("first", "last"),
        share=np.array(shares),
        on=pairs[0][0].on,
    )


def _share(values: np.ndarray) -> np.ndarray:
    there = values[np.isfinite(values)]
    return np.histogram(np.minimum(there, 1), STRENGTHS)[0] / max(len(there), 1)


def _recorded(run: Run) -> list[tuple[Signal, Signal]]:
    """Activity of every hidden population and the score with the same clock, of test examples if there are any."""
    hidden = list(run.definition.population)[1:-1]
    missing: str | None = None
    for on in ("test", "train"):
        scores = {signal.clock: signal for signal in run.trace.all("score", on)}
        signals = [*run.trace.all("rate", on), *run.trace.all("spikes", on)]
        active = [signal for signal in signals if signal.where in hidden and len(signal)]
        pairs = [(signal, scores[signal.clock]) for signal in active if signal.clock in scores]
        if pairs:
            return pairs
        if active and missing is None:
            missing = "score[on=test]" if on == "test" else "score"
    spec = missing or ("*.spikes[on=test]" if run.definition.time.steps > 1 else "*.rate[on=test]")
    raise NotRecorded(
        f"{run.trace.path}: needs the activity of hidden populations (rate, or spikes) and the score, recorded with "
        f'the same filters (on, every, examples); run again with --record "*.rate[on=test]" or --record '
        f'"*.spikes[on=test]", and --record "score[on=test]"',
        spec,
    )


def _moments(activity: Signal, score: Signal) -> dict[int, Moments]:
    """Co-moments of all recorded trials, epoch by epoch."""
    found: dict[int, Moments] = {}
    epochs, samples = activity.epoch, activity.sample
    for rows, h, s in _together(activity, score):
        there = samples[rows.start] >= 0
        epoch = int(epochs[rows.start])
        found.setdefault(epoch, Moments(h.shape[1], s.shape[1])).add(h[there], s[there])
    return found


def _together(activity: Signal, score: Signal) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Trial by trial the means over its steps: (rows, activity [example, unit], score [example, output])."""
    for (rows, h), (_, s) in zip(activity.trials(), score.trials(), strict=True):
        yield rows, h.mean(0, dtype=np.float64), s.mean(0, dtype=np.float64)


def figure(result: Result) -> Any:
    """Mean |rho| against the epoch, and the share of pairs above any |rho| in the first and the last one."""
    drawn, (course, spread) = panels(2, width=4.2, height=3.0)
    for number, layer in enumerate(result.layer):
        colour = COLOURS[number % len(COLOURS)]
        course.plot(
            result.epoch, result.correlation[number], ".-", markersize=4, linewidth=1.6, color=colour, label=layer
        )
        for stage, style in zip(result.share[number], (":", "-"), strict=True):
            above = 1 - np.concatenate([[0], np.cumsum(stage)])
            spread.plot(STRENGTHS, 100 * above, style, color=colour, linewidth=1.6)
    course.plot(result.epoch, result.independent, "--", color="0.5", linewidth=1, label="if independent")
    low, high = (
        f(np.append(result.correlation[np.isfinite(result.correlation)], result.independent)) for f in (min, max)
    )
    if high > 10 * low:
        course.set_yscale("log")
        course.tick_params(which="minor", labelsize=7)
    else:
        course.set_ylim(0, 1.08 * high)
    course.set(title="Score against activity", xlabel="epoch", ylabel=f"mean |correlation|, {result.on} examples")
    course.locator_params(axis="x", integer=True)
    drawn.legend(*course.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    spread.plot([], [], ":", color="0.3", label=f"epoch {result.epoch[0]}")
    spread.plot([], [], "-", color="0.3", label=f"epoch {result.epoch[-1]}")
    spread.set(title="All pairs of unit and output", xlabel="|correlation|", ylabel="pairs above it (%)")
    seen = np.flatnonzero((result.share > 1e-3).any((0, 1)))
    spread.set(xlim=(0, STRENGTHS[seen[-1] + 1] if len(seen) else 1), ylim=(0, 100))
    spread.legend(frameon=False, fontsize=8)
    return drawn


def caption(result: Result) -> str:
    """How far |rho| moved in every layer, against its level for independent quantities."""
    moves = [
        f"{layer} {values[0]:.3f} to {values[-1]:.3f}"
        for layer, values in zip(result.layer, map(_finite, result.correlation), strict=True)
        if len(values)
    ]
    left = [
        f"{layer} {share[-1]:.0%}" for layer, share in zip(result.layer, map(_finite, result.constant), strict=True)
    ]
    return (
        f"Mean |correlation| between the {result.samples[-1]:,.0f} scores and the activity of every unit, from epoch "
        f"{result.epoch[0]} to {result.epoch[-1]}: {', '.join(moves)}; independent quantities would show "
        f"about {result.independent[-1]:.3f}. At the optimum the score is uncorrelated with every function of the "
        f"input; units that never change are left out (in the last epoch {', '.join(left)})."
    )


def advice(result: Result) -> list[str]:
    """Layers whose activity is as correlated with the score as in the beginning, or constant."""
    return [
        text
        for number in range(len(result.layer))
        for text in (_stuck(result, number), _constant(result, number))
        if text
    ]


def _stuck(result: Result, number: int) -> str | None:
    values = _finite(result.correlation[number])
    if len(values) < 2 or values[-1] < FALLEN * values[0] or values[-1] < 2 * result.independent[-1]:
        return None
    return (
        f"population '{result.layer[number]}': its mean |correlation| with the score did not fall ({values[0]:.3f} in "
        f"the first recorded epoch, {values[-1]:.3f} in the last; independent: {result.independent[-1]:.3f}), so its "
        f"activity still tells what the output gets wrong; try more epochs, a faster output layer (training.rates), or "
        f"rule = 'sbd'"
    )


def _constant(result: Result, number: int) -> str | None:
    values = _finite(result.constant[number])
    if not len(values) or values[-1] <= SILENT:
        return None
    return (
        f"population '{result.layer[number]}': {values[-1]:.0%} of its units never change over "
        f"{result.samples[-1]:,.0f} examples and have no correlation; try a lower learning rate for it, a "
        f"bias, or more drive at the start"
    )


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]
