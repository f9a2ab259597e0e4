"""Every rule that hears a score beside backprop: time and memory of a step, accuracy at equal epochs and at equal time.

    python benchmarks/rules.py [--rules fa dfa ...] [--seeds 3] [--set KEY=VALUE ...] [--json]
    python benchmarks/rules.py --depth [2 3 ... 8]

Step: the same MLP and CNN, batch and optimizer for all; rules take turns within one process, time and memory are taken
as in benchmarks/step_cost.py. A rule that a network is none for is left out of it, which is said.
Accuracy: 10,000 images of CIFAR-10 on the CNN by recipe standard, last epoch, nothing selected on the test images. At
equal time a rule has as many epochs as fit into those of backprop at the ratio of their steps just measured, and a
schedule of its own for them.
Depth: 2 to 8 hidden layers of 256 units on the same images, by the same recipe, at equal epochs.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from step_cost import Step

import neurosbd
from neurosbd.config.resolve import parse_setting
from neurosbd.parsing import Json, JsonTable
from neurosbd.rules import RULES
from neurosbd.training.machine import provenance

MODELS = ("cifar10-mlp", "cifar10-small")  # of a step; the last one is trained
SUBSET = {"data.subset": 1000}  # images of each class
SAME = ("bptt", "local", "corinfomax")  # other names of rules of the list, on networks without time and compartments
VECTORS = ("gevb",)  # rules for units whose values are vectors, which these models have none of
ALL = tuple(name for name, make in RULES.items() if make().scored and name not in (*SAME, *VECTORS))
DEPTHS = tuple(range(2, 9))


class Cost(NamedTuple):
    """One rule on one model, beside backprop in the same turns."""

    model: str
    rule: str
    ms: float
    ratio: float
    quartiles: tuple[float, float]
    peak_mb: float
    resident_mb: float  # projections, heads and the optimizer's memory


class Accuracy(NamedTuple):
    """One rule: its last epochs, seed by seed."""

    rule: str
    epochs: int
    test: list[float]
    what: str  # 'epochs', 'time', or so many hidden layers


def costs(model: str, rules: list[str], options: argparse.Namespace) -> list[Cost]:
    """All rules in turns."""
    steps: dict[str, Step] = {}
    for rule in rules:
        try:
            steps[rule] = Step(model, rule, torch.device("cpu"), options.batch_size)
        except ValueError as problem:
            print(f"{model}, {rule}: left out, {problem}", file=sys.stderr)
    times: dict[str, list[float]] = {rule: [] for rule in steps}
    for turn in range(-2, options.repeats):
        for rule in list(steps)[:: 1 if turn % 2 else -1]:
            seconds = steps[rule].timed()
            if turn >= 0:
                times[rule].append(seconds)
    rows = []
    for rule, step in steps.items():
        ratios = sorted(a / b for a, b in zip(times[rule], times["bp"], strict=True))
        median = statistics.median(times[rule])
        rows.append(
            Cost(
                model, rule, 1e3 * median, median / statistics.median(times["bp"]),
                (ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]), step.peak() / 1e6, step.resident() / 1e6,
            )
        )  # fmt: skip
    return rows


def trained(model: str | Path, rule: str, epochs: int, what: str, options: argparse.Namespace) -> Accuracy | None:
    """Runs of all seeds; None of a rule that the network is none for, which is said."""
    settings = SUBSET | dict(parse_setting(text) for text in options.set) | {"training.epochs": epochs}
    found = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
            try:
                run = neurosbd.fit(
                    model, rule=rule, recipe="standard", seed=seed, settings=settings, out=Path(scratch) / "run"
                )
            except neurosbd.UsageError as problem:
                if rule == "bp":  # which any network and all data will do for
                    raise
                print(f"{rule}: left out, {problem}", file=sys.stderr)
                return None
        found.append(run.metrics[-1]["test_accuracy"])
        print(f"{rule} seed {seed}, {epochs} epochs: test {found[-1]:.2%}", file=sys.stderr, flush=True)
    return Accuracy(rule, epochs, found, what)


def accuracies(rows: list[Cost], options: argparse.Namespace) -> list[Accuracy]:
    """At equal epochs, and at equal time by the ratios of the steps."""
    asked = dict(parse_setting(text) for text in options.set).get("training.epochs", 8)
    assert isinstance(asked, int)
    found: list[Accuracy | None] = []
    for row in rows:
        found.append(trained(row.model, row.rule, asked, "epochs", options))
        as_long = max(1, round(asked / row.ratio))
        same = found[-1]
        if same is not None and as_long == asked:
            found.append(same._replace(what="time"))
        elif same is not None:
            found.append(trained(row.model, row.rule, as_long, "time", options))
    return [each for each in found if each is not None]


def perceptron(layers: int) -> str:
    """A model file: so many hidden layers of 256 units on CIFAR-10."""
    names = ["input", *(f"hidden{i}" for i in range(1, layers + 1)), "output"]
    hidden = "".join(f'{name} = {{ size = [256], neuron = "relu" }}\n' for name in names[1:-1])
    joined = "".join(
        f'[[connection]]\npre = "{pre}"\npost = "{post}"\nkind = "dense"\nbias = true\n'
        for pre, post in pairwise(names)
    )
    return (
        f'rule = "sbd"\n[data]\nname = "cifar10"\nflip = true\n[population]\ninput = {{ size = [3, 32, 32] }}\n{hidden}'
        f'output = {{ size = [10], neuron = "identity" }}\n{joined}'
    )


def by_depth(rules: list[str], options: argparse.Namespace) -> list[Accuracy]:
    """Every rule at every depth."""
    epochs = dict(parse_setting(text) for text in options.set).get("training.epochs", 8)
    assert isinstance(epochs, int)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for layers in options.depth or DEPTHS:
            model = Path(scratch) / f"layers-{layers}.toml"
            model.write_text(perceptron(layers), encoding="utf-8")
            found += [trained(model, rule, epochs, str(layers), options) for rule in rules]
    return [each for each in found if each is not None]


def told(row: Accuracy) -> str:
    """Mean and standard deviation, %."""
    spread = f" +- {100 * statistics.stdev(row.test):.1f}" if len(row.test) > 1 else ""
    return f"{100 * statistics.mean(row.test):.1f}{spread}"


def show_step(rows: list[Cost], found: list[Accuracy]) -> None:
    """The table of steps, and beside it what the rules reach."""
    print(f"{'model':<16}{'rule':<20}{'ms':>9}{'of bp':>8}{'quartiles':>13}{'peak MB':>9}{'resident':>9}")
    for row in rows:
        low, high = row.quartiles
        print(
            f"{row.model:<16}{row.rule:<20}{row.ms:>9.2f}{row.ratio:>8.3f}{low:>8.2f}-{high:.2f}{row.peak_mb:>9.1f}"
            f"{row.resident_mb:>9.1f}"
        )
    print(f"\n{'rule':<20}{'equal epochs, %':>18}{'equal time, %':>18}{'epochs':>8}")
    for rule in dict.fromkeys(each.rule for each in found):
        of = {each.what: each for each in found if each.rule == rule}
        time = of.get("time")
        print(f"{rule:<20}{told(of['epochs']):>18}{told(time) if time else '':>18}{time.epochs if time else '':>8}")


def show_depth(found: list[Accuracy]) -> None:
    """Rules down, hidden layers across, %."""
    depths = list(dict.fromkeys(each.what for each in found))
    print(f"{'hidden layers':<20}" + "".join(f"{depth:>14}" for depth in depths))
    for rule in dict.fromkeys(each.rule for each in found):
        of = {each.what: told(each) for each in found if each.rule == rule}
        print(f"{rule:<20}" + "".join(f"{of.get(depth, ''):>14}" for depth in depths))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", default=list(ALL), choices=ALL)
    parser.add_argument("--models", nargs="+", default=MODELS, help="of the steps; the last one is trained")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch-size", type=int, help="of the steps; default: that of each model")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0..N-1")
    parser.add_argument("--depth", type=int, nargs="*", metavar="LAYERS", help="hidden layers; none named: 2 to 8")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of all trainings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    neurosbd.keep_freed_memory()  # as `neurosbd fit` does
    rules = list(dict.fromkeys(["bp", *options.rules]))
    rows: list[Cost] = []
    try:
        if options.depth is None:
            rows = [row for model in options.models for row in costs(model, rules, options)]
            found = accuracies([row for row in rows if row.model == options.models[-1]], options)
        else:
            found = by_depth(rules, options)
    except (neurosbd.UsageError, neurosbd.RunError) as problem:
        sys.exit(str(problem))
    if options.json:
        kept: JsonTable = {"costs": [row._asdict() for row in rows], "accuracies": [row._asdict() for row in found]}
        seen: Json = kept | {"set": options.set} | provenance(torch.device("cpu"))
        print(json.dumps(seen, indent=1))
    elif options.depth is None:
        show_step(rows, found)
    else:
        show_depth(found)


if __name__ == "__main__":
    main()
