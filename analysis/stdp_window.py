"""The STDP window as a run shows it: how weights changed, by the lags of the spikes that met at their synapses.

    change of w = sum over lags of  pairs at this lag meanwhile  times  window(lag)

for every recorded synapse and every two rows of its weight, solved for the window by least squares. The lag is t_post
- t_pre, from the arrival of a pre spike at the beginning of its step to a post spike at the end of its own, and all
pairs count; where every synapse has a delay of its own, from there. Pairs are those of a trial, never of two, and of
several examples the mean, as changes are: the window is the change by a pair in each of them. A change is that from
row to row of `weight`, or of one trial as `dweight` has it: of a protocol whose trials begin anew only that. Rows with
a weight at the least or the largest value that was recorded are left out: a bound may have cut their change. Of a rule
whose changes add up over pairs, under SGD, the window is exact; R2 says how much of the changes it explains. There must
be four changes for each lag, or each change be by pairs of a single lag. Connections of which no window can be measured
are left out, with the reason. Of many synapses so many are taken, evenly, that steps times examples times synapses stay
under three millions; of many trials the last ones, so that at least 50 synapses are.

Needed are the spikes of both populations at every step and of all examples (of an input that sends spikes, its `rate`),
and `weight` or, of trials, `dweight`, best as often as there are updates.

Source: Bi, Poo 1998, J. Neurosci. 18 (the window, there of one pair at a time).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from neurosbd import Run, UsageError
from neurosbd.report import COLOURS, panels, quantity_field
from neurosbd.tracefiles import NotRecorded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 0.08  # s
BINS = 20  # on either side
MOST = 3_000_000  # steps times examples times synapses
FEWEST = 50  # synapses
ENOUGH = 4  # changes per unknown
FAIR = 0.9  # R2


@dataclass(frozen=True)
class Result:
    """Every plastic connection of which enough was recorded.

    window: change of the weight by one pair; NaN where no pair had such a lag.
    error: its standard error; NaN where there are as many lags as changes. explained: R2 of the changes, likewise.
    left_out: plastic connections without a window, and why.
    """

    connection: tuple[str, ...] = quantity_field("1")
    lag: np.ndarray = quantity_field("s", "connection", "lag")
    window: np.ndarray = quantity_field("weight", "connection", "lag")
    error: np.ndarray = quantity_field("weight", "connection", "lag")
    explained: np.ndarray = quantity_field("1", "connection")
    left_out: tuple[str, ...] = quantity_field("1")


class Pieces(NamedTuple):
    """The steps in which spikes of two populations were recorded, in pieces of time of the same length."""

    numbers: np.ndarray  # of the trials, ascending, [P]; of a free run 0
    pre: np.ndarray  # rows of the pre signal, [P, T]
    post: np.ndarray  # rows of the post signal, [P, T]
    shown: np.ndarray  # share of each example in the mean of its trial, [P, B]


class Changes(NamedTuple):
    """How the recorded synapses changed between two moments, counted in steps through all pieces."""

    begin: np.ndarray  # [N]
    end: np.ndarray  # [N]
    change: np.ndarray  # [N, synapses]
    free: np.ndarray  # whether no bound may have cut it, [N, synapses]


def analyse(run: Run) -> Result:
    """The window of every plastic connection between recorded populations.

    Raises:
        NotRecorded: if no connection has its weight and the spikes of both its populations recorded.
        UsageError: if no connection has a window; says why of each.
    """
    network = run.definition.network()
    found, left_out, missing = [], [], []
    for name, connection in network.connections.items():
        if not connection.plastic:
            continue
        try:
            found.append((name, *_measured(run, network, connection)))
        except NotRecorded as problem:
            missing.append(problem)
        except UsageError as problem:
            left_out.append(str(problem))
    reasons = [str(problem) for problem in missing] + left_out
    if not found and missing:  # what comes nearest to a window: spikes without a change, then without those of an input
        raise NotRecorded("; ".join(reasons), max((each.spec for each in missing), key=_nearness))
    if not found:
        raise UsageError("; ".join(reasons) or f"{run.path}: no connection is plastic, so there is no window")
    names, lags, windows, errors, explained = zip(*found, strict=True)
    return Result(
        tuple(names), np.stack(lags), np.stack(windows), np.stack(errors), np.array(explained), tuple(reasons)
    )


def _nearness(spec: str) -> int:
    return ("rate", "spikes", "weight", "dweight").index(spec.rpartition(".")[2])


def _measured(run: Run, network: Any, connection: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Lags, window, its standard error and R2 of one connection."""
    name, dt = connection.name, run.trace.dt
    _check_unpooled(network, connection)
    pre, post = (_spikes(run, network, where, name) for where in (connection.pre, connection.post))
    pieces = _pieces(run, pre, post, name)
    signal, changes = _changes(run, name, pieces)
    delay = network.delays[name] if signal.ends.delay is None else signal.ends.delay
    delays = np.broadcast_to(delay, signal.ends.post.shape)
    moving = _moving(signal.ends, pre, post, changes, MOST // max(1, pieces.pre.size * pieces.shown.shape[1]))
    if not len(moving):
        raise UsageError(f"{name}: no recorded weight has moved, so that it shows no window")
    synapse, source, target = moving.T
    arrived, fired = _read(pre, pieces.pre, source), _read(post, pieces.post, target)
    for steps in np.unique(delays[synapse]):
        late = delays[synapse] == steps
        arrived[..., late] = _later(arrived[..., late], int(steps))
    per = max(1, round(min(LONGEST, pieces.pre.shape[1] * dt) / BINS / dt))
    pairs = _pairs(arrived, fired, pieces.shown, changes, per)
    free = changes.free[:, synapse]
    lags = np.array([_steps(number, per).mean() for number in range(-BINS, BINS)]) * dt
    return lags, *_solved(pairs[:, free].T, changes.change[:, synapse][free], name)


def _check_unpooled(network: Any, connection: Any) -> None:
    """Refuse what joins no two units: what arrives pooled has no spikes of its own."""
    weight, size = network.weights[connection.name], network.populations[connection.pre].size
    if connection.geometry.axes(tuple(weight.shape), size).positions != math.prod(size[1:]):
        raise UsageError(f"{connection.name}: pools what arrives or shares its weights, so that no pairs meet at one")


def _spikes(run: Run, network: Any, where: str, name: str) -> Any:
    """The signal that has the spikes of a population.

    Raises:
        NotRecorded: with what would have them, at every step and of all examples.
        UsageError: if it has none.
    """
    population, trace = network.populations[where], run.trace
    what = "rate"  # of an input, which has no neurons of its own
    if population.neuron is not None:
        state = population.neuron.init(torch.zeros(1, *population.size), torch.Generator())
        what = "spikes" if hasattr(state, "spike") else ""
    if not what:
        raise UsageError(f"{name}: {where} does not spike")
    signal = next((each for each in trace.all(what, "train") if each.where == where and len(each)), None)
    if signal is None:
        raise NotRecorded(f"{name}: a window needs the spikes of {where}; record {where}.{what}", f"{where}.{what}")
    every, examples = signal.clock.steps, len(signal.examples)
    if every > 1:
        raise NotRecorded(f"{name}: {signal.name} has every {every} steps; record every step", f"{where}.{what}")
    if examples < trace.contents.batch_size:
        raise NotRecorded(
            f"{name}: {signal.name} has {examples} of {trace.contents.batch_size} examples, and a change is by all of "
            f"them; record all, or set training.batch_size = 1",
            f"{where}.{what}",
        )
    return signal


def _pieces(run: Run, pre: Any, post: Any, name: str) -> Pieces:
    """The trials that both signals have, whole; of a free run its whole time."""
    if run.trace.is_free_run:
        rows = np.arange(min(len(pre), len(post)))[None]
        return Pieces(np.zeros(1, int), rows, rows, np.full((1, pre.shape[1]), 1 / pre.shape[1]))
    starts = [_trial_starts(run, signal) for signal in (pre, post)]
    steps = max(int(length) for _, _, lengths in starts for length in lengths)
    whole = [{n: s for n, s, length in zip(*each, strict=True) if length == steps} for each in starts]
    numbers = np.array(sorted(whole[0].keys() & whole[1].keys()), int)
    numbers = numbers[-max(1, MOST // (FEWEST * steps * pre.shape[1])) :]
    if not len(numbers):
        raise UsageError(f"{name}: {pre.name} and {post.name} have no trial in common; record the same of both")
    rows = [np.array([of[n] for n in numbers])[:, None] + np.arange(steps) for of in whole]
    shown = pre.sample[rows[0][:, 0]] >= 0
    return Pieces(numbers, rows[0], rows[1], shown / shown.sum(1, keepdims=True))


def _trial_starts(run: Run, signal: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number, first row and steps of each recorded trial."""
    starts = np.flatnonzero(signal.begins)
    return _trial_numbers(run, signal)[starts], starts, np.diff(np.append(starts, len(signal)))


def _trial_numbers(run: Run, signal: Any) -> np.ndarray:
    """Of the trial of each row, counted through the run from 0; -1 before the first one."""
    return np.where(signal.batch < 0, -1, (signal.epoch - 1) * (run.trace.contents.batches or 0) + signal.batch)


def _changes(run: Run, name: str, pieces: Pieces) -> tuple[Any, Changes]:
    """How the weight changed while spikes were recorded, and of which signal that is.

    Raises:
        NotRecorded: with what would say so.
    """
    free, protocol = run.trace.is_free_run, run.definition.protocol
    anew = protocol is not None and any(stage.anew for stage in protocol.build().stages(run.trace.dt))
    measured = [("weight", _of_rows)] * (not anew) + [("dweight", _of_trials)] * (not free)
    found = [
        (signal, of(run, signal, pieces))
        for what, of in measured
        for signal in run.trace.all(what)
        if signal.where == name and len(signal)
    ]
    found = [(signal, changes) for signal, changes in found if len(changes.begin)]
    if not found:
        spec = f"{name}.weight" if free else f"{name}.dweight"
        why = ", whose trials begin with the same weights" if anew else "" if free else " of trials with their spikes"
        raise NotRecorded(f"{name}: a window needs changes of its weight{why}; record {spec}", spec)
    return max(found, key=lambda each: len(each[1].begin))


def _of_rows(run: Run, signal: Any, pieces: Pieces) -> Changes:
    """From each row of a weight to the next one, where all that happened meanwhile was recorded."""
    weight, steps = signal[:].astype(np.float64), pieces.pre.shape[1]
    if run.trace.is_free_run:
        moments = np.round(signal.time / run.trace.dt).astype(int)
        begin, end, known = moments[:-1], moments[1:], (moments[1:] <= steps) & (np.diff(moments) > 0)
    else:
        after = _trial_numbers(run, signal) + 1  # so many trials
        places = np.searchsorted(pieces.numbers, after)
        begin, end = places[:-1] * steps, places[1:] * steps
        known = (np.diff(places) == np.diff(after)) & (np.diff(after) > 0)
    inside = (weight > weight.min()) & (weight < weight.max())
    return Changes(begin[known], end[known], np.diff(weight, axis=0)[known], (inside[1:] & inside[:-1])[known])


def _of_trials(run: Run, signal: Any, pieces: Pieces) -> Changes:
    """The changes that single trials made."""
    numbers, steps = _trial_numbers(run, signal), pieces.pre.shape[1]
    known = np.isin(numbers, pieces.numbers)
    begin = np.searchsorted(pieces.numbers, numbers[known]) * steps
    change = signal[:][known].astype(np.float64)
    return Changes(begin, begin + steps, change, np.ones(change.shape, bool))


def _moving(ends: Any, pre: Any, post: Any, changes: Changes, most: int) -> np.ndarray:
    """Synapses that changed between recorded neurons, evenly taken: (synapse, place of pre, place of post), [S, 3]."""
    places = [{unit: n for n, unit in enumerate(s.items.tolist())} for s in (pre, post)]
    moved = (changes.change != 0).any(0)
    items = enumerate(zip(ends.post.tolist(), ends.pre.tolist(), strict=True))
    kept = [(n, places[0][q], places[1][p]) for n, (p, q) in items if q in places[0] and p in places[1] and moved[n]]
    return np.array(kept[:: math.ceil(len(kept) / max(1, most)) or 1], int).reshape(-1, 3)


def _read(signal: Any, rows: np.ndarray, neurons: np.ndarray) -> np.ndarray:
    """Spikes of neurons, which may be named several times, [P, T, B, S], float32."""
    names, places = np.unique(neurons, return_inverse=True)
    values = signal[rows.ravel(), :, names]
    if signal.what != "spikes" and not np.isin(values, (0, 1)).all():
        raise UsageError(
            f"{signal.where} sends graded values, not spikes, so that no pairs of spikes meet at a synapse"
        )
    return values[..., places].astype(np.float32).reshape(*rows.shape, values.shape[1], len(neurons))


def _later(values: np.ndarray, steps: int) -> np.ndarray:
    """Moved to later steps, within each piece."""
    return values if not steps else np.concatenate([np.zeros_like(values[:, :steps]), values[:, :-steps]], 1)


def _steps(number: int, per: int) -> np.ndarray:
    """The lags of a bin: from 0 on, where an arrival meets the spike that ends as it comes, or below 0."""
    return number * per + np.arange(per)


def _pairs(arrived: np.ndarray, fired: np.ndarray, shown: np.ndarray, changes: Changes, per: int) -> np.ndarray:
    """Pairs in bins of `per` lags that made each change, mean over examples, [lags, N, S]."""
    found, steps = [], arrived.shape[1]
    ended = _later(fired, 1)  # a spike at the end of a step meets what arrives with the next one, and later
    for number in range(-BINS, BINS):
        earlier, later = (arrived, ended) if number >= 0 else (ended, arrived)
        lags = [abs(int(lag)) for lag in _steps(number, per)]
        summed = sum((_later(earlier, lag) for lag in lags if lag < steps), np.zeros_like(earlier))
        met = np.einsum("ptbs,ptbs,pb->pts", later, summed, shown, dtype=np.float64).reshape(-1, arrived.shape[-1])
        so_far = np.concatenate([np.zeros_like(met[:1]), np.cumsum(met, 0)])
        found.append(so_far[changes.end] - so_far[changes.begin])
    return np.stack(found)


def _solved(pairs: np.ndarray, change: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Window, standard error and R2 from pairs [N, lags] and changes [N]."""
    pairs = np.where(pairs > 1e-6, pairs, 0.0)  # sums of shares of examples are not whole numbers
    met = np.asarray(pairs.any(0))
    alone = (pairs > 0).sum(1).max(initial=0) <= 1
    if not met.any() or len(change) < (1 if alone else ENOUGH) * met.sum():
        raise UsageError(
            f"{name}: {len(change)} changes of weights are too few for {met.sum()} lags; record more synapses or rows"
        )
    window, error = np.full((2, len(met)), np.nan)
    chosen = pairs[:, met]
    window[met], *_ = np.linalg.lstsq(chosen, change, rcond=None)
    rest, spare = change - chosen @ window[met], len(change) - int(met.sum())
    if not spare:
        return window, error, np.nan
    error[met] = np.sqrt((rest**2).sum() / spare * np.diag(np.linalg.pinv(chosen.T @ chosen)))
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
    parts = [
        f"{name} {share:.0%}" if np.isfinite(share) else f"{name} unknown, with a lag for each of them"
        for name, share in zip(result.connection, result.explained, strict=True)
    ]
    return (
        f"Change of a weight by one pair of spikes, by least squares. Explained of their changes: {', '.join(parts)}."
        f"{_rest(result)}{' Left out: ' if result.left_out else ''}{'; '.join(result.left_out)}"
    )


def _rest(result: Result) -> str:
    """What else changes weights, where pairs do not explain it."""
    if not (result.explained < FAIR).any():
        return ""
    return " The rest is no sum over pairs: a third factor, rates, an optimizer that scales changes, or bounds."
