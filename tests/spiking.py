"""What the tests of spiking networks share: layers that are alive, their runs, and comparisons of gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections import Conv2d, Dense
from neurosbd.connections.pooling import AveragePool
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import LI
from neurosbd.neurons.neuron import Neuron, gain

DT, STEPS, BATCH = 1e-3, 14, 5


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def legal_step(neuron: Neuron, dt: float = DT) -> float:
    """dt, or what a neuron takes at most."""
    return min(dt, getattr(neuron, "longest_step", dt))


def layered(neuron: Neuron, readout: Neuron | None = None, delay: int | None = None, dt: float = DT) -> Network:
    """4 inputs, 6 units, 3 outputs, with biases that are not 0."""
    populations = [
        Population("input", (4,), None),
        Population("hidden", (6,), neuron),
        Population("output", (3,), readout or LI(8e-3)),
    ]
    connections = [
        Connection("input", "hidden", Dense(bias=True), delay=delay),
        Connection("hidden", "output", Dense(bias=True)),
    ]
    network = Network(populations, connections, torch.Generator().manual_seed(0), legal_step(neuron, dt)).double()
    with torch.no_grad():
        for bias in network.biases.values():
            bias.uniform_(0, 0.1)
    return network


def maps(neuron: Neuron, dt: float = DT) -> Network:
    """Two maps with pooling between them, an all-to-all layer on top."""
    populations = [
        Population("input", (2, 6, 6), None),
        Population("conv1", (3, 6, 6), neuron),
        Population("conv2", (4, 3, 3), neuron),
        Population("output", (3,), LI()),
    ]
    connections = [
        Connection("input", "conv1", Conv2d(3, padding=1, bias=True)),
        Connection("conv1", "conv2", Conv2d(3, padding=1, bias=True, pool=AveragePool())),
        Connection("conv2", "output", Dense()),
    ]
    return Network(populations, connections, torch.Generator().manual_seed(0), legal_step(neuron, dt)).double()


class Watched(NamedTuple):
    """What the hidden units did in a run, [T, B, units]."""

    value: Tensor
    gain: Tensor


def trial_recorder(network: Network, inputs: Tensor, name: str = "hidden") -> Watched:
    neuron, seen = network.populations[name].neuron, []
    assert neuron is not None

    def look(t: int, frame: Any) -> None:
        seen.append((frame.activity[name].value, gain(neuron, frame.activity[name], network.dt)))

    with torch.no_grad():
        unroll(network, inputs, (look,), generator=noise())
    return Watched(torch.stack([v for v, _ in seen]), torch.stack([g for _, g in seen]))


def lively(network: Network, name: str = "hidden") -> Tensor:
    """Inputs [T, B, size] scaled until many units have a gain, and if they spike, some do and some do not."""
    inputs = torch.rand(STEPS, BATCH, *network.populations["input"].size, dtype=torch.float64) - 0.3
    for scale in (0.3, 1, 3, 10, 17, 30, 100, 2.7):
        value, slope = trial_recorder(network, scale * inputs, name)
        spiking = hasattr(network.populations[name].neuron, "v_threshold")
        if (slope != 0).double().mean() > 0.2 and (not spiking or 0.05 * network.dt / DT < value.mean() < 0.6):
            return scale * inputs
    raise AssertionError("no input makes these neurons spike with a gain")


def trial(inputs: Tensor) -> Batch:
    """Every step counts, each differently."""
    weights = torch.linspace(1, 2, len(inputs))
    return Batch(inputs, torch.randint(0, 3, (inputs.shape[1],)), (weights / weights.sum()).tolist())


def learned(network: Network, rule: Any, task: Batch) -> dict[str, Tensor]:
    network.zero_grad()
    Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(3)).learn(task, noise=noise())
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference, relative to the largest entry of its parameter."""
    assert set(one) == set(other)
    return max(((one[n] - other[n]).abs().max() / other[n].abs().max()).item() for n in other)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Up to rounding: sums of 14 steps and 5 examples in another order."""
    for name, exact in other.items():
        torch.testing.assert_close(one[name], exact, rtol=1e-10, atol=1e-12 * exact.abs().max().item())
        assert exact.any()
