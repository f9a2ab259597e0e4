"""What an expansion of the score gains: validation accuracy of SBD with every form of it against SBD without.

    python benchmarks/expansions.py [--model cifar10-small] [--seeds 3] [--forms base bartlett ...] [--train 500]
                                    [--validation 200] [--set KEY=VALUE ...] [--out expansions.json]

Trains on the first images of each class of the training set and validates on its last ones; the test set is not
touched. Seed by seed, all forms of a seed start from the same weights and projection and see the same batches, so that
differences are paired. Prints mean and 95 % interval (Student's t) of accuracy and difference. --out keeps every run;
runs that are there already are not repeated. Forms with a * are alterations that the engine does not offer.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from validation import held_out

from neurosbd.datasets.load import Dataset
from neurosbd.errors import RunError, UsageError
from neurosbd.experiment.definition import Definition
from neurosbd.experiment.lessons import DatasetLessons
from neurosbd.experiment.machine import provenance
from neurosbd.experiment.resolve import load_model, parse_setting
from neurosbd.experiment.session import Session
from neurosbd.learners import LocalLearner
from neurosbd.process import Expansion, Scored
from neurosbd.seeds import generator


class Form(NamedTuple):
    """One way to expand the score."""

    expansion: tuple[dict[str, Any], ...] = ()
    forgetting: float = 0.998  # of the rows of R that belong to the expansion
    activations: tuple[str, ...] = ("identity",)  # functions of the activity, besides
    start: float = 0.0  # standard deviation of the rows of R0 that belong to the expansion *
    tied: bool = False  # those rows are the rows of R0 of the score, class by class *
    louder: float = 1.0  # factor on all of R0, the control of a tied start *
    per_column: bool = False  # every column, not the block, is made as loud as the others *


BARTLETT, TOP, INPUT = {"kind": "bartlett"}, {"kind": "gated"}, {"kind": "gated", "source": "input"}
FORECAST = {"kind": "gated", "source": "forecast", "features": 0}
WHICH = {
    "bartlett": (BARTLETT,),
    "bartlett, 16 random forms": ({**BARTLETT, "features": 16},),
    "forecast": (FORECAST,),
    "top, 4 features": (TOP,),
    "top, 16 features": ({**TOP, "features": 16},),
    "input, 4 features": (INPUT,),
    "input, 16 features": ({**INPUT, "features": 16},),
    "another, brier": ({"kind": "another"},),
    "another, spherical": ({"kind": "another", "loss": "spherical"},),
    "coarse": ({"kind": "coarse"},),
    "top and bartlett": (TOP, BARTLETT),
}
HOW: dict[str, dict[str, Any]] = {"bartlett": BARTLETT, "top, 4 features": TOP}
FORMS = {
    "base": Form(),
    **{name: Form(blocks) for name, blocks in WHICH.items()},
    **{f"{n}, weight {w:g}": Form(({**b, "weight": w},)) for n, b in HOW.items() for w in (0.3, 2.0, 4.0)},
    **{f"{n}, lam {lam:g}": Form((b,), lam) for n, b in HOW.items() for lam in (0.9, 0.98, 0.9995)},
    **{f"*{n}, random start": Form((b,), start=0.02) for n, b in HOW.items()},
    **{f"*{n}, per column": Form((b,), per_column=True) for n, b in HOW.items()},
    "*another, brier, tied start": Form(WHICH["another, brier"], tied=True),
    "*coarse, tied start": Form(WHICH["coarse"], tied=True),
    "*another, spherical, tied start": Form(WHICH["another, spherical"], tied=True),
    "*forecast, tied start": Form(WHICH["forecast"], tied=True),
    "*another, brier, tied start, per column": Form(WHICH["another, brier"], tied=True, per_column=True),
    "*base, R0 x 1.5": Form(louder=1.5),
    "*base, R0 x 2": Form(louder=2.0),
    "identity and square": Form(activations=("identity", "square")),
    "identity and tanh": Form(activations=("identity", "tanh")),
    "identity, cosine, sine": Form(activations=("identity", "cosine", "sine")),
    "tanh alone": Form(activations=("tanh",)),
}


@dataclass(frozen=True)
class PerColumn:
    """A block whose columns all have the same running second moment."""

    block: Expansion

    @property
    def weight(self) -> float:
        """That of the block."""
        return self.block.weight

    def width(self, scored: Scored) -> int:
        """That of the block."""
        return self.block.width(scored)

    def init(self, scored: Scored, generator: torch.Generator) -> Any:
        """State of the block, and a moment per column."""
        return self.block.init(scored, generator), scored.score.new_zeros(self.width(scored))

    def step(self, state: Any, scored: Scored, dt: float) -> tuple[Tensor, Any]:
        """By the moments of earlier batches."""
        columns, inner = self.block.step(state[0], scored, dt)
        moments = torch.lerp(columns.square().sum(0), state[1], 0.99)
        return columns * torch.where(state[1] > 0, state[1].clamp_min(1e-30).rsqrt(), 0.0), (inner, moments)


def altered(session: Session, form: Form) -> None:
    """Make a session what a form asks for beyond the engine."""
    learner = session.learner
    assert isinstance(learner, LocalLearner)
    rule = learner.rule
    if form.per_column:
        rule = replace(rule, expansion=tuple(PerColumn(block) for block in rule.expansion))
    if rule is not learner.rule:
        drawn = generator(session.definition.seed, "projection")
        session.learner = learner = LocalLearner(session.network, session.loss, rule, drawn)
    for state in learner.memory.modulators.values():
        state.frozen.mul_(form.louder)
    if form.start:
        drawn = generator(session.definition.seed, "start")
        for state in learner.memory.modulators.values():
            rows = state.frozen[-learner.memory.expanded :]
            rows.copy_(torch.randn(rows.shape, generator=drawn) * form.start)
    if form.tied:
        for state in learner.memory.modulators.values():
            own = state.frozen[: -learner.memory.expanded]
            state.frozen[-learner.memory.expanded :] = own.repeat(learner.memory.expanded // len(own), 1)


def trained(definition: Definition, data: Dataset, form: Form) -> dict[str, Any]:
    """Accuracies in the end and time per epoch."""
    place = torch.device("cpu")
    session = Session(definition, DatasetLessons(definition, data, place), place)
    altered(session, form)
    start, train = time.process_time(), math.nan
    while session.epoch < definition.training.epochs:
        for _ in range(len(session.lessons)):
            session.step()
        train = session.tally.read()["accuracy"]
        session.next_epoch()
    seconds = (time.process_time() - start) / definition.training.epochs
    expanded = session.learner.memory.expanded if isinstance(session.learner, LocalLearner) else 0
    return {
        "accuracy": session.evaluate()["accuracy"],
        "train": train,
        "columns": expanded,
        "cpu_seconds_per_epoch": seconds,
    }


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval."""
    if len(values) < 2:
        return float(values.mean()), math.nan
    factor = stats.t.ppf(0.975, len(values) - 1) / math.sqrt(len(values))
    return float(values.mean()), float(factor * values.std(ddof=1))


def table(runs: dict[str, dict[str, Any]], forms: list[str], seeds: int) -> str:
    """A line per form, of the seeds that it has in common with the base."""
    heads = ("form", "columns", "accuracy, %", "gain, points", "n", "CPU s per epoch")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name in forms:
        common = [s for s in range(seeds) if f"{name}/{s}" in runs and f"base/{s}" in runs]
        if not common:
            continue
        own = [runs[f"{name}/{s}"] for s in common]
        mine = 100 * np.array([run["accuracy"] for run in own])
        gain = mine - 100 * np.array([runs[f"base/{s}"]["accuracy"] for s in common])
        (mean, half), (more, spread) = interval(mine), interval(gain)
        cost = np.median([run["cpu_seconds_per_epoch"] for run in own])
        change = "" if name == "base" else f"{more:+.1f} +- {spread:.1f}"
        lines.append(
            f"| {name} | {own[0]['columns']} | {mean:.1f} +- {half:.1f} | {change} | {len(common)} | {cost:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-small")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0..N-1")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), metavar="FORM")
    parser.add_argument("--train", type=int, default=500, help="training examples per class")
    parser.add_argument("--validation", type=int, default=200, help="others of the training set, per class")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="JSON file with every run")
    options = parser.parse_args()
    asked = dict(parse_setting(text) for text in options.set)
    runs: dict[str, dict[str, Any]] = {}
    if options.out and options.out.exists():
        runs = json.loads(options.out.read_text())["runs"]
    try:
        data = held_out(load_model(options.model, "sbd", asked).data.name, options.train, options.validation)
        for seed in range(options.seeds):
            for name in options.forms:
                if f"{name}/{seed}" in runs:
                    continue
                form = FORMS[name]
                expanded = {
                    "rule.expansion": form.expansion,
                    "rule.expansion_forgetting": form.forgetting,
                    "rule.activations": form.activations,
                }
                definition = load_model(options.model, "sbd", asked | {"seed": seed} | expanded)
                runs[f"{name}/{seed}"] = trained(definition, data, form)
                print(f"seed {seed}, {name}: {runs[f'{name}/{seed}']}", file=sys.stderr, flush=True)
                if options.out:
                    about = provenance(torch.device("cpu")) | {"model": options.model, "settings": asked}
                    about |= {"train": options.train, "validation": options.validation}
                    varied = {"expansion", "expansion_forgetting", "activations"}
                    about |= {"rule": definition.rule.model_dump(mode="json", exclude=varied)}
                    options.out.write_text(json.dumps({"about": about, "runs": runs}, indent=1))
    except (UsageError, RunError) as problem:
        sys.exit(str(problem))
    print(table(runs, options.forms, options.seeds))


if __name__ == "__main__":
    main()
