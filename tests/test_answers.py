"""Answers read off the steps of a trial: by hand, in evaluation, in predictions and as rewards."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.answers import ANSWERS
from neurosbd.connections import Dense
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.meters import AnswerMeter
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.rules import RULES

OUTPUTS = torch.tensor([[[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]]).double()
WEIGHTS = (0.0, 0.25, 0.25, 0.5)
BY_HAND = {  # the first step does not count
    "mean": [1.0, 0.25, 0.0],
    "last": [1.0, 0.0, 0.0],
    "maximum": [1.0, 1.0, 0.0],
    "most_spikes": [3.0, 1.0, 0.0],
    "first_spike": [1 / 2, 1 / 3, 0.0],
}


def reading(answer: str, neuron: str = "identity") -> Network:
    """Three units that send what they are shown."""
    populations = [Population("input", (3,), None), Population("output", (3,), NEURONS[neuron]())]
    connections = [Connection("input", "output", Dense())]
    network = Network(populations, connections, torch.Generator(), answer=ANSWERS[answer]()).double()
    torch.nn.init.eye_(network.weights["input->output"])
    return network


def answered(network: Network, inputs: Tensor) -> Tensor:
    learner = Learner(network, RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator())
    answer = AnswerMeter(WEIGHTS, network)  # as predictions read it, and as learners do
    unroll(network, inputs, (answer,))
    torch.testing.assert_close(learner.answer(Batch(inputs, torch.tensor([0]), WEIGHTS)).output, answer.value())
    return answer.value()


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_those_by_hand(name: str) -> None:
    """Every entry. Must fail when a step of weight 0 is read, too (tried)."""
    spiking = ANSWERS[name]().counts_spikes
    network = reading(name, "lif" if spiking else "identity")
    inputs = OUTPUTS * 1.5 if spiking else OUTPUTS  # above the threshold of 1
    if spiking:
        network.populations["output"] = Population("output", (3,), NEURONS["lif"](tau_mem=1e-6, reset="none"))
    torch.testing.assert_close(
        answered(network, inputs)[0], torch.tensor(BY_HAND[name], dtype=torch.float64), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("name", ["most_spikes", "first_spike"])
def test_spikes_are_not_counted_where_there_are_none(name: str) -> None:
    told = rf"the answer '{name}' counts spikes, but the readout 'output' sends none; choose 'mean'"
    with pytest.raises(ValueError, match=told):
        reading(name)


def test_values_are_not_read_as_maxima(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"time.answer is 'maximum', which tells classes apart.*'mean' or 'last'"):
        neurosbd.fit("diabetes-mlp", settings={"time.answer": "maximum"}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_names_its_answer_and_predictions_follow(tmp_path: Path) -> None:
    """What `fit` measures on the test is what `predict` gives. Must fail when predictions are means (tried)."""
    settings = {"time.answer": "maximum", "training.epochs": 1, "data.subset": 20}
    run = neurosbd.fit("digits-snn", settings=settings, out=tmp_path / "run")
    test = neurosbd.load_data("digits").test
    output = run.predict(test)
    accuracy = (output.argmax(1) == torch.from_numpy(test.labels)).double().mean().item()
    assert accuracy == pytest.approx(run.metrics[-1]["test_accuracy"], abs=1e-9)
    again = neurosbd.fit("digits-snn", settings=settings | {"time.answer": "mean"}, out=tmp_path / "mean")
    assert not torch.equal(again.predict(test), output)


def test_a_reward_is_for_the_answer() -> None:
    """The class that spikes first, in place of the one with the larger mean. Must fail for the mean (tried)."""
    rewards: list[Tensor] = []

    class Watching:
        def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
            rewards.extend([] if third_factor is None else [third_factor])

        def looks_at(self, connection: str) -> bool:
            return False

        def on_eligibility(self, connection: str, eligibility: object) -> None:
            pass

    for name, hit in (("first_spike", True), ("most_spikes", False)):
        network = reading(name, "lif")
        network.populations["output"] = Population("output", (3,), NEURONS["lif"](tau_mem=1e-6, reset="none"))
        shown = torch.tensor([[[0, 0, 0]], [[0, 1, 0]], [[1, 0, 0]], [[1, 0, 0]]]).double() * 1.5
        rule = RULES["rstdp"](readout="rule", neuromodulator=neurosbd.neuromodulators["reward"](baseline=0.0))
        learner = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator())
        rewards.clear()
        learner.learn(Batch(shown, torch.tensor([1]), WEIGHTS), learning_observer=Watching())
        assert bool((rewards[-1] != 0).all()) is hit, name
