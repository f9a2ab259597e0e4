"""Health of every layer over a run: silent, saturated and exploding units, rates, irregularity, synchrony.

Per layer and stage of the run (an epoch of a training, what lies between two reports of a free run, a trial of a
protocol), over all recorded examples (test examples where there are any):

    magnitude   mean |activity| of a rate layer
    silent      units (of a map: channels) that are 0 in every row of the stage
    saturated   of a rate layer, units whose mean gain is below 1 % of the largest mean gain ever seen in the layer
                (needs `gain`); of a spiking layer, units that fire in at least 90 % of the steps
    exploding   units of a rate layer whose mean |activity| exceeds 10 times the layer's mean in the first stage
    rate        spikes per second of simulated time, from the recorded steps alone if there is a stride
    cv          standard deviation / mean of a unit's inter-spike intervals, pooled over the trials of the stage, then
                the mean over units with at least 10 intervals: 0 for a clock, 1 for Poisson, sqrt(1 - p) for a coin
                with probability p per step. Intervals end with the trial, so trials should be much longer than they
                are; examples that drive a unit differently add to it. Not known with a stride over steps.
    synchrony   chi = sqrt( var_t(mean_i s_i) / mean_i var_t(s_i) ) within a trial, both sides averaged over trials and
                examples: 1 if all units of the layer fire in the same steps, 1 / sqrt(units) if they are independent

Source: chi: Golomb, Rinzel 1994, Physica D 72 (differs: on spikes per step, not on potentials); cv: Softky, Koch 1993,
J. Neurosci. 13. Exploding activity under fixed feedback: this project, `neurosbd.training.health`.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurosbd import Run
from neurosbd.report import COLOURS, RecordAxis, label_axis, panels, place_in_words, quantity_field
from neurosbd.tracefiles import NotRecorded, Signal

SATURATED_GAIN = 0.01  # of the largest
SATURATED_RATE = 0.9  # spikes per step
EXPLODING = 10.0  # times the layer's mean in the first stage
INTERVALS = 10  # that a unit needs for a cv
BINS = 25  # of the histogram of rates
MANY, SOME = 0.5, 0.2  # fractions of units that are worth a word
LOUD, GROWN, TOGETHER = 1e3, 3.0, 0.5  # likewise |activity|, its growth, synchrony


@dataclass(frozen=True)
class Result:
    """NaN where a layer has no such thing or no record of it.

    axis: what `progress` counts: 'epoch', 'time, s' or 'trial', at the end of each stage; 0 is before the training.
    """

    layer: tuple[str, ...] = quantity_field("1")
    axis: str = quantity_field("1")
    progress: np.ndarray = quantity_field("see axis", "progress")
    spiking: np.ndarray = quantity_field("1", "layer")  # 1: spikes, 0: rates
    plastic: np.ndarray = quantity_field("1", "layer")  # 1: synapses onto it learn, 0: none does
    magnitude: np.ndarray = quantity_field("1", "layer", "progress")
    rate: np.ndarray = quantity_field("Hz", "layer", "progress")
    silent: np.ndarray = quantity_field("1", "layer", "progress")  # fraction of units or channels
    saturated: np.ndarray = quantity_field("1", "layer", "progress")
    exploding: np.ndarray = quantity_field("1", "layer", "progress")
    cv: np.ndarray = quantity_field("1", "layer", "progress")
    synchrony: np.ndarray = quantity_field("1", "layer", "progress")
    independent: np.ndarray = quantity_field("1", "layer")  # synchrony of as many independent units
    bin_rate: np.ndarray = quantity_field("Hz", "bin_rate")  # centres
    share: np.ndarray = quantity_field("1", "layer", "bin_rate")  # of the units, in the last stage


@dataclass
class _Stage:
    """Sums over one stage of one layer."""

    units: int
    steps: int = 0  # examples times recorded steps
    total: np.ndarray = field(init=False)  # sum of |activity| or spikes per unit
    intervals: np.ndarray = field(init=False)  # their number, sum and sum of squares per unit
    together: float = 0.0  # sum of var_t of the mean over units
    alone: float = 0.0  # sum of the mean over units of var_t

    def __post_init__(self) -> None:
        self.total, self.intervals = np.zeros(self.units), np.zeros((3, self.units))

    @property
    def mean(self) -> np.ndarray:
        """Mean |activity|, or spikes per step, of every unit."""
        return self.total / self.steps if self.steps else np.full(self.units, np.nan)

    def add(self, values: np.ndarray) -> None:
        """Take in a trial [step, example, unit]."""
        self.steps += values.shape[0] * values.shape[1]
        self.total += np.abs(values).sum((0, 1), dtype=np.float64)

    def add_spikes(self, spikes: np.ndarray, step: np.ndarray) -> None:
        """Take in a trial [step, example, unit] of spikes and the steps it was recorded at."""
        self.add(spikes)
        chance = spikes.mean(0, dtype=np.float64)
        self.alone += (chance - chance**2).mean(1).sum()
        self.together += spikes.mean(2, dtype=np.float64).var(0).sum()
        example, unit, at = np.nonzero(spikes.transpose(1, 2, 0))
        neighbours = (np.diff(example) == 0) & (np.diff(unit) == 0)
        interval, unit = np.diff(step[at])[neighbours].astype(float), unit[1:][neighbours]
        for row, weight in zip(self.intervals, (None, interval, interval**2), strict=True):
            row += np.bincount(unit, weight, self.units)

    def cv(self) -> float:
        """Mean over units of the coefficient of variation of their intervals."""
        count, first, second = self.intervals[:, self.intervals[0] >= INTERVALS]
        if not len(count):
            return float("nan")
        mean = first / count
        return float((np.sqrt(np.maximum(second / count - mean**2, 0)) / mean).mean())

    def synchrony(self) -> float:
        """chi."""
        return math.sqrt(self.together / self.alone) if self.alone > 0 else float("nan")


def analyse(run: Run) -> Result:
    """Go through the recorded layers once.

    Raises:
        NotRecorded: if neither spikes nor rates of a hidden layer were recorded.
    """
    signals = _recorded(run)
    axis = RecordAxis.of(run)
    sums = [_sums(signal, axis) for signal in signals]
    stages = sorted({stage for layer in sums for stage in layer})
    table = {name: np.full((len(signals), len(stages)), np.nan) for name in _MEASURES}
    for number, (signal, layer) in enumerate(zip(signals, sums, strict=True)):
        gains = _gains(run, signal, axis)
        for stage, there in layer.items():
            found = _measures(signal, there, layer[min(layer)], gains.get(stage))
            for name, value in found.items():
                table[name][number, stages.index(stage)] = value
    bin_rate, share = _histogram(signals, sums, run.trace.dt)
    learning = {connection.post for connection in run.definition.connection if connection.plastic}
    return Result(
        layer=tuple(signal.where for signal in signals),
        axis=axis.label,
        progress=axis.ends(np.array(stages), axis.stages, signals),
        spiking=np.array([float(_spikes(signal)) for signal in signals]),
        plastic=np.array([float(signal.where in learning) for signal in signals]),
        independent=np.array([1 / math.sqrt(signal.shape[-1]) if _spikes(signal) else np.nan for signal in signals]),
        bin_rate=bin_rate,
        share=share,
        **table,
    )


_MEASURES = ("magnitude", "rate", "silent", "saturated", "exploding", "cv", "synchrony")


def _recorded(run: Run) -> list[Signal]:
    """Spikes of all, rates of hidden populations; of test examples where there are both."""
    hidden = list(run.definition.population)[1:-1]
    rates = [signal for signal in run.trace.all("rate") if signal.where in hidden]
    chosen: dict[str, Signal] = {}
    for signal in (s for s in [*rates, *run.trace.all("spikes")] if len(s)):
        if signal.where not in chosen or signal.on == "test":
            chosen[signal.where] = signal
    if not chosen:
        spec = "*.spikes[on=test]" if run.definition.time.steps > 1 else "*.rate[on=test]"
        raise NotRecorded(
            f"{run.trace.path}: needs the spikes or rates of hidden populations, which were not recorded; run again "
            f'with --record "{spec}"',
            spec,
        )
    return list(chosen.values())


def _spikes(signal: Signal) -> bool:
    return signal.what == "spikes"


def _sums(signal: Signal, axis: RecordAxis) -> dict[int, _Stage]:
    """Sums of all recorded trials, stage by stage."""
    found: dict[int, _Stage] = {}
    stages, samples, steps = axis.stages(signal), signal.sample, signal.step
    for rows, values in signal.trials():
        there = found.setdefault(int(stages[rows.start]), _Stage(signal.shape[-1]))
        shown = values[:, samples[rows.start] >= 0]
        if _spikes(signal):
            there.add_spikes(shown, steps[rows])
        else:
            there.add(shown)
    return found


def _gains(run: Run, signal: Signal, axis: RecordAxis) -> dict[int, np.ndarray]:
    """Mean gain of the same units, relative to the largest, stage by stage; {} if it was not recorded or all 0."""
    same = [
        g for g in run.trace.all("gain", signal.on) if g.where == signal.where and np.array_equal(g.items, signal.items)
    ]
    means = {stage: there.mean for stage, there in _sums(same[0], axis).items()} if same else {}
    largest = max((mean.max() for mean in means.values()), default=0.0)
    return {stage: mean / largest for stage, mean in means.items()} if largest > 0 else {}


def _measures(signal: Signal, there: _Stage, first: _Stage, gain: np.ndarray | None) -> dict[str, float]:
    """What is known of a layer in a stage; gain [unit] relative to the largest of the layer."""
    mean = there.mean
    found = {"silent": float(_channels(signal, mean == 0).mean())}
    if _spikes(signal):
        return found | {
            "rate": float(mean.mean()) / signal.trace.dt,
            "saturated": float((mean >= SATURATED_RATE).mean()),
            "cv": there.cv() if signal.clock.steps == 1 else float("nan"),
            "synchrony": there.synchrony(),
        }
    if gain is not None:
        found["saturated"] = float((gain < SATURATED_GAIN).mean())
    return found | {
        "magnitude": float(mean.mean()),
        "exploding": float((mean > EXPLODING * first.mean.mean()).mean()),
    }


def _channels(signal: Signal, silent: np.ndarray) -> np.ndarray:
    """Which recorded units are silent: of maps channels, at every recorded place; of vectors in every component."""
    places = math.prod(signal.size[1:])  # the first axis of a population numbers its units
    if places == 1:
        return silent
    unit = signal.items // places
    return np.array([silent[unit == one].all() for one in np.unique(unit)])


def _histogram(signals: list[Signal], sums: list[dict[int, _Stage]], dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Centres of bins, Hz, and the share of every spiking layer's units in them in its last stage."""
    rates = {n: layer[max(layer)].mean / dt for n, layer in enumerate(sums) if _spikes(signals[n])}
    if not rates:
        return np.zeros(0), np.zeros((len(signals), 0))
    edges = np.linspace(0, max(float(rate.max()) for rate in rates.values()) or 1 / dt, BINS + 1)
    share = np.full((len(signals), BINS), np.nan)
    for number, rate in rates.items():
        share[number] = np.histogram(rate, edges)[0] / len(rate)
    return (edges[1:] + edges[:-1]) / 2, share


def figure(result: Result) -> Any:
    """Activity and unhealthy units; of spiking layers also the distribution of rates, irregularity and synchrony."""
    spiking = result.spiking > 0
    drawers = [_unhealthy]
    if spiking.any():
        drawers = [_rates, *drawers, _distribution]
        drawers += [_irregularity] if np.isfinite(result.cv).any() else []  # of units with enough spikes in a trial
        drawers += [_synchrony] if np.isfinite(result.synchrony).any() else []
    if not spiking.all():
        drawers = [_magnitude, *drawers]
    drawn, axes = panels(len(drawers), width=4.2 if len(drawers) == 2 else 3.6)
    for ax, draw in zip(axes, drawers, strict=True):
        draw(ax, result)
        if draw is not _distribution:
            label_axis(ax, result.axis)
    colours = [axes[0].plot([], [], color=COLOURS[n % len(COLOURS)])[0] for n in range(len(result.layer))]
    drawn.legend(colours, result.layer, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return drawn


def _lines(ax: Any, result: Result, values: np.ndarray, style: str = ".-") -> None:
    """A line per layer that has values."""
    for number in range(len(result.layer)):
        if np.isfinite(values[number]).any():
            colour = COLOURS[number % len(COLOURS)]
            ax.plot(result.progress, values[number], style, markersize=4, linewidth=1.6, color=colour)


def _magnitude(ax: Any, result: Result) -> None:
    _lines(ax, result, result.magnitude)
    there = result.magnitude[np.isfinite(result.magnitude) & (result.magnitude > 0)]
    if len(there) and there.max() > 10 * there.min():
        ax.set_yscale("log")
        ax.tick_params(which="minor", labelsize=7)
    else:
        ax.set_ylim(0, None)
    ax.set(title="Activity", ylabel="mean |activity|")


def _rates(ax: Any, result: Result) -> None:
    _lines(ax, result, result.rate)
    ax.set(title="Firing rate", ylabel="mean rate (Hz)", ylim=(0, None))


def _unhealthy(ax: Any, result: Result) -> None:
    kinds = {
        "silent": (".-", result.silent),
        "saturated": (".--", result.saturated),
        "exploding": (".:", result.exploding),
    }
    known = {name: style for name, (style, values) in kinds.items() if np.isfinite(values).any()}
    for name, style in known.items():
        _lines(ax, result, 100 * kinds[name][1], style)
    styles = [ax.plot([], [], style.lstrip("."), color="0.3")[0] for style in known.values()]
    ax.legend(styles, list(known), frameon=False, fontsize=8)
    worst = 100 * max(float(np.nanmax(values, initial=0)) for _, values in kinds.values())
    ax.set(title="Unhealthy units", ylabel="units (%)", ylim=(-0.3, max(10, min(103, 1.3 * worst))))


def _distribution(ax: Any, result: Result) -> None:
    half = (result.bin_rate[1] - result.bin_rate[0]) / 2
    edges = np.append(result.bin_rate - half, result.bin_rate[-1] + half)
    for number, share in enumerate(result.share):
        if np.isfinite(share).any():
            ax.stairs(100 * share, edges, color=COLOURS[number % len(COLOURS)], linewidth=1.6)
    last = place_in_words(result.axis, result.progress[-1])
    ax.set(title=f"Rates at {last}", xlabel="rate of a unit (Hz)", ylabel="units (%)", xlim=(0, None))


def _irregularity(ax: Any, result: Result) -> None:
    _lines(ax, result, result.cv)
    ax.axhline(1, color="0.5", linestyle="--", linewidth=1, label="Poisson")
    ax.set(title="Irregularity", ylabel="CV of intervals", ylim=(0, max(1.15, 1.1 * np.nanmax(result.cv, initial=0))))
    ax.legend(ax.lines[-1:], ["Poisson"], frameon=False, fontsize=8)


def _synchrony(ax: Any, result: Result) -> None:
    _lines(ax, result, result.synchrony)
    for number, level in enumerate(result.independent):
        if np.isfinite(level):
            ax.axhline(level, color=COLOURS[number % len(COLOURS)], linestyle="--", linewidth=1)
    ax.set(title="Synchrony", ylabel="chi", ylim=(0, 1.05))
    ax.plot([], [], "--", color="0.3", label="if independent")
    ax.legend(ax.lines[-1:], ["if independent"], frameon=False, fontsize=8)


def caption(result: Result) -> str:
    """Activity of every layer at both ends, and what is silent at the end."""
    layers = [_layer_in_words(result, number) for number in range(len(result.layer))]
    silent = [f"{name} {_ends(values)[1]:.0%}" for name, values in zip(result.layer, result.silent, strict=True)]
    first, last = (place_in_words(result.axis, place) for place in result.progress[[0, -1]])
    return f"From {first} to {last}: {'; '.join(layers)}. Silent for every example at the end: {', '.join(silent)}."


def _layer_in_words(result: Result, number: int) -> str:
    if not result.spiking[number]:
        first, last = _ends(result.magnitude[number])
        return f"mean |activity| of {result.layer[number]} {first:.3g} to {last:.3g}"
    first, last = _ends(result.rate[number])
    text = f"{result.layer[number]} fires at {first:.3g} to {last:.3g} Hz"
    cv, chi = (_ends(values[number])[1] for values in (result.cv, result.synchrony))
    if np.isfinite(cv):
        text += f", CV {cv:.2f} (Poisson 1)"
    if np.isfinite(chi):
        text += f", synchrony {chi:.2f} (independent {result.independent[number]:.2f})"
    return text


def _ends(values: np.ndarray) -> tuple[float, float]:
    """First and last recorded stage; not finite values are told as such."""
    there = np.flatnonzero(~np.isnan(values))
    return (float(values[there[0]]), float(values[there[-1]])) if len(there) else (math.nan, math.nan)


def advice(result: Result) -> list[str]:
    """Layers that are silent, saturated, exploding or in lockstep, and what to try."""
    found = []
    for number, layer in enumerate(result.layer):
        texts = (
            _silence(result, number),
            _saturation(result, number),
            _explosion(result, number),
            _lockstep(result, number),
        )
        found += [f"population '{layer}': {text}" for text in texts if text]
    return found


def _silence(result: Result, number: int) -> str | None:
    last = _ends(result.silent[number])[1]
    if not last > MANY:
        return None
    more = "a lower threshold or more drive at the start" if result.spiking[number] else "leaky_relu"
    slower = "a lower learning rate for it, " if result.plastic[number] else ""
    return f"{last:.0%} of its units are 0 for every example; try {slower}a bias, or {more}"


def _saturation(result: Result, number: int) -> str | None:
    last = _ends(result.saturated[number])[1]
    if not last > MANY:
        return None
    if result.spiking[number]:
        what, remedy = f"fire in at least {SATURATED_RATE:.0%} of the steps", "a smaller gain of the incoming weights"
    else:
        what, remedy = f"have a mean gain below {SATURATED_GAIN:.0%} of the largest", "smaller initial weights"
    so, more = (", so they hardly learn", ", or a lower learning rate") if result.plastic[number] else ("", "")
    return f"{last:.0%} of its units {what}{so}; try {remedy}{more}"


def _explosion(result: Result, number: int) -> str | None:
    values = result.magnitude[number]
    if result.spiking[number]:
        return None
    first, last = _ends(values)
    if not np.isfinite([first, last]).all():
        return "its activity became infinite or NaN; try a third of the learning rate"
    remedy = "smaller initial weights onto it"
    if result.plastic[number]:
        remedy = "rule = 'sbd' (decorrelation bounds activity), a lower learning rate for it, or weight decay"
    if last > LOUD or (last > 10 and last > GROWN * first):
        return f"mean |activity| went from {first:.3g} to {last:.3g}: it explodes; try {remedy}"
    beyond = _ends(result.exploding[number])[1]
    if beyond > SOME:
        return (
            f"mean |activity| grew from {first:.3g} to {last:.3g}, and {beyond:.0%} of its units exceed {EXPLODING:g} "
            f"times the first mean; if it goes on like this it explodes; try {remedy}"
        )
    return None


def _lockstep(result: Result, number: int) -> str | None:
    last, alone = _ends(result.synchrony[number])[1], result.independent[number]
    if not (last > TOGETHER and last > 2 * alone):
        return None
    return (
        f"its units fire in the same steps (synchrony {last:.2f}, independent units {alone:.2f}), which wastes all but "
        f"one of them; try spread initial weights or thresholds, or a noisier encoder (poisson)"
    )
