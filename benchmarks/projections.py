"""By which weights a score should be broadcast: validation accuracy of a small CNN under one projection after another.

    python benchmarks/projections.py [--only WORD ...] [--model MODEL] [--seeds 3] [--train 500] [--validation 300]
                                     [--epochs 6] [--set KEY=VALUE ...] [--json]

The network is 16c5-pool-32c5-pool-FC128, `cifar10-small` at half its width, unless a model is named; the recipe is
`standard`. It trains on the first images of each class of the training set and is validated on its last ones; the test
set is not touched. All projections of a seed start from the same weights of the network and see the same batches.

    random         R0, as in dfa
    correlation    R0 + R, as in sbd, with its forgetting of 0.9
    readout        V.grad = sum score h^T: as a readout would learn from the score that is broadcast
                   (Kolen, Pollack 1994, to every layer at once)
    output         V h learns to predict the distribution that the network puts out
    target         V h learns to predict the target: sbp; `own` (or 0) is the part of its own score in the signal
    sbd, sbp       the rules at their defaults, but for what is named
    even           R0 + R, with R always as large as R0
    squares        V (h, h^2) predicts the target
    features       V relu(P h) predicts it: at every position twice as many units, P random and fixed
    backprop       the derivative itself
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from validation import held_out, validated

import neurosbd
from neurosbd.config.resolve import load_model, parse_setting
from neurosbd.errors import RunError, UsageError, nearest
from neurosbd.learning.learner import Learner
from neurosbd.neuromodulators import Decorrelation, FixedRandom, Forgetting, Grid, Prediction, Shared
from neurosbd.neuromodulators.decorrelation import Feedback
from neurosbd.neuromodulators.neuromodulator import Broadcast, Reading, Receiver
from neurosbd.neuromodulators.prediction import Predicting
from neurosbd.rules import LocalRule
from neurosbd.runs.batches import DatasetBatches
from neurosbd.runs.machine import provenance
from neurosbd.seeds import generator
from neurosbd.training.session import Session

Correction = Callable[[Tensor], Tensor]
SIZES = {"conv1": [16, 32, 32], "conv2": [32, 16, 16], "fc": [128]}


@dataclass(frozen=True)
class Given:
    """A loss of which only the score of a prediction is known, each row with its 1/B."""

    correction: Correction

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """As a loss gives it, before the mean over the batch."""
        return self.correction(output) * len(output)


def _squares(activity: Tensor) -> Tensor:
    return torch.cat((activity, activity.square()), 1)


def _random_features(activity: Tensor) -> Tensor:
    """relu(P h), twice as many channels; P is the same at every call."""
    units = activity.shape[1]
    return functional.relu(torch.einsum("oi,bi...->bo...", _random_weights(units), activity))


@cache
def _random_weights(units: int) -> Tensor:
    return torch.randn((2 * units, units), generator=torch.Generator().manual_seed(0)) * (2 / units) ** 0.5


def _readout(broadcast: Broadcast) -> Correction:
    return lambda prediction: broadcast.score


def _output(broadcast: Broadcast) -> Correction:
    """Cross-entropy of a prediction against the output: softmax(prediction) - softmax(output), of two scores."""
    return lambda prediction: broadcast.score_of(prediction) - broadcast.score


@dataclass(frozen=True)
class Corrected(Prediction):
    """A prediction whose weights are corrected by something else than its own score; the broadcast one is sent.

    Args:
        by: a broadcast -> the score of a prediction, [B, C] -> [B, C].
    """

    own: float = 0.0
    by: Callable[[Broadcast], Correction] = _readout

    def read(self, state: Predicting, receiver: Receiver, broadcast: Broadcast) -> Reading:
        """As a prediction does it, corrected otherwise."""
        return super().read(state, receiver, broadcast._replace(loss=Given(self.by(broadcast))))


@dataclass(frozen=True)
class Even(Decorrelation):
    """A correlation that is always as large as its random part, however far it has faded."""

    def third_factor(self, state: Feedback, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """R divided by its own size."""
        size = float(state.learned.square().mean().sqrt())
        even = replace(self, learned=self.scale / size if size else 0.0)
        return Decorrelation.third_factor(even, state, receiver, broadcast)


@dataclass(frozen=True)
class Featured(Prediction):
    """A prediction from features of the activity, each told through its own derivative.

    Args:
        features: activity [B, *size] -> more units or channels.
    """

    features: Callable[[Tensor], Tensor] = _squares

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Predicting:
        """As a prediction of so many units starts."""
        return super().init(receiver._replace(value=self.features(receiver.value)), broadcast, generator)

    def read(self, state: Predicting, receiver: Receiver, broadcast: Broadcast) -> Reading:
        """The features."""
        return super().read(state, receiver._replace(value=self.features(receiver.value)), broadcast)

    def third_factor(self, state: Predicting, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """To the features, and to the activity through them."""
        with torch.enable_grad():
            value = receiver.value.detach().requires_grad_()
            features = self.features(value)
        to_features = super().third_factor(state, receiver._replace(value=features.detach()), broadcast)
        return torch.autograd.grad(features, value, to_features)[0]


PROJECTIONS: dict[str, Any] = {
    "random, channels": FixedRandom(Shared()),
    "random, patches": FixedRandom(Grid()),
    "correlation, channels": Decorrelation(Shared()),
    "correlation, patches": Decorrelation(Grid()),
    "readout, patches": Corrected(),
    "output, patches": Corrected(by=_output),
    "target, patches": Prediction(own=0.0),
    "target, patches, own 0.5": Prediction(own=0.5),
    "target, patches, own 1": Prediction(own=1.0),
    "target, channels": Prediction(Shared(), own=0.0),
    "target, channels, own 0.5": Prediction(Shared(), own=0.5),
    "even, channels": Even(),
    "sbd with forgetting 0.5": Decorrelation(forgetting=Forgetting(0.5)),
    "sbd with forgetting 0.98": Decorrelation(forgetting=Forgetting(0.98)),
    "sbd with forgetting 0.998": Decorrelation(forgetting=Forgetting(0.998)),
    "sbd with forgetting 0.999": Decorrelation(forgetting=Forgetting(0.999)),
    "sbp at a third of the rate": Prediction(relative_rate=0.3),
    "sbp at 3 times the rate": Prediction(relative_rate=3.0),
    "sbp at 10 times the rate": Prediction(relative_rate=10.0),
    "sbp with scale 0.002": Prediction(scale=2e-3),
    "sbp with scale 0.2": Prediction(scale=2e-1),
    "sbp with 8 x 8 patches": Prediction(Grid(8)),
    "sbp with squares": Featured(),
    "sbp with random features": Featured(features=_random_features),
    "backprop": None,
}


def trained(name: str, model: str | None, asked: dict[str, Any], data: Any) -> float:
    """Validation accuracy after the last epoch, %; no model is the half of cifar10-small."""
    modulator = PROJECTIONS[name]
    settings: dict[str, Any] = {} if model else {f"population.{part}.size": size for part, size in SIZES.items()}
    kind = "bp" if modulator is None else "sbp"
    definition = load_model(model or "cifar10-small", kind, settings | asked, recipe="standard")
    place = torch.device("cpu")
    experiment = definition.build()
    session = Session(experiment, DatasetBatches(experiment, data, place), place)
    if modulator is not None:
        rule = experiment.rule
        assert isinstance(rule, LocalRule)
        own = replace(rule, neuromodulator=modulator)
        session.learner = Learner(session.network, own, session.loss, generator(definition.seed, "projection"))
    return validated(session)


def _chosen(words: Sequence[str]) -> list[str]:
    """Names of PROJECTIONS in which one of the words occurs.

    Raises:
        UsageError: if a word occurs in none.
    """
    for word in words:
        if not any(word in name for name in PROJECTIONS):
            raise UsageError(f"--only: no projection has '{word}' in its name{nearest(word, PROJECTIONS)}")
    return [name for name in PROJECTIONS if any(word in name for word in words)]


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="words of the projections that are wanted")
    parser.add_argument("--model", help="default: half of cifar10-small")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0..N-1")
    parser.add_argument("--train", type=int, default=500, help="training examples per class")
    parser.add_argument("--validation", type=int, default=300, help="others of the training set, per class")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="wins over the recipe")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    neurosbd.keep_freed_memory()
    rows: dict[str, list[float]] = {}
    try:
        asked = {"training.epochs": options.epochs} | dict(parse_setting(text) for text in options.set)
        source = load_model(options.model or "cifar10-small", "sbp", asked, recipe="standard").data.name
        data = held_out(source, options.train, options.validation)
        for name in _chosen(options.only):
            for seed in range(options.seeds):
                rows.setdefault(name, []).append(trained(name, options.model, asked | {"seed": seed}, data))
                print(f"{name}, seed {seed}: {rows[name][-1]:.1f} %", file=sys.stderr, flush=True)
    except (UsageError, RunError) as problem:
        sys.exit(str(problem))
    if options.json:
        print(json.dumps(provenance(torch.device("cpu")) | {"accuracy": rows}, indent=1))
        return
    for name, found in rows.items():
        spread = f" +- {statistics.stdev(found):.1f}" if len(found) > 1 else ""
        print(f"{name:<28}{statistics.mean(found):6.1f}{spread} %  n {len(found)}")


if __name__ == "__main__":
    main()
