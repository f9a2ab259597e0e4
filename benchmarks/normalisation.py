"""What normalised drives are worth: validation accuracy of rules with plain, normalised and standardised units.

    python benchmarks/normalisation.py [--model cifar10-small] [--rules sbd dfa bp] [--seeds 3] [--train 500]
                                       [--validation 200] [--set KEY=VALUE ...] [--json]

Trains on the first images of each class of the training set and validates on its last ones; the test set is not
touched. All units of a seed start from the same weights and see the same batches. 'divided' is the control: units
standardised in the same way, whose third factor is only divided by the deviation, without the two terms by which the
exact gate takes the mean and the variance off it. Backprop has the exact derivative of either anyway.
"""

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from validation import held_out, validated

from neurosbd.config.resolve import load_model, parse_setting
from neurosbd.datasets.load import Dataset
from neurosbd.errors import RunError, UsageError
from neurosbd.neurons import Standardised
from neurosbd.neurons.neuron import Activity
from neurosbd.runs.batches import DatasetBatches
from neurosbd.runs.machine import provenance
from neurosbd.training.session import Session

UNITS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "normalised": {"kind": "normalised"},
    "standardised": {"kind": "standardised"},
    "divided": {"kind": "standardised"},
}


@dataclass(frozen=True)
class Divided:
    """A standardised neuron, but for the gate: f'(n) signal / deviation."""

    whole: Standardised = field(default_factory=Standardised)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def gate(self, activity: Activity, signal: Tensor, dt: float) -> Tensor:
        """Without the mean and the variance of the third factor."""
        _, _, factor, cache = activity.cache
        inner = Activity(activity.value, activity.potential, cache)
        return self.whole.neuron.gate(inner, signal, dt) * factor.view(-1, *(1,) * (signal.ndim - 2))


def trained(model: str, rule: str, units: str, settings: dict[str, Any], data: Dataset) -> float:
    """Validation accuracy after the last epoch, %."""
    neuron = UNITS[units]
    hidden = list(load_model(model, rule, settings).population)[1:-1]
    own = {} if neuron is None else {f"population.{name}.neuron": neuron for name in hidden}
    definition = load_model(model, rule, settings | own)
    place = torch.device("cpu")
    experiment = definition.build()
    session = Session(experiment, DatasetBatches(experiment, data, place), place)
    if units == "divided":
        for name, there in session.network.adaptive.items():
            assert isinstance(there, Standardised)
            session.network.adaptive[name] = Divided(there)  # pyright: ignore[reportArgumentType]
        session.network.train()
    return validated(session)


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-small")
    parser.add_argument("--rules", nargs="+", default=["sbd", "dfa", "bp"])
    parser.add_argument("--units", nargs="+", choices=UNITS, default=list(UNITS))
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0..N-1")
    parser.add_argument("--train", type=int, default=500, help="training examples per class")
    parser.add_argument("--validation", type=int, default=200, help="others of the training set, per class")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    asked = dict(parse_setting(text) for text in options.set)
    rows: list[dict[str, Any]] = []
    try:
        data = held_out(load_model(options.model, "sbd", asked).data.name, options.train, options.validation)
        for rule in options.rules:
            for units in options.units:
                found = []
                for seed in range(options.seeds):
                    found.append(trained(options.model, rule, units, asked | {"seed": seed}, data))
                    print(f"{rule}, {units}, seed {seed}: {found[-1]:.1f} %", file=sys.stderr, flush=True)
                rows.append({"rule": rule, "units": units, "accuracy": found})
    except (UsageError, RunError) as problem:
        sys.exit(str(problem))
    if options.json:
        about = provenance(torch.device("cpu")) | {"model": options.model, "settings": asked}
        print(json.dumps(about | {"rows": rows}, indent=1))
        return
    for row in rows:
        found = row["accuracy"]
        spread = f" +- {statistics.stdev(found):.1f}" if len(found) > 1 else ""
        print(f"{row['rule']:<6}{row['units']:<14}{statistics.mean(found):6.1f}{spread} %  n {len(found)}")


if __name__ == "__main__":
    main()
