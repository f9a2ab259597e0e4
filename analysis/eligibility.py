"""How long eligibility traces remember: their half-life.

From the autocorrelation within a trial, since the traces of a busy network are never left alone to decay: each trace of
each trial less its own mean, autocovariances summed over synapses, examples and the trials of the last recorded epoch,

    r(lag) = sum_t e(t) e(t + lag) / (T - lag) / c(0)

The half-life is where r, interpolated, falls to 1/2. Subtracting the mean of a finite trial pulls r down, so the fit
compares it with what that subtraction makes of exp(-lag / tau), and reports tau ln 2; it takes traces for stationary.
The third estimate looks at single decays: the median of e(t + 1) / e(t) over the steps in which a trace shrinks and
keeps its sign. It is exact for a leaky sum of sparse pairings, however short the trial.
Where the eligibility decays by a constant of the rule, tau_e of rstdp and rmax, its half-life is known: tau_e ln 2.

Source: Gerstner et al. 2018, Front. Neural Circuits 12:53 (time scales of eligibility); the autocorrelation of a leaky
sum of independent increments is exp(-lag / tau) (Campbell's theorem).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run
from neurosbd.report import COLOURS, panels, quantity_field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_VALUES = 20_000_000  # of one connection; later trials are left out
AUDIBLE = 1e-3  # of the largest |e|: below it a shrinking trace is rounding


@dataclass(frozen=True)
class Result:
    """Half-lives of every recorded connection; NaN where a trace is constant or does not fall that far.

    known: tau_e ln 2 of the constants; NaN where the eligibility has no such constant, as that of e-prop, whose gain
        changes from step to step.
    by_interpolation, by_fit: of the autocorrelation; by_decay: of a trace between increments. The fit is NaN where it
        finds a tau longer than the trial, which no trial can tell.
    window: recorded duration of a trial.
    """

    connection: tuple[str, ...] = quantity_field("1")
    lag: np.ndarray = quantity_field("s", "connection", "lag")
    autocorrelation: np.ndarray = quantity_field("1", "connection", "lag")
    fitted: np.ndarray = quantity_field("1", "connection", "lag")
    known: np.ndarray = quantity_field("s", "connection")
    by_interpolation: np.ndarray = quantity_field("s", "connection")
    by_fit: np.ndarray = quantity_field("s", "connection")
    by_decay: np.ndarray = quantity_field("s", "connection")
    window: np.ndarray = quantity_field("s", "connection")
    traces: np.ndarray = quantity_field("1", "connection")


def analyse(run: Run) -> Result:
    """Half-life of every recorded `eligibility`.

    Raises:
        NotRecorded: if there is none.
    """
    trace = run.trace
    signals = trace.need("eligibility")
    found = [_of(signal, trace.dt) for signal in signals]
    longest = max(len(f["lag"]) for f in found)
    curves = {key: np.full((len(found), longest), np.nan) for key in ("lag", "autocorrelation", "fitted")}
    for i, one in enumerate(found):
        for key, table in curves.items():
            table[i, : len(one[key])] = one[key]
    numbers = ("by_interpolation", "by_fit", "by_decay", "window", "traces")
    columns = {key: np.array([f[key] for f in found], float) for key in numbers}
    columns["known"] = np.array([_known(run, s.where) for s in signals])
    names = tuple(f"{s.where}{'@test' if s.on == 'test' else ''}" for s in signals)
    return Result(names, **curves, **columns)


def _known(run: Run, connection: str) -> float:
    """Half-life of the eligibility by the constants of the plasticity of a connection, s."""
    definition = run.definition
    own = next((entry.plasticity for entry in definition.connection if entry.name == connection), None)
    plasticity = own if own is not None else getattr(definition.rule, "plasticity", None)
    tau = getattr(plasticity, "tau_e", None)
    return float(tau) * np.log(2) if isinstance(tau, int | float) else np.nan


def _of(signal: Any, dt: float) -> dict[str, Any]:
    """Everything about one connection."""
    power, ratios, values, traces, every = None, [], 0, 0, dt
    epoch = int(signal.epoch.max(initial=0))
    for rows, piece in signal.trials(epoch):
        there = signal.sample[rows.start] >= 0
        e = piece[:, there].reshape(len(piece), -1)
        if power is not None and len(e) != len(power):
            continue  # cut off at the end of a run that was stopped
        if len(e) > 1:
            every = float(signal.step[rows.start + 1] - signal.step[rows.start]) * dt
        covariance = autocovariance(e)
        power = covariance if power is None else power + covariance
        ratios.append(_decays(e))
        values, traces = values + e.size, traces + e.shape[1]
        if values > MOST_VALUES:
            break
    steps = 0 if power is None else len(power)
    result = {"window": steps * every, "traces": traces, **dict.fromkeys(("by_interpolation", "by_fit"), np.nan)}
    ratio = np.median(np.concatenate(ratios)) if any(len(r) for r in ratios) else np.nan
    result["by_decay"] = -every * np.log(2) / np.log(ratio)
    if power is None or steps < 4 or not power[0] > 0:
        return result | dict.fromkeys(("lag", "autocorrelation", "fitted"), np.zeros(0))
    r = (power / power[0])[: steps // 2 + 1]
    tau, fitted = exponential(r, steps)
    lag = np.arange(len(r)) * every
    result |= {"by_interpolation": half_life(r) * every, "by_fit": tau * every * np.log(2) if tau < steps else np.nan}
    return result | {"lag": lag, "autocorrelation": r, "fitted": fitted}


def autocovariance(e: np.ndarray) -> np.ndarray:
    """Autocovariance [T] of traces e [T, n], each less its mean over time, summed over them."""
    steps = len(e)
    total = np.zeros(steps + 1)
    for part in np.array_split(e, -(-e.size // 1_000_000) or 1, axis=1):
        spectrum = np.fft.rfft(part.astype(np.float64) - part.mean(0, dtype=np.float64), 2 * steps, axis=0)
        total += (np.abs(spectrum) ** 2).sum(1)
    return np.fft.irfft(total, 2 * steps)[:steps] / np.arange(steps, 0, -1)


def half_life(r: np.ndarray) -> float:
    """Lag in steps at which an autocorrelation r [lag] first reaches 1/2, interpolated; NaN if it does not."""
    below = np.flatnonzero(r <= 0.5)
    if not len(below):
        return np.nan
    k = int(below[0])
    return k - 1 + (r[k - 1] - 0.5) / (r[k - 1] - r[k])


def expected(tau: float, steps: int, lags: int) -> np.ndarray:
    """What subtracting the mean of a trial of `steps` makes of the autocorrelation exp(-lag / tau), [lags].

    With g(t) = mean over s of exp(-|t - s| / tau), the covariance of e(t) with the mean:
        c(lag) = exp(-lag / tau) - 2 mean over t < T - lag of g(t) + mean over all t of g(t)
    """
    decay = np.exp(-1 / tau)
    ahead = (1 - decay ** np.arange(1, steps + 1)) / (1 - decay)  # sum of decay^0 .. decay^t
    g = (ahead + ahead[::-1] - 1) / steps
    front = np.cumsum(g)[::-1][:lags] / np.arange(steps, 0, -1)[:lags]
    c = decay ** np.arange(lags) - 2 * front + g.mean()
    return c / c[0]


def exponential(r: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
    """tau in steps whose expected autocorrelation is closest to r [lag], and that curve."""
    from scipy.optimize import minimize_scalar

    def misfit(log_tau: float) -> float:
        return float(np.sum((expected(np.exp(log_tau), steps, len(r)) - r) ** 2))

    # Beyond 30 trials the curve does not depend on tau any more.
    best: Any = minimize_scalar(misfit, bounds=(np.log(0.1), np.log(30 * steps)), method="bounded")
    tau = float(np.exp(best.x))
    return tau, expected(tau, steps, len(r))


def _decays(e: np.ndarray) -> np.ndarray:
    """e(t + 1) / e(t) wherever a trace [T, n] shrinks and keeps its sign."""
    before, after = e[:-1].astype(np.float64), e[1:].astype(np.float64)
    floor = AUDIBLE * np.abs(before).max(initial=0)
    shrinks = (np.abs(before) > floor) & (np.abs(after) < np.abs(before)) & (before * after > 0)
    return after[shrinks] / before[shrinks]


def figure(result: Result) -> "Figure":
    """Autocorrelation of every connection, its fit, and the half-lives."""
    drawing, axes = panels(len(result.connection), columns=3)
    for i, (ax, name) in enumerate(zip(axes, result.connection, strict=True)):
        lag = result.lag[i] * 1e3
        ax.axhline(0, color="0.8", lw=0.8)
        ax.plot(lag, result.autocorrelation[i], color=COLOURS[0], lw=2, label="autocorrelation")
        ax.plot(lag, result.fitted[i], "--", color=COLOURS[1], label=f"fit, half-life {_ms(result.by_fit[i])}")
        half = result.by_interpolation[i] * 1e3
        if np.isfinite(half):
            ax.plot([0, half, half], [0.5, 0.5, np.nanmin([0, *result.autocorrelation[i]])], ":", color="0.3", lw=1)
            ax.plot([half], [0.5], "o", ms=4, color="0.3", label=f"half at {_ms(result.by_interpolation[i])}")
        if np.isfinite(result.known[i]):
            ax.plot([], [], " ", label=f"by its constants {_ms(result.known[i])}")
        ax.plot([], [], " ", label=f"single decays {_ms(result.by_decay[i])}")
        ax.set(xlabel="lag, ms", ylabel="autocorrelation", title=name)
        ax.legend(fontsize=7, frameon=False)
    return drawing


def _ms(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "unknown"
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"


def _told(result: Result, i: int) -> str:
    """What is known and measured of a connection."""
    known = f"{_ms(result.known[i])} by its constants; measured " if np.isfinite(result.known[i]) else ""
    return (
        f"{result.connection[i]} {known}{_ms(result.by_interpolation[i])} (fit {_ms(result.by_fit[i])}, single decays "
        f"{_ms(result.by_decay[i])}; trials of {_ms(result.window[i])}, {result.traces[i]:.0f} traces)"
    )


def caption(result: Result) -> str:
    """Half-lives of every connection, beside the duration of a trial."""
    parts = [_told(result, i) for i in range(len(result.connection))]
    return (
        "Autocorrelation of eligibility traces within trials of the last recorded epoch: how long a synapse remembers "
        f"that it was eligible. Half-lives: {'; '.join(parts)}."
    )


def advice(result: Result) -> list[str]:
    """Traces that stay silent, and trials too short to see a half-life."""
    found = []
    for i, name in enumerate(result.connection):
        half, window = result.by_fit[i], result.window[i]
        if not np.isfinite(result.autocorrelation[i]).any():
            found.append(f"{name}: its eligibility never changed, so nothing can be learned there from a third factor.")
        elif not half < window / 3 and not np.isfinite(result.known[i]):
            found.append(
                f"{name}: its half-life is not short beside a trial of {_ms(window)}, so the autocorrelation cannot "
                f"measure it well; trust the single decays ({_ms(result.by_decay[i])}), or record longer trials."
            )
    return found
