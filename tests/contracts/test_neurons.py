"""Neurons: the gain is the derivative, the step is pure."""

import pytest
import torch
from torch import Tensor

from neurosbd.connections import Dense
from neurosbd.learning.simulation import unroll
from neurosbd.network import Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.neurons.neuron import Adaptive, Coupled, gain
from tests.contracts.tables import DT, every, made, seeded


@every(NEURONS)
def test_gain_is_the_derivative_of_the_value(name: str) -> None:
    """Oracle: autograd, for any signal. Must fail when the gain is taken at the wrong side of a kink (tried: `>=`), or
    when a normalised drive is taken for one divided by a constant (tried)."""
    neuron = made(NEURONS, name)
    drive = torch.cat((torch.linspace(-3, 3, 60), torch.tensor([0.0, 1.0]))).double().reshape(2, 31).requires_grad_()
    activity, _ = neuron.step(neuron.init(drive, seeded()), drive, 1e-3)
    signal = torch.randn_like(drive)
    (exact,) = torch.autograd.grad(activity.value, drive, signal)
    torch.testing.assert_close(neuron.gate(activity, signal, DT), exact, rtol=1e-10, atol=1e-13)


SPIKING = [name for name in NEURONS if hasattr(made(NEURONS, name), "v_threshold")]


@pytest.mark.parametrize("name", [name for name in NEURONS if name not in SPIKING])
def test_gain_by_finite_differences(name: str) -> None:
    neuron = made(NEURONS, name)
    drive = torch.tensor([[-2.3, -0.7, 0.4, 0.9, 1.7], [0.3, 2.1, -0.6, -1.4, 0.8]], dtype=torch.float64)
    step = 1e-6

    def value(u: Tensor) -> Tensor:
        return neuron.step(neuron.init(u, seeded()), u, 1e-3)[0].value

    signal = torch.tensor([[0.3, -1.1, 0.7, 1.3, -0.2], [0.9, 0.4, -0.8, 0.1, 1.2]], dtype=torch.float64)
    moves = step * torch.eye(drive.numel()).double().view(-1, *drive.shape)
    slope = torch.stack([(signal * (value(drive + move) - value(drive - move))).sum() for move in moves]) / (2 * step)
    activity, _ = neuron.step(neuron.init(drive, seeded()), drive, 1e-3)
    torch.testing.assert_close(neuron.gate(activity, signal, DT), slope.view_as(drive), rtol=1e-8, atol=1e-9)


@every(NEURONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neurons_are_pure_and_keep_shape_and_dtype(name: str, dtype: torch.dtype) -> None:
    neuron = made(NEURONS, name)
    drive = torch.randn(3, 4, 2, 2, dtype=dtype)
    before = drive.clone()
    state = neuron.init(drive, seeded())
    first, _ = neuron.step(state, drive, 1e-3)
    again, _ = neuron.step(state, drive, 1e-3)
    signal = torch.randn_like(drive)
    kept = signal.clone()
    gated = neuron.gate(first, signal, DT)
    assert torch.equal(drive, before) and torch.equal(signal, kept)
    assert torch.equal(first.value, again.value)
    assert first.value.shape == gated.shape == drive.shape and first.value.dtype == gated.dtype == dtype
    alone, _ = neuron.step(neuron.init(drive[:1], seeded()), drive[:1], 1e-3)
    if not isinstance(neuron, Adaptive):
        torch.testing.assert_close(alone.value, first.value[:1])  # batch independence
    if not isinstance(neuron, Coupled):
        torch.testing.assert_close(gated, signal * gain(neuron, first, DT))


@every(NEURONS)
def test_network_step_is_one_graph(name: str) -> None:
    """No Python branch on values: the step traces whole."""
    populations = [Population("input", (3,), None), Population("out", (2,), made(NEURONS, name))]
    network = Network(populations, [Connection("input", "out", Dense(bias=True))], torch.Generator())
    x = torch.randn(4, 3)
    torch._dynamo.reset()  # each neuron is a compilation of its own
    compiled = torch.compile(network.step, backend="eager", fullgraph=True)
    frame = compiled(network.init(x, seeded()), x)
    assert torch.equal(frame.activity["out"].value, unroll(network, x[None], generator=seeded()).activity["out"].value)
