"""Which learning rule changed a recurrent population? The change of its flow field against what each rule predicts.

The flow field F is the best linear guess of the next state, F = argmin sum ||h(t + 1) - F h(t)||^2, without intercept.

    dF_obs     = F_late - F_early
    dF_pred(W) = sum over trials and steps of (W^T err(t)) h(t)^T
    Corr(W)    = mean over states h of cos(dF_pred(W) h, dF_obs h)

W [outputs, units] is a hypothesis about how the error reaches the units: the readout (symmetric feedback), the recorded
projection, a random matrix. A rule that learns from its own noise changes weights along Sigma W^T err, with Sigma the
covariance of that noise; if Corr of the readout is only high with Sigma, that is the signature of such a rule.

The batches of a run, in order, are cut into thirds: early, session, late. err = -score and h in dF_pred come from one
half of the trials of the session, the states of the mean from the other half. (The authors' code takes the mirrored
trials n - 1 - i in place of the other half, so that about half of them are used twice.) Corr is the mean over several
such splits. Spikes are filtered first, h(t) = a h(t - 1) + (1 - a) z(t), a = exp(-dt / tau_mem).

Source: Portes, Schmid, Murray 2022, NeurIPS 35 (Distinguishing learning rules with brain machine interfaces).
Differs: there, early and late trials are recorded before and after the session, with learning off; here the run goes on
learning, so the flow fields are means over thirds. The prediction ignores the gains of the units, here as there, and
the optimizer: it is that of plain gradient descent.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurosbd import Run, UsageError
from neurosbd.report import COLOURS, panels, quantity_field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLITS = 10  # of the session into halves
RANDOM = 20  # matrices of the null hypothesis
MOST_VALUES = 10_000_000  # of the states of a third; batches are thinned out evenly
MOST_STATES = 4000  # in a mean of cosines
TAU = 20e-3  # s, filter of spikes whose neuron has no tau_mem
CLEAR = 2.0  # change over scatter of the flow field below which Corr says little
RECORD = '--record "POPULATION.rate" (or .spikes), --record score, --record "POPULATION.projection"'


@dataclass(frozen=True)
class Result:
    """Corr of every hypothesis.

    corr: of W; with_noise: of Sigma W, Sigma from the residuals of F_early.
    spread: standard deviation of corr over splits of the session (and over matrices, of the random ones).
    overlap: |<A, B>| / (||A|| ||B||) of two hypotheses: those above about 0.9 cannot be told apart.
    change: ||dF_obs h|| / ||F_early h|| over the states h of the session; clarity: ||dF_obs h|| over what it would be
        from the scatter of the estimate alone.
    explained: share of the variance of h(t + 1) that F_early h(t) explains.
    """

    population: str = quantity_field("1")
    hypothesis: tuple[str, ...] = quantity_field("1")
    corr: np.ndarray = quantity_field("1", "hypothesis")
    spread: np.ndarray = quantity_field("1", "hypothesis")
    with_noise: np.ndarray = quantity_field("1", "hypothesis")
    overlap: np.ndarray = quantity_field("1", "hypothesis", "hypothesis")
    change: float = quantity_field("1")
    clarity: float = quantity_field("1")
    explained: float = quantity_field("1")
    trials: np.ndarray = quantity_field("1", "third")


def flow_field(trajectories: np.ndarray) -> np.ndarray:
    """F [unit, unit] that best maps every state onto the next one of its trial, by least squares, no intercept.

    Args:
        trajectories: h [trial, step, unit].
    """
    units = trajectories.shape[-1]
    before, after = trajectories[:, :-1].reshape(-1, units), trajectories[:, 1:].reshape(-1, units)
    return np.linalg.lstsq(before, after, rcond=None)[0].T


def predicted(
    weights: np.ndarray,
    errors: np.ndarray,
    states: np.ndarray,
    sigma: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> np.ndarray:
    """Change of the flow field that a rule would make, up to a positive factor: sum (W^T err) h^T, [unit, unit].

    Args:
        weights: W [output, unit].
        errors: err = target - output, or -score, [..., output].
        states: h of the same moments, [..., unit].
        sigma: covariance of the noise a rule explores with, [unit, unit]: Sigma (W^T err) h^T.
        seen: D [unit, unit], the projection of the state that drives a closed loop: (W^T err) (D h)^T D.
    """
    change = weights.T @ (errors.reshape(-1, errors.shape[-1]).T @ states.reshape(-1, states.shape[-1]))
    change = change if seen is None else change @ seen.T @ seen
    return change if sigma is None else sigma @ change


def metric(predicted: np.ndarray, observed: np.ndarray, states: np.ndarray) -> float:
    """Mean over states h of cos(predicted h, observed h); NaN if it is nowhere defined.

    Args:
        predicted: change of the flow field [unit, unit].
        observed: change of the flow field [unit, unit].
        states: h [..., unit].
    """
    h = states.reshape(-1, states.shape[-1])
    a, b = h @ predicted.T, h @ observed.T
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    there = length > 0
    return float(np.mean(np.sum(a[there] * b[there], 1) / length[there])) if there.any() else np.nan


def halves(trials: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of 0..trials-1, drawn at random, that share no trial."""
    order = generator.permutation(trials)
    return order[: trials // 2], order[trials // 2 :]


class Third(NamedTuple):
    """Trials of a third of the run."""

    states: np.ndarray  # [trial, step, unit]
    errors: np.ndarray  # [trial, step, output]


def analyse(run: Run) -> Result:
    """Corr of the hypotheses for the recurrent population that was recorded.

    Needs `rate` or `spikes` of a population with a connection onto itself, every step, and `score`, both of the same
    examples; hypotheses are the readout weights at the start (drawn again if not recorded) and in the middle of the
    session (if `weight` was recorded), the `projection` at the start and in the middle, and random matrices.

    Raises:
        NotRecorded: if a signal is missing.
        UsageError: if no population is recurrent, or there are too few trials.
    """
    states, score = _signals(run)
    early, session, late = _thirds(run, states, score)
    hypotheses = _hypotheses(run, states, score)
    before, after = flow_field(early.states), flow_field(late.states)
    observed = after - before
    residual = early.states[:, 1:] - early.states[:, :-1] @ before.T
    flat = residual.reshape(-1, residual.shape[-1])
    noise = np.cov(flat.T)
    generator = np.random.default_rng(0)
    corr, spread = _corr(hypotheses, session, observed, None, generator)
    first, second = halves(len(early.states), generator)
    h = session.states.reshape(-1, len(noise))
    moved, mapped = np.linalg.norm(h @ observed.T), np.linalg.norm(h @ before.T)
    # Two halves scatter by sqrt(2) more than two wholes.
    apart = (flow_field(early.states[first]) - flow_field(early.states[second])) / np.sqrt(2)
    scatter = np.linalg.norm(h @ apart.T)
    return Result(
        states.where,
        (*hypotheses, "random"),
        corr,
        spread,
        _corr(hypotheses, session, observed, noise, generator)[0],
        _overlaps(list(hypotheses.values())),
        float(moved / mapped) if mapped > 0 else np.nan,
        float(moved / scatter) if scatter > 0 else np.nan,
        float(1 - flat.var(0).sum() / early.states[:, 1:].reshape(-1, flat.shape[1]).var(0).sum()),
        np.array([len(third.states) for third in (early, session, late)]),
    )


def _signals(run: Run) -> tuple[Any, Any]:
    """States of a recurrent population, and the score of the same moments."""
    recurrent = [c.pre for c in run.definition.connection if c.pre == c.post]
    readout = list(run.definition.population)[-1]
    recurrent = [name for name in recurrent if name != readout]
    if not recurrent:
        raise UsageError(
            f"{run.path}: no hidden population has a connection onto itself, so it has no flow field of its own; the "
            f"fingerprint needs one (as in pattern-generation) and {RECORD}"
        )
    signals = run.trace.need("rate", "spikes", on="train")
    states = next((s for s in signals if s.where in recurrent), None)
    if states is None:
        states = run.trace[f"{recurrent[0]}.{signals[0].what}"]  # says how to record it
    score = run.trace.need("score", on="train")[0]
    same = np.array_equal(states.examples, score.examples)
    if not same or any(not np.array_equal(getattr(states, c), getattr(score, c)) for c in ("epoch", "batch", "step")):
        raise UsageError(
            f"{run.path}: '{states.name}' and 'score' were not recorded of the same examples and steps; give both the "
            f"same filters, [every=...] and [examples=...]"
        )
    return states, score


def _thirds(run: Run, states: Any, score: Any) -> list[Third]:
    """Early, session and late trials, spikes filtered."""
    starts = np.flatnonzero(np.diff(states.epoch, prepend=-1) | np.diff(states.batch, prepend=-2))
    lengths = np.diff(np.append(starts, len(states)))
    starts = starts[lengths == lengths.max(initial=0)]  # without one cut off at the end
    steps, (_, examples, units) = int(lengths.max(initial=0)), states.shape
    per_third = len(starts) // 3
    if steps < 2 or per_third < 1 or per_third * examples < 2 or per_third * examples * (steps - 1) < 2 * units:
        raise UsageError(
            f"{run.path}: {len(starts)} batches of {examples} recorded examples and {steps} steps are too few for the "
            f"flow field of {units} units; record at least 6 trials with {2 * units} steps in every third of the run "
            f"(more epochs, more examples, or fewer neurons)"
        )
    decay = _decay(run, states)
    most = max(1, MOST_VALUES // (examples * steps * units))
    parts = [starts[:per_third], starts[per_third:-per_third], starts[-per_third:]]
    return [_third(states, score, part[:: -(-len(part) // most)], steps, decay) for part in parts]


def _third(states: Any, score: Any, starts: np.ndarray, steps: int, decay: float) -> Third:
    h, err = [], []
    for start in starts:
        rows = slice(int(start), int(start) + steps)
        there = states.sample[start] >= 0
        h.append(_filtered(states[rows][:, there].astype(np.float64), decay).swapaxes(0, 1))
        err.append(-score[rows][:, there].astype(np.float64).swapaxes(0, 1))
    return Third(np.concatenate(h), np.concatenate(err))


def _decay(run: Run, states: Any) -> float:
    """Of the filter of spikes; 0 leaves a rate as it is."""
    if states.what == "rate":
        return 0.0
    tau = getattr(run.definition.population[states.where].neuron, "tau_mem", TAU)
    return float(np.exp(-run.trace.dt / (tau if isinstance(tau, int | float) else TAU)))


def _filtered(z: np.ndarray, decay: float) -> np.ndarray:
    """h(t) = decay h(t - 1) + (1 - decay) z(t) along the first axis, in place."""
    z *= 1 - decay
    for t in range(1, len(z)) if decay else ():
        z[t] += decay * z[t - 1]
    return z


def _hypotheses(run: Run, states: Any, score: Any) -> dict[str, np.ndarray]:
    """Name -> W [output, recorded unit]."""
    outputs, units, population = score.shape[-1], int(np.prod(states.size)), states.where
    readout = list(run.definition.population)[-1]
    moment = float(np.median(states.time))
    found = {}
    for name, label in ((f"{population}->{readout}.weight", "readout"), (f"{population}.projection", "projection")):
        there = name in run.trace and run.trace[name].shape[-1] == outputs * units
        rows = {"at the start": 0, "in mid-session": _nearest(run.trace[name].time, moment)} if there else {}
        for when, row in rows.items():
            w = run.trace[name][row].astype(np.float64).reshape(outputs, units)
            if not any(np.array_equal(w, other) for other in found.values()):
                found[f"{label} {when}"] = w
    if "readout at the start" not in found:
        weight = dict(run.definition.network().weights.items()).get(f"{population}->{readout}")
        if weight is not None and weight.shape == (outputs, units):
            found = {"readout at the start": weight.detach().double().numpy()} | found
    if not found:
        raise UsageError(
            f"{run.path}: there is no hypothesis to test: {population} does not reach {readout} by a dense connection, "
            f'and no projection of {outputs} outputs was recorded; run again with --record "{population}.projection"'
        )
    return {name: w[:, states.items] for name, w in found.items() if np.linalg.norm(w) > 0}


def _nearest(times: np.ndarray, moment: float) -> int:
    return int(np.argmin(np.abs(times - moment)))


def _corr(
    hypotheses: dict[str, np.ndarray],
    session: Third,
    observed: np.ndarray,
    sigma: np.ndarray | None,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of Corr over splits, for every hypothesis and the random matrices behind them."""
    shape = session.errors.shape[-1], session.states.shape[-1]
    found = []
    for _ in range(SPLITS):
        train, test = halves(len(session.states), generator)
        states = session.states[test].reshape(-1, shape[1])
        states = states[generator.permutation(len(states))[:MOST_STATES]]
        null = [generator.standard_normal(shape) for _ in range(RANDOM // SPLITS)]
        errors, h = session.errors[train], session.states[train]
        found.append([metric(predicted(w, errors, h, sigma), observed, states) for w in (*hypotheses.values(), *null)])
    table, known = np.array(found), len(hypotheses)
    mean, std = table[:, :known].mean(0), table[:, :known].std(0)
    return np.append(mean, table[:, known:].mean()), np.append(std, table[:, known:].std())


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """|<A, B>| / (||A|| ||B||)."""
    return float(abs(np.sum(a * b)) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _overlaps(matrices: list[np.ndarray]) -> np.ndarray:
    """Overlap of each with each; NaN for the random ones, which are many."""
    table = np.full((len(matrices) + 1, len(matrices) + 1), np.nan)
    for i, a in enumerate(matrices):
        table[i, : len(matrices)] = [overlap(a, b) for b in matrices]
    return table


def figure(result: Result) -> "Figure":
    """Corr of every hypothesis, and how alike the hypotheses are."""
    known = len(result.hypothesis) - 1
    drawing, (left, right) = panels(2, width=4.6, height=1.8 + 0.45 * known)
    places = np.arange(known + 1)
    low, high = result.corr[-1] - 2 * result.spread[-1], result.corr[-1] + 2 * result.spread[-1]
    left.axvspan(low, high, color="0.9", lw=0, label="random matrices, 2 s.d.")
    left.axvline(0, color="0.6", lw=0.8)
    left.errorbar(result.corr[:-1], places[:-1], xerr=result.spread[:-1], fmt="o", color=COLOURS[0], label="W")
    left.plot(result.with_noise[:-1], places[:-1] + 0.15, "D", ms=4, mfc="none", color=COLOURS[1], label="Sigma W")
    left.errorbar(result.corr[-1:], places[-1:], xerr=result.spread[-1:], fmt="o", color="0.4")
    left.set_yticks(places, result.hypothesis)
    left.set(xlabel="Corr", xlim=(-1.05, 1.05), ylim=(known + 0.5, -0.5), title=f"fingerprint of {result.population}")
    drawing.legend(loc="outside lower left", ncols=3, fontsize=8, frameon=False)
    table = result.overlap[:known, :known]
    image = right.imshow(table, vmin=0, vmax=1, cmap="Greys")
    for (y, x), value in np.ndenumerate(table):
        right.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color="w" if value > 0.6 else "k")
    right.set_xticks(places[:-1], result.hypothesis[:-1], rotation=30, ha="right")
    right.set_yticks(places[:-1], result.hypothesis[:-1])
    right.set_title("overlap of the hypotheses")
    drawing.colorbar(image, ax=right, shrink=0.8).ax.tick_params(labelsize=8)
    return drawing


def caption(result: Result) -> str:
    """Which hypothesis fits best, against the random ones."""
    order = np.argsort(-np.nan_to_num(result.corr[:-1], nan=-2))
    best = [f"{result.hypothesis[i]} {result.corr[i]:.2f} (with Sigma {result.with_noise[i]:.2f})" for i in order]
    return (
        f"How well each hypothesis about the feedback predicts the change of the flow field of {result.population}: "
        f"{', '.join(best)}; random matrices {result.corr[-1]:.2f} +- {result.spread[-1]:.2f}. The field changed by "
        f"{result.change:.0%} of its norm, {result.clarity:.1f} times the scatter of its estimate, over "
        f"{result.trials.sum()} trials."
    )


def advice(result: Result) -> list[str]:
    """When the fingerprint should not be trusted."""
    found = []
    if not result.clarity >= CLEAR:
        found.append(
            f"{result.population}: its flow field changed only {result.clarity:.1f} times as much as its estimate "
            f"scatters, so the fingerprint says little; record more trials, or train longer."
        )
    best = int(np.nanargmax(np.abs(result.corr[:-1]))) if np.isfinite(result.corr[:-1]).any() else None
    if best is None or abs(result.corr[best] - result.corr[-1]) < 2 * result.spread[-1]:
        found.append(
            f"{result.population}: no hypothesis predicts the change of the flow field better than random matrices do. "
            f"The metric wants noisy dynamics and many trials; adam, learning input weights and a frozen input hide "
            f"what the recurrent weights learned."
        )
    if result.explained < 0.2:
        found.append(
            f"{result.population}: a linear flow field explains only {result.explained:.0%} of the next state; read "
            f"the fingerprint with caution."
        )
    return found
