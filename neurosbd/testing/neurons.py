"""What every neuron keeps: its gain is the derivative of its value, and its step is pure."""

import torch
from torch import Tensor

from neurosbd.connections import Dense
from neurosbd.learning.simulation import unroll
from neurosbd.network import Connection, Network, Population
from neurosbd.neurons.neuron import Adaptive, Coupled, gain
from neurosbd.testing.judging import DT, Check, Make, close, demand, drawn, identical, seeded


def gain_equals_autograd(make: Make) -> None:
    """`gate(activity, p, dt)` is d value / d drive transposed times p, for any p. Oracle: autograd.

    Must fail when the gain is taken at the wrong side of a kink (tried: `>=`), or when a normalised drive is taken for
    one divided by a constant (tried).
    """
    neuron = make()
    drive = torch.cat((torch.linspace(-3, 3, 60), torch.tensor([0.0, 1.0]))).double().reshape(2, 31).requires_grad_()
    activity, _ = neuron.step(neuron.init(drive, seeded()), drive, DT)
    third_factor = drawn(2, 31)
    (exact,) = torch.autograd.grad(activity.value, drive, third_factor)
    gated = neuron.gate(activity, third_factor, DT)
    close(gated, exact, "The gain is not the derivative of the value by autograd", rtol=1e-10, atol=1e-13)


def gain_equals_differences(make: Make) -> None:
    """The same by finite differences, of neurons without a threshold."""
    neuron = make()
    if hasattr(neuron, "v_threshold"):
        return
    drive = torch.tensor([[-2.3, -0.7, 0.4, 0.9, 1.7], [0.3, 2.1, -0.6, -1.4, 0.8]], dtype=torch.float64)
    third_factor = torch.tensor([[0.3, -1.1, 0.7, 1.3, -0.2], [0.9, 0.4, -0.8, 0.1, 1.2]], dtype=torch.float64)
    step = 1e-6

    def value(u: Tensor) -> Tensor:
        return neuron.step(neuron.init(u, seeded()), u, DT)[0].value

    moves = step * torch.eye(drive.numel()).double().view(-1, *drive.shape)
    slope = torch.stack([(third_factor * (value(drive + m) - value(drive - m))).sum() for m in moves]) / (2 * step)
    activity, _ = neuron.step(neuron.init(drive, seeded()), drive, DT)
    gated, sentence = neuron.gate(activity, third_factor, DT), "The gain is not the slope of the value"
    close(gated, slope.view_as(drive), sentence, rtol=1e-8, atol=1e-9)


def step_is_pure(make: Make) -> None:
    """Nothing is written in place, twice is the same, shape and dtype stay, and no example looks at another."""
    for dtype in (torch.float32, torch.float64):
        _step_is_pure(make, dtype)


def _step_is_pure(make: Make, dtype: torch.dtype) -> None:
    neuron, drive, third_factor = make(), drawn(3, 4, 2, 2, dtype=dtype), drawn(3, 4, 2, 2, seed=1, dtype=dtype)
    before, kept = drive.clone(), third_factor.clone()
    state = neuron.init(drive, seeded())
    first, _ = neuron.step(state, drive, DT)
    again, _ = neuron.step(state, drive, DT)
    gated = neuron.gate(first, third_factor, DT)
    identical(drive, before, "A step of the neuron changes the drive that it was given")
    identical(third_factor, kept, "`gate` changes the third factor that it was given")
    identical(first.value, again.value, "Two steps from the same state give different values")
    demand(first.value.shape == gated.shape == drive.shape, "Value and gated third factor must have the drive's shape")
    demand(first.value.dtype == gated.dtype == dtype, f"Value and gated third factor must stay {dtype}")
    if not isinstance(neuron, Adaptive):
        alone, _ = neuron.step(neuron.init(drive[:1], seeded()), drive[:1], DT)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-7
        close(alone.value, first.value[:1], "An example alone has another value than in a batch", tolerance, tolerance)
    if not isinstance(neuron, Coupled):
        tolerance = 1.3e-6 if dtype == torch.float32 else 1e-7
        expected = third_factor * gain(neuron, first, DT)
        close(gated, expected, "`gate` is not the third factor times the gain", tolerance, 1e-5)


def network_step_is_one_graph(make: Make) -> None:
    """No Python branch looks at values: the step of a network traces whole, and computes the same."""
    populations = [Population("input", (3,), None), Population("out", (2,), make())]
    network = Network(populations, [Connection("input", "out", Dense(bias=True))], torch.Generator())
    x = drawn(4, 3, dtype=torch.float32)
    torch._dynamo.reset()  # each neuron is a compilation of its own
    compiled = torch.compile(network.step, backend="eager", fullgraph=True)
    frame = compiled(network.init(x, seeded()), x)
    plain = unroll(network, x[None], generator=seeded())
    identical(
        frame.activity["out"].value, plain.activity["out"].value, "A compiled step gives another value than a plain one"
    )


NEURON_CHECKS: tuple[Check, ...] = (
    gain_equals_autograd, gain_equals_differences, step_is_pure, network_step_is_one_graph,
)  # fmt: skip


def check_neuron(make: Make) -> None:
    """Everything that the contract of a neuron promises.

    Args:
        make: gives the neuron, `lambda: Mine(slope=0.2)`.
    Raises:
        AssertionError: with a sentence that says what does not hold.
    """
    for check in NEURON_CHECKS:
        check(make)
