"""How regular, how variable and how correlated spikes are: rates, ISI CV, Fano factor, PSTH, correlograms, synchrony.

Of every recorded population, over the whole of a free run or the trials of the last recorded epoch: the rate of each
neuron, the CV of its intervals (1: as irregular as a Poisson process), the Fano factor of its counts in bins of 100 ms,
the correlation of the counts of pairs of neurons in bins of 10 ms (up to 200 neurons), the synchrony chi of the same
bins, and the autocorrelogram; of trials also the PSTH, the rate over the time since their start. Each example of each
trial is a segment, as in Neo: intervals, bins and pairs of spikes end with it, and what was found in them is pooled.
Trials that are shorter than a bin are one bin, others are cut into equal bins of at most this length. What trials
differ in, such as their stimulus, is part of Fano factor, correlation and synchrony. Definitions:
`neurosbd.spike_statistics`, which are those of Elephant. Of very many trials the last ones are taken.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run, Signal, SpikeTimes, UsageError
from neurosbd.report import COLOURS, panels, quantity_field
from neurosbd.spike_statistics import (
    autocorrelogram,
    count_correlation,
    fano_factor,
    firing_rates,
    isi_cv,
    psth,
    synchrony,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTED, PAIRED = 0.1, 0.01  # s, bins of the Fano factor, and of correlations
LONGEST = 0.1  # s, of the autocorrelogram
MOMENTS = 50  # of the PSTH
FEWEST = 4  # bins of a Fano factor
MOST = 200  # trains of which all pairs are correlated
MOST_VALUES = 50_000_000  # steps times examples times neurons of a population, in trials
SYNCHRONOUS = 0.5  # chi


@dataclass(frozen=True)
class Result:
    """Every recorded population; NaN behind its trains, and of trains with too few spikes.

    over: which trials there are, or the whole run.
    trains: how many neurons there are. segments: how many examples of trials, or examples of a free run.
    counted, paired: bins of the Fano factor, and of correlation and synchrony.
    correlation: mean over pairs of trains; it and synchrony are those of two trains or more.
    autocorrelogram: rate of spikes at a lag from a spike, over the mean rate.
    psth: rate since the start of a trial, mean over trains and trials; empty of a free run.
    """

    population: tuple[str, ...] = quantity_field("1")
    over: str = quantity_field("1")
    trains: np.ndarray = quantity_field("1", "population")
    segments: np.ndarray = quantity_field("1", "population")
    counted: float = quantity_field("s")
    paired: float = quantity_field("s")
    rate: np.ndarray = quantity_field("Hz", "population", "train")
    cv: np.ndarray = quantity_field("1", "population", "train")
    fano: np.ndarray = quantity_field("1", "population", "train")
    correlation: np.ndarray = quantity_field("1", "population")
    synchrony: np.ndarray = quantity_field("1", "population")
    lag: np.ndarray = quantity_field("s", "lag")
    autocorrelogram: np.ndarray = quantity_field("1", "population", "lag")
    moment: np.ndarray = quantity_field("s", "moment")
    psth: np.ndarray = quantity_field("Hz", "population", "moment")


def analyse(run: Run) -> Result:
    """Statistics of everything recorded as `spikes`.

    Raises:
        NotRecorded: if there is none.
        UsageError: if not every step was recorded, or there are too few to be counted in bins.
    """
    free, signals = run.trace.is_free_run, [signal for signal in run.trace.need("spikes") if len(signal)]
    if not signals:
        raise UsageError(f"{run.trace.path}: no row of spikes has been written yet")
    epoch = max(int(signal.epoch[-1]) for signal in signals)
    starts = [None if free else _start(signal) for signal in signals]
    spikes = [
        SpikeTimes.of(signal, start, epoch=None if free else int(signal.epoch[-1]))
        for signal, start in zip(signals, starts, strict=True)
    ]
    dt, lasts = run.trace.dt, min(each.durations.min() for each in spikes)
    counted, paired = (_bin(lasts, most, dt) for most in (COUNTED, PAIRED))
    fewest = min(each.duration for each in spikes) / counted
    if round(fewest) < FEWEST:
        raise UsageError(
            f"{fewest:.3g} bins of {counted * 1e3:g} ms are too few to count spikes in; record more trials or "
            f"examples, or {FEWEST * COUNTED:g} s of a free run"
        )
    rate, cv, fano = np.full((3, len(spikes), max(each.count for each in spikes)), np.nan)
    for i, each in enumerate(spikes):
        rate[i, : each.count] = firing_rates(each)
        cv[i, : each.count], fano[i, : each.count] = isi_cv(each), fano_factor(each, counted)
    lag, correlograms = _autocorrelograms(spikes, lasts, dt)
    moment, courses = (np.zeros(0), np.zeros((len(spikes), 0))) if free else _courses(spikes, lasts, dt)
    return Result(
        tuple(f"{signal.where}{'@test' if signal.on == 'test' else ''}" for signal in signals),
        "the whole run" if free else _trials_in_words(run, epoch, whole=not any(starts)),
        np.array([each.count for each in spikes]),
        np.array([len(each.durations) for each in spikes]),
        counted,
        paired,
        rate,
        cv,
        fano,
        np.array([_mean_correlation(_first(each), paired) for each in spikes]),
        np.array([synchrony(each, paired) if each.count > 1 else np.nan for each in spikes]),
        lag,
        correlograms,
        moment,
        courses,
    )


def _start(signal: Signal) -> float | None:
    """When the last trials begin, of the last epoch, that can be looked at in one; None: all of them."""
    rows = signal.rows(epoch=int(signal.epoch[-1]))
    most = MOST_VALUES // math.prod(signal.shape[1:])
    if len(rows) <= most:
        return None
    first = rows[signal.begins[rows]]
    recent = first[first >= rows[-1] + 1 - most]
    return float(signal.time[recent[0] if len(recent) else first[-1]])


def _trials_in_words(run: Run, epoch: int, whole: bool) -> str:
    """Of which trials the statistics are."""
    trials = "its trials" if run.definition.protocol else f"epoch {epoch}"
    return trials if whole else f"the last of {trials}"


def _bin(lasts: float, most: float, dt: float) -> float:
    """Of at most so many seconds and whole steps, of which a segment that lasts so long has a whole number."""
    steps = round(lasts / dt)
    return max(1, steps // math.ceil(steps * dt / most - 1e-6)) * dt if lasts < 10 * most else most


def _first(spikes: SpikeTimes) -> SpikeTimes:
    """So many trains as pairs can be made of."""
    return spikes.of_trains(np.arange(min(spikes.count, MOST)))


def _mean_correlation(spikes: SpikeTimes, width: float) -> float:
    pairs = count_correlation(spikes, width)[np.triu_indices(spikes.count, 1)]
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else np.nan


def _autocorrelograms(spikes: list[SpikeTimes], lasts: float, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Lags up to half a segment, and the autocorrelograms there."""
    width = max(1e-3, dt)
    longest = max(width, min(LONGEST, lasts / 2 // width * width))
    lags, values = zip(*(_relative(_first(each), width, longest) for each in spikes), strict=True)
    return lags[0], np.stack(values)


def _relative(spikes: SpikeTimes, width: float, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Lags above 0 and the autocorrelogram there over what the mean rate of each train makes expect."""
    lags, pairs = autocorrelogram(spikes, width, longest)
    later = lags > width / 2
    room = np.maximum(spikes.durations[:, None] - lags[later], 0).sum(0)  # s in which a pair can begin
    expected = (firing_rates(spikes) ** 2).sum() * width * room
    return lags[later], pairs[later] / expected if len(spikes.times) else np.full(later.sum(), np.nan)


def _courses(spikes: list[SpikeTimes], lasts: float, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Moments since the start of a trial, and the rate of every population there."""
    width = max(1, round(lasts / MOMENTS / dt)) * dt
    lags, values = zip(*(psth(each, None, 0.0, lasts, width) for each in spikes), strict=True)
    return lags[0], np.stack(values)


def figure(result: Result) -> "Figure":
    """Histograms of rates, CVs and Fano factors, the autocorrelograms, and the PSTH of trials."""
    drawing, axes = panels(5 if len(result.moment) else 4, columns=3 if len(result.moment) else 2)
    shown = (("rate", result.rate, "rate, Hz"), ("ISI CV", result.cv, "CV"), ("counts", result.fano, "Fano factor"))
    for ax, (title, values, label) in zip(axes, shown, strict=False):
        known = values[np.isfinite(values)]
        edges = np.linspace(0, max(1.0 if title != "rate" else 1e-3, known.max(initial=0)) * 1.001, 31)
        for i in range(len(result.population)):
            each = values[i][np.isfinite(values[i])]
            ax.hist(each, edges.tolist(), histtype="step", lw=1.3, color=_colour(i))
        ax.set(xlabel=label, ylabel="neurons", title=title)
        ax.locator_params("y", integer=True)
    for ax in axes[1:3]:
        ax.axvline(1, color="0.6", ls=":", lw=0.9)
    lines: list[Any] = []
    for i, values in enumerate(result.autocorrelogram):
        lines += axes[3].plot(result.lag * 1e3, values, color=_colour(i), lw=1.0)
    axes[3].axhline(1, color="0.6", ls=":", lw=0.9)
    axes[3].set(xlabel="lag, ms", ylabel="rate after a spike / mean rate", title="autocorrelogram", ylim=(0, None))
    if len(result.moment):
        _psth(axes[4], result)
    drawing.legend(lines, result.population, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawing


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _psth(ax: Any, result: Result) -> None:
    edges = np.append(result.moment, 2 * result.moment[-1] - result.moment[-2]) * 1e3
    for i, values in enumerate(result.psth):
        ax.stairs(values, edges, baseline=None, color=_colour(i), lw=1.2)
    ax.set(xlabel="time since the start of a trial, ms", ylabel="rate, Hz", title="PSTH", xlim=(0, edges[-1]))
    ax.set_ylim(0, None)


def caption(result: Result) -> str:
    """The figures of every population."""
    parts = []
    for i, name in enumerate(result.population):
        rate, cv, fano = (_mean(values[i]) for values in (result.rate, result.cv, result.fano))
        pairs = f"correlation {_number(result.correlation[i])}, synchrony {_number(result.synchrony[i])}"
        parts.append(f"{name}: {rate} Hz, ISI CV {cv}, Fano factor {fano}, {pairs}")
    bins = f"counts in bins of {result.counted * 1e3:g} ms, pairs in bins of {result.paired * 1e3:g} ms"
    return (
        f"Means over neurons, of {result.over}, {_pieces(result)}; {bins}. {'; '.join(parts)}. Dotted: a Poisson "
        f"process."
    )


def _pieces(result: Result) -> str:
    """How many segments were pooled."""
    numbers = [f"{number:,}" for number in dict.fromkeys(result.segments.tolist())]
    what = "examples of trials" if len(result.moment) else "examples"
    return f"in {' and '.join(numbers)} {what}, over which they are pooled" if numbers != ["1"] else "in one piece"


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return _number(known.mean()) if len(known) else "unknown"


def _number(value: Any) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "unknown"


def advice(result: Result) -> list[str]:
    """Populations of a free run that fire as one; in trials a common stimulus makes them."""
    if len(result.moment):
        return []
    chance = 1 / np.sqrt(np.maximum(result.trains, 1))
    return [
        f"{name}: fires nearly as one (synchrony {chi:.2f}, {low:.2f} if neurons were independent); stronger or faster "
        f"inhibition, or noise of its own for each neuron, takes it apart."
        for name, chi, low in zip(result.population, result.synchrony, chance, strict=True)
        if chi > SYNCHRONOUS and chi > 3 * low
    ]
