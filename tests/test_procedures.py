"""Rules that are procedures, all that ship: recorded, interrupted and resumed from a model as any other rule."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd.learning.online import LocalRule
from neurosbd.rules import RULES
from neurosbd.rules.backprop import Backprop
from neurosbd.runs.loggers import NullLogger
from neurosbd.testing.networks import mlp

PROCEDURES = [  # on rates; those of spike times are in test_first_spike_readout, corinfomax_ep has neurons of its own
    name
    for name, make in RULES.items()
    if not isinstance(make(), LocalRule | Backprop) and not make().timed and name != "corinfomax_ep"
]
SETTINGS = {"training.epochs": 2, "data.subset": 20, "training.batch_size": 20, "data.test_subset": 5}
RECORD = ["hidden1.rate[every=10 batches]", "hidden1->hidden2.dweight[every=5 batches]", "score"]


class _Stops(NullLogger):
    """A logger that presses Ctrl-C in the second epoch."""

    def on_batch(self, event: Any) -> None:
        if event["epoch"] == 1 and event["batch"] == 3:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("name", PROCEDURES)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_they_are_recorded_and_resumed_bit_for_bit(name: str, optimizer: str, tmp_path: Path) -> None:
    """Oracle: the run that was not interrupted. Must fail when parameters are left out of the state.

    And a prediction is the answer of the rule that the test has judged.
    """
    how = {"settings": SETTINGS | {"training.optimizer.kind": optimizer}, "rule": name, "record": RECORD}
    whole = neurosbd.fit("digits-mlp", **how, out=tmp_path / "whole")
    part = neurosbd.fit("digits-mlp", **how, out=tmp_path / "part", loggers=[_Stops()])
    assert part.result["status"] == "interrupted"
    rest = neurosbd.fit("digits-mlp", **how, out=tmp_path / "part", resume=True)
    one, two = (run.checkpoint() for run in (whole, rest))
    for kind in ("network", "learner"):
        assert _tensors(one[kind]).keys() == _tensors(two[kind]).keys()
        assert all(torch.equal(value, _tensors(two[kind])[key]) for key, value in _tensors(one[kind]).items()), kind
    said = whole.predict(neurosbd.load_data("digits", test_subset=5).test.values).argmax(1)
    right = said == torch.from_numpy(neurosbd.load_data("digits", test_subset=5).test.targets)
    assert right.double().mean().item() == pytest.approx(whole.metrics[-1]["test_accuracy"])
    start = whole.definition.network()
    assert any(not torch.equal(w, start.weights[n]) for n, w in whole.network().weights.items())
    for spec in ("hidden1.rate", "hidden1->hidden2.dweight", "score"):
        assert (whole.trace[spec][:] == rest.trace[spec][:]).all(), spec


@pytest.mark.parametrize("name", [name for name in PROCEDURES if RULES[name]().why_alone() is None])
def test_the_gradients_of_two_parts_of_a_batch_add_up_to_those_of_the_whole(name: str) -> None:
    """Of rules that say that processes can share a batch. Must fail for a mean over those at hand (tried)."""
    x, target = torch.randn(6, 5, dtype=torch.float64), torch.arange(6) % 3
    found = []
    for parts in ([slice(0, 6)], [slice(0, 2), slice(2, 6)]):
        total: dict[str, torch.Tensor] = {}
        for rows in parts:
            network = mlp([5, 7, 6, 3])
            learner = neurosbd.learner(network, RULES[name]())
            learner.learn(neurosbd.Batch(x[None, rows], target[rows], batch_size=6, first=rows.start))
            learned = {**dict(network.named_parameters()), **learner.parameters}
            for key, parameter in learned.items():
                part = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                total[key] = total[key] + part if key in total else part
        found.append(total)
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-10)


def _tensors(state: Any, where: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a state by where they are."""
    if isinstance(state, torch.Tensor):
        return {where: state}
    parts = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {key: value for name, part in parts for key, value in _tensors(part, f"{where}/{name}").items()}
