"""Perturbation of nodes and weights is the gradient on average; its noise has a key, and weights come back."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.connections import Dense
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import INPUT, Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.noise import normal, normal_by_place
from neurosbd.rules import RULES, Rule
from neurosbd.testing.networks import cnn, lc, mlp
from tests.contracts.tables import seeded

PERTURBATIONS = ("node_perturbation", "weight_perturbation")


def learner_of(network: Network, rule: Rule) -> Learner:
    return Learner(network, rule, LOSSES["cross_entropy"](), seeded())


def shown(network: Network, count: int = 4) -> Batch:
    torch.manual_seed(0)
    x = torch.randn(1, count, *network.populations[INPUT].size, dtype=torch.float64)
    return Batch(x, torch.randint(0, 3, (count,)))


def gradients(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    learner.network.zero_grad()
    learner.learn(batch)
    named = learner.network.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


def test_normal_numbers_are_normal_and_a_function_of_key_and_step() -> None:
    """Moments of 1e5 within four standard errors. Must fail without the sine's half (tried: twice the cosine)."""
    key, like = torch.tensor(77), torch.empty(100_001)
    x, y = (normal(key, torch.tensor(step), like) for step in (0, 1))
    for power, moment, error in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs((x.double() ** power).mean() - moment) < 4 * error / 1e5**0.5, power
    half = len(x) // 2
    for other in (y, x.roll(1), x.roll(half), x.roll(half + 1)):
        assert abs((x * other).mean()) < 4 / 1e5**0.5
    assert torch.equal(x, normal(key, torch.tensor(0), like)) and x.isfinite().all()


NETWORKS = [lambda: mlp([5, 7, 6, 3]), lambda: mlp([4, 5, 3], sparsity=0.4), cnn, lc]


def slopes(network: Network, batch: Batch) -> dict[str, Tensor]:
    """d mean loss / d drive of every unit, by autograd, [B, *size]."""
    x = batch.inputs[0]  # type: ignore[index]
    extra = {n: x.new_zeros((len(x), *network.populations[n].size), requires_grad=True) for n in network.incoming}
    output = network.step(network.init(x), x, extra).activity[network.readout].value
    loss = LOSSES["cross_entropy"]().per_example(output, batch.target).mean()
    return dict(zip(extra, torch.autograd.grad(loss, list(extra.values())), strict=True))


@pytest.mark.parametrize("difference", ["forward", "central"])
@pytest.mark.parametrize("make", NETWORKS)
def test_nodes_are_told_the_slope_along_their_noise(make: Any, difference: str) -> None:
    """xi (slope . xi) for each example, over three batches; xi is white, so that its mean is the slope. Must fail when
    the noise is that of another batch, of one example for all, or not divided by the batch."""
    network = make()
    batch, size = shown(network), 1e-6
    slope = slopes(network, batch)
    with torch.no_grad():
        frame = network.step(network.init(batch.inputs[0]), batch.inputs[0])  # type: ignore[index]
    learner = learner_of(network, RULES["node_perturbation"](difference=difference, size=size))
    keys = learner.state_dict()["tensors"]
    for number in range(3):
        found = gradients(learner, batch)
        xi = {name: normal_by_place(keys[name], torch.tensor(number), each) for name, each in slope.items()}
        along = torch.stack([(slope[name] * xi[name]).flatten(1).sum(1) for name in slope]).sum(0)
        for name, connection in network.connections.items():
            post = xi[connection.post]
            told = post * along.view(-1, *(1,) * (post.ndim - 1))
            with torch.no_grad():
                expected = connection.geometry.outer(network.synapses(connection), told, frame.carried[name]).weight
            present = network.present(connection)
            expected = expected if present is None else expected * present
            torch.testing.assert_close(found[f"weights.{name}"], expected, rtol=1e-3, atol=1e-5)


def listed() -> Network:
    """Of synapses one by one, with biases."""
    rate = NEURONS["softplus"]()
    populations = [Population(INPUT, (5,), None), Population("hidden", (7,), rate), Population("output", (3,), rate)]
    dense = Dense(bias=True, sparsity=0.4, storage="sparse")
    connections = [Connection(INPUT, "hidden", dense), Connection("hidden", "output", dense)]
    return Network(populations, connections, seeded()).double()


@pytest.mark.parametrize("difference", ["forward", "central"])
@pytest.mark.parametrize("make", [*NETWORKS, listed])
def test_synapses_are_told_the_slope_along_their_noise(make: Any, difference: str) -> None:
    """xi (slope . xi), and every weight is bit for bit what it was. Must fail when absent synapses are shaken, weights
    are not put back, or the noise is that of another batch."""
    network = make()
    batch = shown(network)
    exact = gradients(learner_of(network, RULES["bp"]()), batch)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    learner = learner_of(network, RULES["weight_perturbation"](difference=difference, size=1e-6))
    keys = learner.state_dict()["tensors"]
    for number in range(3):
        found = gradients(learner, batch)
        assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
        xi = {name: normal(keys[name], torch.tensor(number), slope) for name, slope in exact.items()}
        for name, connection in network.connections.items():
            present = network.present(connection)
            xi[f"weights.{name}"] *= 1 if present is None else present
        along = sum((slope * xi[name]).sum() for name, slope in exact.items())
        for name in exact:
            torch.testing.assert_close(found[name], xi[name] * along, rtol=1e-3, atol=1e-4)


def test_central_differences_are_exact_to_second_order() -> None:
    """Noise of size .3: on a quadratic loss and a linear network the central difference has no error at all."""
    network = mlp([4, 3], neuron="identity")
    x = torch.randn(1, 1, 4, dtype=torch.float64)
    batch = Batch(x, torch.randn(1, 3, dtype=torch.float64))
    found = []
    for size in (0.3, 1e-3):
        rule = RULES["node_perturbation"](difference="central", size=size)
        found.append(gradients(Learner(network, rule, LOSSES["squared_error"](), seeded()), batch))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-7, atol=1e-9)
    rule = RULES["node_perturbation"](size=0.3)
    biased = gradients(Learner(network, rule, LOSSES["squared_error"](), seeded()), batch)
    assert not torch.allclose(biased["weights.input->output"], found[0]["weights.input->output"], rtol=1e-3)


def test_weights_come_back_when_a_showing_fails() -> None:
    """Must fail without `finally` (tried)."""
    network = mlp([4, 3, 3], "softplus")
    learner, batch = learner_of(network, RULES["weight_perturbation"]()), shown(network)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    shaken, step = [], network.step_neurons

    def fails(*args: Any) -> Any:
        shaken.append(None)
        if len(shaken) == len(network.incoming) + 1:  # the first population of the second showing
            raise KeyboardInterrupt
        return step(*args)

    network.step_neurons = fails  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        learner.learn(batch)
    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())


@pytest.mark.parametrize("rule", PERTURBATIONS)
def test_constants_and_networks_that_do_not_fit_are_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=rf"{rule}.size must be a positive number, got 0.0"):
        RULES[rule](size=0)
    if rule == "node_perturbation":
        with pytest.raises(ValueError, match=r"'input->hidden1': node_perturbation compares showings .*'sbd'"):
            learner_of(mlp([4, 5, 3], "lif"), RULES[rule]())
