"""What an expansion of the score gains: validation of SBD with every form of it against SBD without.

    python benchmarks/expansions.py [--model cifar10-small] [--seeds 3] [--forms base bartlett ...] [--train 500]
                                    [--validation 200] [--set KEY=VALUE ...] [--out expansions.json]

Trains on the first examples of the training set (of each class, if it has classes) and validates on its last ones; the
test set is not touched. Judged by what judges a run of the model (accuracy, R², explained deviance) and by the loss.
Seed by seed, all forms of a seed start from the same weights and projection and see the same batches, so that
differences are paired. Prints mean and standard deviation over the seeds; of the difference to the base its mean, its
95 % interval (Student's t) and, in brackets, how many standard errors it is from 0. A form that the loss of the model
does not admit is left out, with the reason. --out keeps every run; runs that are there already are not repeated. Forms
with a * are alterations that the engine does not offer.
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
from validation import held_out, judged_by

from neurosbd.config.definition import Definition
from neurosbd.config.resolve import load_model, parse_setting
from neurosbd.datasets.load import Dataset
from neurosbd.errors import RunError, UsageError
from neurosbd.expansions.expansion import Expansion
from neurosbd.learning.learner import Learner
from neurosbd.learning.online import LocalRule
from neurosbd.learning.rule_state import LocalState
from neurosbd.measures import MEASURES
from neurosbd.neuromodulators.neuromodulator import Broadcast
from neurosbd.runs.batches import DatasetBatches
from neurosbd.runs.machine import provenance
from neurosbd.seeds import generator
from neurosbd.training.session import Session


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
WAVES = {"kind": "waves"}
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
    "another, poisson": ({"kind": "another", "loss": "poisson"},),
    "coarse": ({"kind": "coarse"},),
    "waves": (WAVES,),
    "top and bartlett": (TOP, BARTLETT),
    "waves and bartlett": (WAVES, BARTLETT),
}
HOW: dict[str, dict[str, Any]] = {"bartlett": BARTLETT, "top, 4 features": TOP, "waves": WAVES}
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

    def width(self, broadcast: Broadcast) -> int:
        """That of the block."""
        return self.block.width(broadcast)

    def init(self, broadcast: Broadcast, generator: torch.Generator) -> Any:
        """State of the block, and a moment per column."""
        return self.block.init(broadcast, generator), broadcast.score.new_zeros(self.width(broadcast))

    def columns(self, state: Any, broadcast: Broadcast) -> Tensor:
        """By the moments of earlier batches."""
        scale = torch.where(state[1] > 0, state[1].clamp_min(1e-30).rsqrt(), 0.0)
        return self.block.columns(state[0], broadcast) * scale

    def statistics(self, state: Any, broadcast: Broadcast) -> tuple[Tensor, ...]:
        """Moments of this batch, and what the block follows."""
        columns = self.block.columns(state[0], broadcast)
        return columns.square().sum(0), *self.block.statistics(state[0], broadcast)

    def update(self, state: Any, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Any:
        """Both with this batch in them."""
        moments, *inner = sums
        return self.block.update(state[0], tuple(inner), broadcast), torch.lerp(moments, state[1], 0.99)


def altered(session: Session, form: Form) -> None:
    """Make a session what a form asks for beyond the engine."""
    learner = session.learner
    rule = learner.rule
    assert isinstance(rule, LocalRule)
    if form.per_column:
        rule = replace(rule, expansion=tuple(PerColumn(block) for block in rule.expansion))
    if rule is not learner.rule:
        drawn = generator(session.definition.seed, "projection")
        session.learner = learner = Learner(session.network, rule, session.loss, drawn)
    learned = learner.state
    assert isinstance(learned, LocalState)
    for state in learned.modulators.values():
        state.frozen.mul_(form.louder)
    if form.start:
        drawn = generator(session.definition.seed, "start")
        for state in learned.modulators.values():
            rows = state.frozen[-learned.n_expanded :]
            rows.copy_(torch.randn(rows.shape, generator=drawn) * form.start)
    if form.tied:
        for state in learned.modulators.values():
            own = state.frozen[: -learned.n_expanded]
            state.frozen[-learned.n_expanded :] = own.repeat(learned.n_expanded // len(own), 1)


def trained(definition: Definition, data: Dataset, form: Form) -> dict[str, Any]:
    """What it is judged by and the loss in the end, and time per epoch."""
    place = torch.device("cpu")
    experiment = definition.build()
    session = Session(experiment, DatasetBatches(experiment, data, place), place)
    altered(session, form)
    merit = judged_by(session).name
    start, train = time.process_time(), math.nan
    while session.epoch < definition.training.epochs:
        for _ in range(len(session.batches)):
            session.step()
        train = session.metric_sums.read()[merit]
        session.next_epoch()
    seconds = (time.process_time() - start) / definition.training.epochs
    found = session.evaluate()
    return {
        "measure": merit,
        "value": found[merit],
        "train": train,
        "loss": found["loss"],
        "columns": session.learner.rule.n_expanded(session.learner.state),
        "cpu_seconds_per_epoch": seconds,
    }


def change(values: np.ndarray, digits: int) -> str:
    """Mean of paired differences, half the width of its 95 % interval, and the mean in standard errors."""
    mean = float(values.mean())
    if len(values) < 2:
        return f"{mean:+.{digits}f}"
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return f"{mean:+.{digits}f} +- {half:.{digits}f}" + (f" ({mean / error:+.1f})" if error else "")


def table(runs: dict[str, dict[str, Any]], forms: list[str], seeds: int) -> str:
    """A line per form, of the seeds that it has in common with the base."""
    lines = []
    for name in forms:
        common = [s for s in range(seeds) if f"{name}/{s}" in runs and f"base/{s}" in runs]
        if not common:
            continue
        own, base = ([runs[f"{form}/{s}"] for s in common] for form in (name, "base"))
        mine, theirs = (100 * np.array([run["value"] for run in side]) for side in (own, base))
        loss, before = (np.array([run["loss"] for run in side]) for side in (own, base))
        gain = ["", ""] if name == "base" else [change(mine - theirs, 2), change(loss - before, 4)]
        spread = f" +- {mine.std(ddof=1):.2f}" if len(common) > 1 else ""
        cost = np.median([run["cpu_seconds_per_epoch"] for run in own])
        cells = (name, own[0]["columns"], f"{mine.mean():.2f}{spread}", gain[0], f"{loss.mean():.4f}", gain[1])
        lines.append(f"| {' | '.join(map(str, cells))} | {len(common)} | {cost:.2f} |")
    if not lines:
        return "no form has a seed in common with the base"
    merit = MEASURES[next(iter(runs.values()))["measure"]].title
    heads = ("form", "columns", f"{merit}, %", "gain, points", "loss", "its change", "n", "CPU s per epoch")
    return "\n".join([f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|", *lines])


def defined(options: argparse.Namespace, form: Form, seed: int) -> Definition:
    """The model under sbd, with the settings that were asked for and those of a form."""
    expanded = {
        "rule.expansion": form.expansion,
        "rule.neuromodulator.expanded": form.forgetting,
        "rule.neuromodulator.activations": form.activations,
    }
    return load_model(options.model, "sbd", settings(options) | {"seed": seed} | expanded)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for by --set."""
    return dict(parse_setting(text) for text in options.set)


def study(options: argparse.Namespace, runs: dict[str, dict[str, Any]]) -> None:
    """Train every form with every seed that is not in `runs` yet, and put it there."""
    plain = defined(options, FORMS["base"], 0)
    if plain.task is not None:
        raise UsageError(f"{plain.name} learns a task, which has no training set; choose a model with data")
    data = held_out(plain.data.name, options.train, options.validation)
    refused: set[str] = set()
    for seed in range(options.seeds):
        for name in options.forms:
            if f"{name}/{seed}" in runs or name in refused:
                continue
            try:
                found = trained(defined(options, FORMS[name], seed), data, FORMS[name])
            except UsageError as problem:  # an expansion that this loss does not have
                if not FORMS[name].expansion:
                    raise
                refused.add(name)
                print(f"{name}: left out, {problem}", file=sys.stderr, flush=True)
                continue
            runs[f"{name}/{seed}"] = found
            print(f"seed {seed}, {name}: {found}", file=sys.stderr, flush=True)
            if options.out:
                keep(options, plain, runs)


def keep(options: argparse.Namespace, plain: Definition, runs: dict[str, dict[str, Any]]) -> None:
    """Write all runs so far, and what they have in common."""
    about = provenance(torch.device("cpu")) | {"model": options.model, "settings": settings(options)}
    about |= {"train": options.train, "validation": options.validation}
    varied = {"expansion", "expansion_forgetting", "activations"}
    about |= {"rule": plain.rule.model_dump(mode="json", exclude=varied)}
    options.out.write_text(json.dumps({"about": about, "runs": runs}, indent=1))


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-small")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0..N-1")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), metavar="FORM")
    parser.add_argument("--train", type=int, default=500, help="training examples per class, or in all without classes")
    parser.add_argument("--validation", type=int, default=200, help="others of the training set, counted likewise")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="JSON file with every run")
    options = parser.parse_args()
    runs: dict[str, dict[str, Any]] = {}
    if options.out and options.out.exists():
        runs = json.loads(options.out.read_text())["runs"]
    try:
        study(options, runs)
    except (UsageError, RunError) as problem:
        sys.exit(str(problem))
    print(table(runs, options.forms, options.seeds))


if __name__ == "__main__":
    main()
