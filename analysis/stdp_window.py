"""The STDP window as a run shows it: how weights changed, by the lags of the spikes that met at their synapses.

    w(k + 1) - w(k) = sum over lags of  pairs at this lag between k and k + 1  times  window(lag)

for every recorded synapse and every two rows of its weight, solved for the window by least squares. The lag is t_post
- t_pre, from the arrival of a pre spike at the beginning of its step to a post spike at the end of its own, and all
pairs count; where every synapse has a delay of its own, from there. Rows with a weight at the least or the largest
value that was recorded are left out: a bound may have cut their change. Of a rule whose changes add up over pairs the
window is exact; R2 says how much of the changes it explains. Connections of which no window can be measured are left
out, with the reason. Of many synapses so many are taken, evenly, that steps times synapses stay under three millions.
Needed are the spikes of both populations at every step, and the weight, best as often as there are reports.

Source: Bi, Poo 1998, J. Neurosci. 18 (the window, there of one pair at a time).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run, UsageError
from neurosbd.report import COLOURS, panels, quantity_field
from neurosbd.tracefiles import NotRecorded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 0.08  # s
BINS = 20  # on either side
MOST = 3_000_000  # steps times synapses
ENOUGH = 4  # rows per unknown


@dataclass(frozen=True)
class Result:
    """Every plastic connection of which enough was recorded.

    window: change of the weight by one pair; NaN where no pair had such a lag.
    error: its standard error. explained: R2 of the changes.
    left_out: plastic connections without a window, and why.
    """

    connection: tuple[str, ...] = quantity_field("1")
    lag: np.ndarray = quantity_field("s", "connection", "lag")
    window: np.ndarray = quantity_field("weight", "connection", "lag")
    error: np.ndarray = quantity_field("weight", "connection", "lag")
    explained: np.ndarray = quantity_field("1", "connection")
    left_out: tuple[str, ...] = quantity_field("1")


def analyse(run: Run) -> Result:
    """The window of every plastic connection between recorded populations.

    Raises:
        NotRecorded: if no connection has its weight and the spikes of both its populations recorded.
        UsageError: if the run is no free run, or no connection has a window; says why of each.
    """
    if not (run.config.get("definition") or {}).get("simulation"):
        raise UsageError("a window is measured from a free run, or from stdp-window, whose figure it is")
    trace = run.trace
    spikes = {s.where: s for s in trace.need("spikes") if len(s)}
    plastic = {name: c for name, c in run.network().connections.items() if c.plastic}
    found, left_out = [], []
    for signal in trace.need("weight"):
        c = plastic.get(signal.where)
        if c is not None and {c.pre, c.post} <= spikes.keys() and len(signal) > 1:
            try:
                found.append((signal.where, *_measured(run, signal, spikes[c.pre], spikes[c.post])))
            except UsageError as problem:
                left_out.append(str(problem))
    if not found and left_out:
        raise UsageError("; ".join(left_out))
    if not found:
        raise NotRecorded(
            "a window needs a plastic connection with the spikes of both its populations and its weight in two rows",
            "*.spikes *.weight",
        )
    names, lags, windows, errors, explained = zip(*found, strict=True)
    return Result(
        tuple(names), np.stack(lags), np.stack(windows), np.stack(errors), np.array(explained), tuple(left_out)
    )


def _measured(run: Run, signal: Any, pre: Any, post: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Lags, window, its standard error and R2 of one connection."""
    dt, ends = run.trace.dt, signal.ends
    delay = run.network().delays[signal.where] if ends.delay is None else ends.delay
    delays = np.broadcast_to(delay, ends.post.shape)
    places = [{unit: n for n, unit in enumerate(s.items.tolist())} for s in (pre, post)]
    items = list(enumerate(zip(ends.post.tolist(), ends.pre.tolist(), strict=True)))
    weight = signal[:]
    moved = np.ptp(weight, axis=0) > 0
    kept = [(n, places[0][q], places[1][p]) for n, (p, q) in items if q in places[0] and p in places[1] and moved[n]]
    moving = kept[:: math.ceil(len(kept) / max(1, MOST // len(pre))) or 1]
    if not moving:
        raise UsageError(f"{signal.where}: no recorded weight has moved, so that it shows no window")
    synapse, source, target = (np.array(part) for part in zip(*moving, strict=True))
    arrived, fired = pre[:][..., source].astype(np.float32), post[:][..., target].astype(np.float32)
    for steps in np.unique(delays[synapse]):
        late = delays[synapse] == steps
        arrived[..., late] = _later(arrived[..., late], int(steps))
    rows = np.round(signal.time / dt).astype(int)
    per = max(1, round(LONGEST / BINS / dt))
    pairs = _pairs(arrived, fired, rows, per)
    weight = weight[:, synapse].astype(np.float64)
    inside = (weight > weight.min()) & (weight < weight.max())
    free = inside[1:] & inside[:-1]
    lags = np.array([_steps(number, per).mean() for number in range(-BINS, BINS)]) * dt
    return lags, *_solved(pairs[:, free].T, np.diff(weight, axis=0)[free], signal.where)


def _later(values: np.ndarray, steps: int) -> np.ndarray:
    """Moved to later steps."""
    return values if not steps else np.concatenate([np.zeros_like(values[:steps]), values[:-steps]])


def _steps(number: int, per: int) -> np.ndarray:
    """The lags of a bin: from 0 on, where an arrival meets the spike that ends as it comes, or below 0."""
    return number * per + np.arange(per)


def _pairs(arrived: np.ndarray, fired: np.ndarray, rows: np.ndarray, per: int) -> np.ndarray:
    """Pairs in bins of `per` lags that change the weight between two rows, mean over examples, [lags, rows - 1, S]."""
    found = []
    ended = _later(fired, 1)  # a spike at the end of a step meets what arrives with the next one, and later
    for number in range(-BINS, BINS):
        earlier, later = (arrived, ended) if number >= 0 else (ended, arrived)
        summed = sum(_later(earlier, abs(int(lag))) for lag in _steps(number, per))
        found.append(np.add.reduceat((later * summed).mean(1), rows[:-1].clip(max=len(later) - 1)))
    return np.stack(found)


def _solved(pairs: np.ndarray, change: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Window, standard error and R2 from pairs [N, lags] and changes [N]."""
    met = np.asarray(pairs.any(0))
    if len(change) < ENOUGH * met.sum() or not met.any():
        raise UsageError(
            f"{name}: {len(change)} changes of weights are too few for {met.sum()} lags; record more synapses or rows"
        )
    window, error = np.full((2, len(met)), np.nan)
    chosen = pairs[:, met].astype(np.float64)
    window[met], *_ = np.linalg.lstsq(chosen, change, rcond=None)
    rest = change - chosen @ window[met]
    variance = (rest**2).sum() / max(1, len(change) - met.sum())
    error[met] = np.sqrt(variance * np.diag(np.linalg.pinv(chosen.T @ chosen)))
    total = ((change - change.mean()) ** 2).sum()
    return window, error, float(1 - (rest**2).sum() / total) if total > 0 else np.nan


def figure(result: Result) -> "Figure":
    """A window for every connection, with its standard error."""
    drawing, axes = panels(len(result.connection), columns=2)
    for i, (ax, name) in enumerate(zip(axes, result.connection, strict=True)):
        lag, window, error = result.lag[i] * 1e3, result.window[i], result.error[i]
        ax.errorbar(lag, window, error, fmt="o-", ms=3, lw=0.9, color=COLOURS[i % len(COLOURS)])
        ax.axhline(0, color="0.6", lw=0.8)
        ax.axvline(0, color="0.6", lw=0.8)
        ax.set(xlabel="t_post - t_pre, ms", ylabel="change by a pair, weight", title=name)
    return drawing


def caption(result: Result) -> str:
    """What the windows are and explain."""
    parts = [f"{n} {e:.0%}" for n, e in zip(result.connection, result.explained, strict=True)]
    return (
        f"Change of a weight by one pair of spikes, by least squares, of at most {MOST:,} steps times synapses, taken "
        f"evenly. Explained of their changes: {', '.join(parts)}.{' Left out: ' if result.left_out else ''}"
        f"{'; '.join(result.left_out)}"
    )
