"""Does the fingerprint tell supervised from reward learning? The experiment of Portes, Schmid, Murray 2022.

    python benchmarks/rule_fingerprint.py [--json] [--rule sl|rl] [--overlaps .5 1.0] [--seeds 3] [--trials 1500]

A noisy recurrent network (50 units, tanh) moves a cursor, pos = W_bmi h, to one of four targets. It is trained with one
decoder (2,500 trials), the decoder is exchanged, and it learns again: by RFLO with a credit assignment matrix M of
chosen overlap with the new decoder (sl), or by REINFORCE from its own noise (rl, which wants 10,000 trials or more).
500 trials before and after give the flow fields. Printed: Corr(M), Corr(W_bmi1), Corr(W_bmi0), mean and standard
deviation over seeds. Supervised learning shows as Corr(M) > Corr(W_bmi1), reward learning as the reverse.

Source: equations and constants as in the authors' published code; the networks of all overlaps run side by side.
Differs: the halves of the session share no trial (there about half of them do); noise and weights are our own draws.
"""

import argparse
import importlib.util
import json
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

UNITS, CUES, OUTPUTS, STEPS, CUE_STEPS = 50, 4, 2, 20, 4
TAU = 10.0  # steps
NOISE = 0.1  # variance of the recurrent noise
OUT_NOISE = 0.01
ETA = 0.1
TAU_R = 5.0  # trials, of the mean reward of each target
PRETRAINING, RECORDED = 2500, 500
TARGETS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], float)
PUBLISHED = {"sl": {0.4: (0.742, 0.226), 0.5: (0.778, 0.357), 0.6: (0.741, 0.414), 0.7: (0.692, 0.439),
                    0.8: (0.722, 0.482), 0.9: (0.685, 0.588), 1.0: (0.647, 0.647)},
             "rl": {0.5: (0.13, 0.265)}}  # Corr(M), Corr(W_bmi1); rl: middles of the published ranges  # fmt: skip


def fingerprint() -> ModuleType:
    """analysis/rule_fingerprint.py, whose functions are measured here."""
    path = Path(__file__).resolve().parents[1] / "analysis" / "rule_fingerprint.py"
    spec = importlib.util.spec_from_file_location("rule_fingerprint", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Recording(NamedTuple):
    """Trials of all networks."""

    states: np.ndarray  # [network, trial, step, unit]
    errors: np.ndarray  # [network, trial, step, output]


@dataclass
class Networks:
    """Networks side by side: W_rec [N, n, n], W_in [N, n, cues]; and the mean reward of each target [N, cues]."""

    generator: np.random.Generator
    count: int
    w_rec: np.ndarray = field(init=False)
    w_in: np.ndarray = field(init=False)
    mean_reward: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        draw = self.generator
        self.w_rec = 1.5 * draw.standard_normal((self.count, UNITS, UNITS)) / np.sqrt(UNITS)
        self.w_in = 2 * (draw.random((self.count, UNITS, CUES)) - 1)
        self.mean_reward = np.zeros((self.count, CUES))

    def run(self, trials: int, decoder: np.ndarray, m: np.ndarray | None, rule: str = "sl") -> Recording:
        """Trials with a decoder [N, out, n]; learning with M [N, n, out], or not at all if it is None."""
        states = np.zeros((self.count, trials, STEPS, UNITS), np.float32)
        errors = np.zeros((self.count, trials, STEPS, OUTPUTS), np.float32)
        for trial in range(trials):
            change = self.trial(decoder, m, rule, states[:, trial], errors[:, trial])
            if m is not None:
                self.w_rec += ETA / STEPS * change
        return Recording(states, errors)

    def trial(
        self, decoder: np.ndarray, m: np.ndarray | None, rule: str, states: np.ndarray, errors: np.ndarray
    ) -> np.ndarray:
        """One trial of one cue per network, written into states [N, T, n] and errors [N, T, out]; what it teaches."""
        draw, networks = self.generator, np.arange(self.count)
        cue = draw.integers(CUES, size=self.count)
        h, eligible = np.zeros((self.count, UNITS)), np.zeros((self.count, UNITS, UNITS))
        change, reward = np.zeros_like(eligible), np.zeros(self.count)
        for t in range(STEPS):
            previous = h
            drive = np.einsum("nij,nj->ni", self.w_rec, h)
            if t < CUE_STEPS:
                drive += self.w_in[networks, :, cue]
            active, noise = np.tanh(drive), np.sqrt(NOISE) * draw.standard_normal(h.shape)
            h = h + (active + noise - h) / TAU
            pos = np.einsum("noi,ni->no", decoder, h) + OUT_NOISE * draw.standard_normal((self.count, OUTPUTS))
            away = TARGETS[cue] - pos
            states[:, t], errors[:, t] = h, away / (STEPS - t)
            if m is None:
                continue
            gain = (1 - active**2) * (noise if rule == "rl" else 1.0)
            eligible *= 1 - 1 / TAU
            eligible += (gain / TAU)[:, :, None] * previous[:, None, :]
            if rule == "rl":
                reward = -np.sum(away**2, 1)
                change += (reward - self.mean_reward[networks, cue])[:, None, None] * eligible
            else:
                change += np.einsum("nio,no->ni", m, errors[:, t])[:, :, None] * eligible
        self.mean_reward[networks, cue] += (reward - self.mean_reward[networks, cue]) / TAU_R
        return change


def at_overlap(reference: np.ndarray, overlap: float, generator: np.random.Generator) -> np.ndarray:
    """A random matrix of the norm of `reference` whose cosine with it is `overlap`."""
    other = generator.standard_normal(reference.shape)
    other -= reference * np.sum(other * reference) / np.sum(reference**2)
    other *= np.linalg.norm(reference) / np.linalg.norm(other)
    return overlap * reference + np.sqrt(1 - overlap**2) * other


def experiment(rule: str, overlaps: list[float], trials: int, seed: int) -> np.ndarray:
    """Corr of M, W_bmi1, W_bmi0 [overlap, 3], and the mean final distance to the target as a fourth column."""
    metric = fingerprint()
    generator = np.random.default_rng(seed)
    networks = Networks(generator, len(overlaps))
    old = 2 * (2 * generator.random((len(overlaps), OUTPUTS, UNITS)) - 1) / np.sqrt(UNITS)
    new = np.stack([at_overlap(w, 0.5, generator) for w in old])
    m = np.stack([at_overlap(w, overlap, generator) for w, overlap in zip(new, overlaps, strict=True)])
    networks.run(PRETRAINING, old, old.swapaxes(1, 2))
    early = networks.run(RECORDED, new, None)
    session = networks.run(trials, new, m.swapaxes(1, 2), rule)
    late = networks.run(RECORDED, new, None)
    table = np.zeros((len(overlaps), 4))
    for k in range(len(overlaps)):
        observed = metric.flow_field(late.states[k]) - metric.flow_field(early.states[k])
        train, test = metric.halves(trials, generator)
        errors, states = session.errors[k, train], session.states[k, train]
        for i, w in enumerate((m[k], new[k], old[k])):
            table[k, i] = metric.metric(metric.predicted(w, errors, states), observed, session.states[k, test])
        table[k, 3] = np.linalg.norm(late.errors[k, :, -1], axis=-1).mean()
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rule", choices=("sl", "rl"), default="sl")
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=1500)
    given = parser.parse_args()
    start = time.perf_counter()
    tables = np.stack([experiment(given.rule, given.overlaps, given.trials, seed) for seed in range(given.seeds)])
    seconds = time.perf_counter() - start
    mean, std = tables.mean(0), tables.std(0)
    names = ("corr_m", "corr_bmi1", "corr_bmi0", "final_distance")
    rows = [
        {"overlap": o, **dict(zip(names, mean[k].tolist(), strict=True)), "std": std[k].tolist()}
        for k, o in enumerate(given.overlaps)
    ]
    if given.json:
        print(json.dumps({"rule": given.rule, "seeds": given.seeds, "trials": given.trials, "rows": rows}))
        return
    print(f"{given.rule}, {given.trials} trials, {given.seeds} seeds; numpy {np.__version__}, {platform.processor()}")
    print(
        "overlap(M, W_bmi1)   Corr(M)        Corr(W_bmi1)   Corr(W_bmi0)   distance at the end   published: M, W_bmi1"
    )
    for k, o in enumerate(given.overlaps):
        cells = "   ".join(f"{mean[k, i]:5.2f} +- {std[k, i]:.2f}" for i in range(3))
        published = PUBLISHED[given.rule].get(o)
        said = f"{published[0]:.2f}, {published[1]:.2f}" if published else "-"
        print(f"{o:18.1f}   {cells}   {mean[k, 3]:.2f} +- {std[k, 3]:.2f}          {said}")
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    main()
