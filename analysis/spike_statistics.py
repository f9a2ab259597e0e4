"""How regular, how variable and how correlated spikes are: rates, ISI CV, Fano factor, correlograms, synchrony.

Of every recorded population of a free run: the rate of each neuron, the CV of its intervals (1: as irregular as a
Poisson process), the Fano factor of its counts in bins of 100 ms, the correlation of the counts of pairs of neurons in
bins of 10 ms (up to 200 neurons), the synchrony chi of the same bins, and the autocorrelogram. Trains are those of all
recorded examples and neurons. Definitions: `neurosbd.spike_statistics`, which are those of Elephant.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run, SpikeTimes, UsageError
from neurosbd.report import COLOURS, panels, quantity_field
from neurosbd.spike_statistics import (
    autocorrelogram,
    count_correlation,
    fano_factor,
    firing_rates,
    isi_cv,
    synchrony,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTED, PAIRED = 0.1, 0.01  # s, bins of the Fano factor, and of correlations
LONGEST = 0.1  # s, of the autocorrelogram
MOST = 200  # trains of which all pairs are correlated
SYNCHRONOUS = 0.5  # chi


@dataclass(frozen=True)
class Result:
    """Every recorded population; NaN behind its trains, and of trains with too few spikes.

    correlation: mean over pairs of trains. trains: how many there are.
    autocorrelogram: rate of spikes at a lag from a spike, over the mean rate.
    """

    population: tuple[str, ...] = quantity_field("1")
    trains: np.ndarray = quantity_field("1", "population")
    rate: np.ndarray = quantity_field("Hz", "population", "train")
    cv: np.ndarray = quantity_field("1", "population", "train")
    fano: np.ndarray = quantity_field("1", "population", "train")
    correlation: np.ndarray = quantity_field("1", "population")
    synchrony: np.ndarray = quantity_field("1", "population")
    lag: np.ndarray = quantity_field("s", "lag")
    autocorrelogram: np.ndarray = quantity_field("1", "population", "lag")


def analyse(run: Run) -> Result:
    """Statistics of everything recorded as `spikes`.

    Raises:
        NotRecorded: if there is none.
        UsageError: if the run is no free run, or is too short.
    """
    signals = [signal for signal in run.trace.need("spikes") if len(signal)]
    if not (run.config.get("definition") or {}).get("simulation"):
        raise UsageError("spike statistics are of free runs; in trials, intervals and rates are those of the task")
    spikes = [SpikeTimes.of(signal) for signal in signals]
    if min(each.duration for each in spikes) < 4 * max(COUNTED, LONGEST):
        raise UsageError(f"at least {4 * max(COUNTED, LONGEST):g} s of spikes are needed, to count them in bins")
    most = max(each.count for each in spikes)
    rate, cv, fano = np.full((3, len(spikes), most), np.nan)
    for i, each in enumerate(spikes):
        rate[i, : each.count] = firing_rates(each)
        cv[i, : each.count], fano[i, : each.count] = isi_cv(each), fano_factor(each, COUNTED)
    width = max(1e-3, run.trace.dt)
    correlograms = [_relative(_first(each), width) for each in spikes]
    return Result(
        tuple(signal.where for signal in signals),
        np.array([each.count for each in spikes]),
        rate,
        cv,
        fano,
        np.array([_mean_correlation(_first(each)) for each in spikes]),
        np.array([synchrony(each, PAIRED) for each in spikes]),
        correlograms[0][0],
        np.stack([values for _, values in correlograms]),
    )


def _first(spikes: SpikeTimes) -> SpikeTimes:
    """So many trains as pairs can be made of."""
    kept = spikes.trains < MOST
    count = min(spikes.count, MOST)
    return SpikeTimes(spikes.times[kept], spikes.trains[kept], count, spikes.start, spikes.stop)


def _mean_correlation(spikes: SpikeTimes) -> float:
    pairs = count_correlation(spikes, PAIRED)[np.triu_indices(spikes.count, 1)]
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else np.nan


def _relative(spikes: SpikeTimes, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Lags above 0 and the autocorrelogram there over what the mean rate of each train makes expect."""
    lags, pairs = autocorrelogram(spikes, width, LONGEST)
    later = lags > width / 2
    counts = spikes.counts.astype(float)
    expected = (counts**2).sum() / spikes.duration * width * (1 - lags[later] / spikes.duration)
    return lags[later], pairs[later] / expected if counts.any() else np.full(later.sum(), np.nan)


def figure(result: Result) -> "Figure":
    """Histograms of rates, CVs and Fano factors, and the autocorrelograms."""
    drawing, axes = panels(4, columns=2)
    shown = (("rate", result.rate, "rate, Hz"), ("ISI CV", result.cv, "CV"), ("counts", result.fano, "Fano factor"))
    for ax, (title, values, label) in zip(axes, shown, strict=False):
        known = values[np.isfinite(values)]
        edges = np.linspace(0, max(1.0 if title != "rate" else 1e-3, known.max(initial=0)) * 1.001, 31)
        for i, name in enumerate(result.population):
            each = values[i][np.isfinite(values[i])]
            ax.hist(each, edges.tolist(), histtype="step", lw=1.3, color=COLOURS[i % len(COLOURS)], label=name)
        ax.set(xlabel=label, ylabel="neurons", title=title)
    for ax in axes[1:3]:
        ax.axvline(1, color="0.6", ls=":", lw=0.9)
    for i, values in enumerate(result.autocorrelogram):
        axes[3].plot(result.lag * 1e3, values, color=COLOURS[i % len(COLOURS)], lw=1.0)
    axes[3].axhline(1, color="0.6", ls=":", lw=0.9)
    axes[3].set(xlabel="lag, ms", ylabel="rate after a spike / mean rate", title="autocorrelogram", ylim=(0, None))
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawing


def caption(result: Result) -> str:
    """The figures of every population."""
    parts = []
    for i, name in enumerate(result.population):
        rate, cv, fano = (_mean(values[i]) for values in (result.rate, result.cv, result.fano))
        pairs = f"correlation {_number(result.correlation[i])}, synchrony {_number(result.synchrony[i])}"
        parts.append(f"{name}: {rate} Hz, ISI CV {cv}, Fano factor {fano}, {pairs}")
    return f"Means over neurons. {'; '.join(parts)}. Dotted: a Poisson process."


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return _number(known.mean()) if len(known) else "unknown"


def _number(value: Any) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "unknown"


def advice(result: Result) -> list[str]:
    """Populations that fire as one."""
    chance = 1 / np.sqrt(np.maximum(result.trains, 1))
    return [
        f"{name}: fires nearly as one (synchrony {chi:.2f}, {low:.2f} if neurons were independent); stronger or faster "
        f"inhibition, or noise of its own for each neuron, takes it apart."
        for name, chi, low in zip(result.population, result.synchrony, chance, strict=True)
        if chi > SYNCHRONOUS and chi > 3 * low
    ]
