"""Direct random target projection against its equations, in float64."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.rule import TensorState
from neurosbd.losses import LOSSES
from neurosbd.network.network import INPUT, Network
from neurosbd.neuromodulators import LAYOUTS
from neurosbd.neurons import Tanh
from neurosbd.rules import RULES
from neurosbd.testing.networks import cnn, lc, mlp
from tests.contracts.tables import seeded


def learned(network: Network, batch: Batch, loss: str = "cross_entropy", **constants: Any) -> Learner:
    network.zero_grad()
    learner = Learner(network, RULES["drtp"](**constants), LOSSES[loss](), seeded())
    learner.learn(batch)
    return learner


def shown(network: Network, count: int = 5) -> Batch:
    torch.manual_seed(0)
    x = torch.randn(1, count, *network.populations[INPUT].size, dtype=torch.float64)
    return Batch(x, torch.randint(0, 3, (count,)))


def hidden(network: Network) -> dict[str, Tensor]:
    """Gradients of all parameters but the readout's."""
    named = network.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None and not name.endswith("->output")}


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("make", [lambda: mlp([5, 7, 6, 3]), cnn, lc])
def test_every_population_descends_the_rows_of_its_targets(make: Any, layout: str) -> None:
    """Gradient of mean_b h[b] . spread(B[y[b]]), whose input is cut off, by autograd; the readout's is backprop's. Must
    fail when the row of another class is taken, the gain is left out, or the batch is not divided by (all tried)."""
    network = make()
    batch = shown(network)
    learner = learned(network, batch, layout=LAYOUTS[layout]())
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    state, rule = learner.state, learner.rule
    assert isinstance(state, TensorState)
    network.zero_grad()
    x = batch.inputs[0]  # type: ignore[index]
    with torch.no_grad():
        values = {name: each.value for name, each in network.step(network.init(x), x).activity.items()}
    for name, (connection,) in network.incoming.items():
        arriving = connection.geometry.carry(values[connection.pre])
        neuron = network.populations[name].neuron
        assert neuron is not None
        value = neuron.step((), connection.geometry.drive(network.synapses(connection), arriving), 1e-3)[0].value
        if name == network.readout:
            cost = LOSSES["cross_entropy"]().per_example(value, batch.target).mean()
        else:
            rows = state.tensors[name][batch.target]
            cost = (value * rule.layout.spread(rows, value, state.tensors[f"{name}.basis"])).sum() / len(x)  # type: ignore[attr-defined]
        cost.backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-10, atol=1e-14)


def test_the_output_is_not_listened_to() -> None:
    """Another readout, the same hidden gradients, bitwise; also where the score is 0. Must fail for dfa (checked)."""
    network = mlp([5, 7, 6, 3])
    batch, found = shown(network), {"drtp": [], "dfa": []}
    for _ in range(2):
        for rule, gradients in found.items():
            network.zero_grad()
            Learner(network, RULES[rule](), LOSSES["cross_entropy"](), seeded()).learn(batch)
            gradients.append(hidden(network))
        with torch.no_grad():
            network.weights["hidden2->output"].normal_()
    for rule, (one, other) in found.items():
        assert all(torch.equal(one[name], other[name]) for name in one) == (rule == "drtp")
    with torch.no_grad():
        right = Batch(batch.inputs, network(batch.inputs[0]))  # type: ignore[index]
    learned(network, right, "squared_error")
    assert all(gradient.any() for name, gradient in hidden(network).items() if name.startswith("weights"))


@pytest.mark.parametrize("loss", ["cross_entropy", "bernoulli"])
def test_it_is_the_sign_of_the_score_up_to_a_constant(loss: str) -> None:
    """Outputs in (0, 1), one-hot targets: sign(score) = 1 - 2 y, so that y B = (1 - sign(score)) B / 2."""
    network = mlp([5, 7, 3])
    batch = shown(network)
    learner = learned(network, batch, loss)
    assert isinstance(learner.state, TensorState)
    b, told = learner.state.tensors["hidden1"], {}

    class Watching:
        def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
            told[population] = third_factor

        def looks_at(self, connection: str) -> bool:
            return False

        def on_eligibility(self, connection: str, eligibility: Any) -> None:
            raise AssertionError

    learner.learn(batch, learning_observer=Watching())
    score = told["output"] * len(batch.target)
    torch.testing.assert_close(told["hidden1"] * len(batch.target), (1 - score.sign()) @ b / 2, rtol=1e-12, atol=1e-15)


def test_a_layer_at_a_time_is_held() -> None:
    """When a population is updated, those before the last are gone. Must fail when a pass is kept (tried)."""
    network, alive, kept = mlp([5, 7, 6, 8, 3]), [], {}

    class Watched(Tanh):
        def gate(self, activity: Any, third_factor: Tensor, dt: float) -> Tensor:
            alive.append(sum(reference() is not None for reference in kept.values()))
            kept[len(kept)] = weakref.ref(activity.value)
            return super().gate(activity, third_factor, dt)

    for name in ("hidden1", "hidden2", "hidden3"):
        object.__setattr__(network.populations[name], "neuron", Watched())
    learned(network, shown(network))
    assert alive == [0, 1, 1]


def test_values_are_sent_as_they_are() -> None:
    """Targets of regression in place of one-hot rows."""
    network = mlp([5, 7, 2])
    batch = Batch(torch.randn(1, 4, 5, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64))
    learner = learned(network, batch, "gaussian")
    assert isinstance(learner.state, TensorState) and learner.state.tensors["hidden1"].shape == (1, 7)
    assert hidden(network)["weights.input->hidden1"].any()


def test_it_is_recorded_and_refused_in_words(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "data.subset": 20}
    run = neurosbd.fit("digits-mlp", rule="drtp", settings=settings, record=["*.third_factor"], out=tmp_path / "run")
    assert run.trace["hidden2.third_factor"][:].any() and "output.third_factor" not in run.trace.names
    with pytest.raises(UsageError, match="digits-snn: rule 'drtp': connection 'input->hidden1': drtp sends the target"):
        neurosbd.fit("digits-snn", rule="drtp", out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"drtp.scale must be a number >= 0, got -1.0"):
        RULES["drtp"](scale=-1)
