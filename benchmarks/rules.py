"""Every rule that hears a score beside backprop: time and memory of a step, accuracy at equal epochs and at equal time.

    python benchmarks/rules.py [--rules fa dfa ...] [--seeds 0 1 2] [--only steps epochs time depth] [--json]
    python benchmarks/rules.py --kept rules.json --only steps epochs --seeds 0      # and on with the rest another time
    python benchmarks/rules.py --only depth --depths 2 4 8 [--set KEY=VALUE ...]

Steps: the same MLP and CNN, batch and optimizer for all; rules take turns within one process. Time is the CPU time of
the process, on one thread, which other processes of the machine distort least; memory is taken as in
benchmarks/step_cost.py. A rule that a network is none for is left out of it, which is said.
Epochs, time: 10,000 images of CIFAR-10 on the CNN by recipe standard, last epoch, nothing selected on the test images.
At equal time a rule has as many epochs as fit into those of backprop at the ratio of their steps, and a schedule of
its own for them.
Depth: 2 to 8 hidden layers of 256 units on the same images, by the same recipe, at equal epochs.
With --kept every measurement is in that file as soon as it is there, and what is in it is not measured again.
benchmarks/rules_figure.py draws it.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import turns
from step_cost import Step
from turns import cpu_seconds, in_turns

import neurosbd
from neurosbd.config.resolve import parse_setting
from neurosbd.files.writing import write_text
from neurosbd.rules import RULES
from neurosbd.runs.machine import provenance

MODELS = ("cifar10-mlp", "cifar10-small")  # of the steps
TRAINED = "cifar10-small"
SUBSET = {"data.subset": 1000}  # images of each class
EPOCHS = 8
SAME = ("bptt", "local", "corinfomax")  # other names of rules of the list, on networks without time and compartments
VECTORS = ("gevb",)  # rules for units whose values are vectors, which these models have none of
ALL = tuple(name for name, make in RULES.items() if make().scored and name not in (*SAME, *VECTORS))
DEPTHS = tuple(range(2, 9))
PARTS = ("steps", "epochs", "time", "depth")


class Cost(NamedTuple):
    """One rule on one model, beside backprop in the same turns."""

    model: str
    rule: str
    cpu_ms: float
    ratio: float
    quartiles: tuple[float, float]
    peak_mb: float
    resident_mb: float  # projections, heads and the optimizer's memory


class Accuracy(NamedTuple):
    """The last epoch of one run."""

    model: str  # or so many hidden layers
    rule: str
    epochs: int
    seed: int
    test: float | None  # None: the run failed
    cpu_s: float


@dataclass
class Measured:
    """All that has been measured, in a file if one is named.

    Args:
        path: of the file; None: nothing is kept.
        settings: `--set` of all trainings.
    """

    path: Path | None = None
    settings: list[str] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    accuracies: list[Accuracy] = field(default_factory=list)

    def read(self) -> None:
        """What the file has, if it is there.

        Raises:
            SystemExit: if it is of other trainings.
        """
        if self.path is None or not self.path.exists():
            return
        kept = json.loads(self.path.read_text(encoding="utf-8"))
        if self.settings and kept["settings"] != self.settings:
            sys.exit(f"{self.path} was measured with --set {kept['settings']}, not {self.settings}: name another file")
        self.settings = kept["settings"]
        self.costs = [Cost(**row) for row in kept["costs"]]
        self.accuracies = [Accuracy(**row) for row in kept["accuracies"]]

    def text(self) -> str:
        """As JSON."""
        kept = {
            "settings": self.settings,
            "costs": [row._asdict() for row in self.costs],
            "accuracies": [row._asdict() for row in self.accuracies],
            **provenance(torch.device("cpu")),
        }
        return json.dumps(kept, indent=1)

    def write(self) -> None:
        """Into the file, whole or not at all."""
        if self.path is not None:
            write_text(self.path, self.text())

    @property
    def epochs(self) -> int:
        """Of all trainings at equal epochs."""
        asked = dict(parse_setting(text) for text in self.settings).get("training.epochs", EPOCHS)
        assert isinstance(asked, int)
        return asked

    def of(self, model: str, rule: str, epochs: int) -> list[Accuracy]:
        """The runs of a rule, a seed each."""
        return [a for a in self.accuracies if (a.model, a.rule, a.epochs) == (model, rule, epochs)]


def costs(model: str, rules: list[str], options: argparse.Namespace) -> list[Cost]:
    """All rules in turns."""
    steps: dict[str, Step] = {}
    for rule in rules:
        try:
            steps[rule] = Step(model, rule, torch.device("cpu"), options.batch_size)
        except ValueError as problem:
            print(f"{model}, {rule}: left out, {problem}", file=sys.stderr)
    times = in_turns(steps, options.repeats, 2, cpu_seconds)
    rows = []
    for rule, step in steps.items():
        relative = turns.ratios(times[rule], times["bp"])
        low, high = relative["ratio_quartiles"]
        rows.append(
            Cost(
                model, rule, 1e3 * statistics.median(times[rule]), relative["ratio"], (low, high), step.peak() / 1e6,
                step.resident() / 1e6,
            )
        )  # fmt: skip
    return rows


def trained(measured: Measured, model: str, file: str | Path, rule: str, epochs: int, seed: int) -> None:
    """One run, unless it is there; a rule that the network is none for is left out, which is said."""
    if any(each.seed == seed for each in measured.of(model, rule, epochs)):
        return
    settings = SUBSET | dict(parse_setting(text) for text in measured.settings) | {"training.epochs": epochs}
    start, test = time.process_time(), None
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
        try:
            run = neurosbd.fit(
                file, rule=rule, recipe="standard", seed=seed, settings=settings, out=Path(scratch) / "run"
            )
            if run.result["status"] != "finished":
                sys.exit(f"{model}, {rule} seed {seed}: stopped, so that nothing of it is kept")
            test = run.metrics[-1]["test_accuracy"]
        except neurosbd.UsageError as problem:
            if rule == "bp":  # which any network and all data will do for
                raise
            print(f"{model}, {rule}: left out, {problem}", file=sys.stderr)
            return
        except neurosbd.RunError as problem:
            print(f"{model}, {rule}: failed, {problem}", file=sys.stderr)
    told = "failed" if test is None else f"test {test:.2%}"
    print(f"{model}, {rule} seed {seed}, {epochs} epochs: {told}", file=sys.stderr, flush=True)
    measured.accuracies.append(Accuracy(model, rule, epochs, seed, test, time.process_time() - start))
    measured.write()


def as_long(ratio: float, epochs: int) -> int:
    """Epochs of a rule that take as long as so many of backprop."""
    return max(1, round(epochs / ratio))


def ratios(measured: Measured, rules: list[str]) -> dict[str, float]:
    """Of the steps of the rules that the trained model is a network for."""
    return {row.rule: row.ratio for row in measured.costs if row.model == TRAINED and row.rule in rules}


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


def by_depth(measured: Measured, rules: list[str], epochs: int, seed: int, depths: list[int]) -> None:
    """Every rule at every depth."""
    with tempfile.TemporaryDirectory() as scratch:
        for layers in depths:
            model = Path(scratch) / f"layers-{layers}.toml"
            model.write_text(perceptron(layers), encoding="utf-8")
            for rule in rules:
                trained(measured, f"{layers} layers", model, rule, epochs, seed)


def told(runs: list[Accuracy]) -> str:
    """Mean and standard deviation over seeds, %."""
    tests = [100 * each.test for each in runs if each.test is not None]
    if len(tests) < len(runs):
        return f"{len(runs) - len(tests)} of {len(runs)} failed"
    spread = f" +- {statistics.stdev(tests):.1f}" if len(tests) > 1 else ""
    return f"{statistics.mean(tests):.1f}{spread}" if tests else ""


def show(measured: Measured, epochs: int) -> None:
    """The table of steps, what the rules reach, and what is left of that with depth."""
    print(f"{'model':<16}{'rule':<20}{'CPU ms':>9}{'of bp':>8}{'quartiles':>13}{'peak MB':>9}{'resident':>9}")
    for row in measured.costs:
        low, high = row.quartiles
        print(
            f"{row.model:<16}{row.rule:<20}{row.cpu_ms:>9.2f}{row.ratio:>8.3f}{low:>8.2f}-{high:.2f}{row.peak_mb:>9.1f}"
            f"{row.resident_mb:>9.1f}"
        )
    print(f"\n{'rule':<20}{'equal epochs, %':>18}{'equal time, %':>18}{'epochs':>8}{'n':>4}")
    for rule, ratio in ratios(measured, list(ALL)).items():
        same, long = measured.of(TRAINED, rule, epochs), as_long(ratio, epochs)
        print(f"{rule:<20}{told(same):>18}{told(measured.of(TRAINED, rule, long)):>18}{long:>8}{len(same):>4}")
    print(f"\n{'hidden layers':<20}" + "".join(f"{depth:>14}" for depth in DEPTHS))
    for rule in ALL:
        print(f"{rule:<20}" + "".join(f"{told(measured.of(f'{depth} layers', rule, epochs)):>14}" for depth in DEPTHS))


def measure(measured: Measured, options: argparse.Namespace, epochs: int) -> None:
    """What is asked for and not there: seed after seed, so that all rules have one before any has two."""
    rules = list(dict.fromkeys(["bp", *options.rules]))
    if "steps" in options.only:
        for model in options.models:
            there = {cost.rule for cost in measured.costs if cost.model == model}
            missing = [rule for rule in rules if rule not in there]
            if missing:
                rows = costs(model, list(dict.fromkeys(["bp", *missing])), options)
                measured.costs += [row for row in rows if row.rule not in there]
                measured.write()
    for seed in options.seeds:
        if "epochs" in options.only:
            for rule in rules:
                trained(measured, TRAINED, TRAINED, rule, epochs, seed)
        if "time" in options.only:
            for rule, ratio in ratios(measured, rules).items():
                trained(measured, TRAINED, TRAINED, rule, as_long(ratio, epochs), seed)
        if "depth" in options.only:
            by_depth(measured, rules, epochs, seed, options.depths)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", default=list(ALL), choices=ALL)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--depths", type=int, nargs="+", default=list(DEPTHS), choices=DEPTHS, metavar="LAYERS")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="of what has been measured, which goes on there")
    parser.add_argument("--models", nargs="+", default=MODELS, help="of the steps")
    parser.add_argument("--repeats", type=int, default=20, help="of the steps")
    parser.add_argument("--batch-size", type=int, help="of the steps; default: that of each model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of all trainings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    neurosbd.keep_freed_memory()  # as `neurosbd fit` does
    torch.set_num_threads(1)  # or CPU time counts threads that wait
    measured = Measured(options.kept, options.set)
    measured.read()
    epochs = measured.epochs
    try:
        measure(measured, options, epochs)
    except (neurosbd.UsageError, neurosbd.RunError) as problem:
        sys.exit(str(problem))
    if options.json:
        print(measured.text())
    else:
        show(measured, epochs)


if __name__ == "__main__":
    main()
