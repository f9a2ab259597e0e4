"""What every neuron keeps: its gain is the derivative of its value, its step is pure; and what its constants keep."""

import torch
from torch import Tensor

from neurosbd.connections import Dense
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons.neuron import Adaptive, Coupled, gain
from neurosbd.testing.judging import DT, Check, Make, close, demand, drawn, identical, no_values, seeded

REST = -1e30  # where a refractory unit's distance from threshold is put


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
    before, original = drive.clone(), third_factor.clone()
    state = neuron.init(drive, seeded())
    first, _ = neuron.step(state, drive, DT)
    again, _ = neuron.step(state, drive, DT)
    gated = neuron.gate(first, third_factor, DT)
    identical(drive, before, "A step of the neuron changes the drive that it was given")
    identical(third_factor, original, "`gate` changes the third factor that it was given")
    identical(first.value, again.value, "Two steps from the same state give different values")
    for what, shape in (("value", first.value.shape), ("gated third factor", gated.shape)):
        sentence = f"The {what} has shape {list(shape)}, not that of the drive, {list(drive.shape)}"
        demand(shape == drive.shape, sentence)
    demand(first.value.dtype == gated.dtype == dtype, f"Value and gated third factor must stay {dtype}")
    if not isinstance(neuron, Adaptive):
        alone, _ = neuron.step(neuron.init(drive[:1], seeded()), drive[:1], DT)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-7
        close(alone.value, first.value[:1], "An example alone has another value than in a batch", tolerance, tolerance)
    if not isinstance(neuron, Coupled):
        tolerance = 1.3e-6 if dtype == torch.float32 else 1e-7
        expected = third_factor * gain(neuron, first, DT)
        close(gated, expected, "`gate` is not the third factor times the gain", tolerance, 1e-5)


def memory_is_that_of_its_batches(make: Make) -> None:
    """Of a neuron that remembers what it measures: two steps of half a share are one of a whole, nothing of no share;
    with what it remembers then, its gain is the derivative of its value and no example looks at another.

    Must fail when every step counts as a whole batch (tried), or the gain is that of before (tried).
    """
    neuron = make()
    if not isinstance(neuron, Adaptive):
        return
    drive, third_factor = 1 + drawn(6, 4), drawn(6, 4, seed=1)
    begun = neuron.init_moments((4,))
    begun = type(begun)(*(each.double() for each in begun))
    acting = neuron.learning(begun, None)
    measured = neuron.statistics(acting.step(acting.init(drive, seeded()), drive, DT)[0])
    whole, none = (neuron.update(begun, measured, share) for share in (1.0, 0.0))
    halves = neuron.update(neuron.update(begun, measured, 0.5), measured, 0.5)
    for now, other, before, still in zip(whole, halves, begun, none, strict=True):
        close(other, now, "Two updates of half a share are not one of a whole", rtol=1e-9, atol=1e-12)
        close(still, before, "An update of no share changes what it remembers", rtol=1e-12, atol=1e-12)
    resting = neuron.with_moments(whole)
    drive.requires_grad_()
    activity, _ = resting.step(resting.init(drive, seeded()), drive, DT)
    (exact,) = torch.autograd.grad(activity.value, drive, third_factor)
    gated, sentence = resting.gate(activity, third_factor, DT), "The gain with what it remembers is not the derivative"
    close(gated, exact, sentence, rtol=1e-10, atol=1e-13)
    alone, _ = resting.step(resting.init(drive[:1], seeded()), drive[:1], DT)
    close(alone.value, activity.value[:1], "At rest an example alone has another value than in a batch", 1e-9, 1e-12)


def network_step_is_one_graph(make: Make) -> None:
    """No Python branch looks at values: the step of a network traces whole, and computes the same."""
    populations = [Population("input", (3,), None), Population("out", (2,), make())]
    step = min(DT, getattr(make(), "longest_step", DT))
    network = Network(populations, [Connection("input", "out", Dense(bias=True))], torch.Generator(), step)
    x = drawn(4, 3, dtype=torch.float32)
    torch._dynamo.reset()  # each neuron is a compilation of its own
    compiled = torch.compile(network.step, backend="eager", fullgraph=True)
    frame = compiled(network.init(x, seeded()), x)
    plain = unroll(network, x[None], generator=seeded())
    identical(
        frame.activity["out"].value, plain.activity["out"].value, "A compiled step gives another value than a plain one"
    )


NEURON_CHECKS: tuple[Check, ...] = (
    step_is_pure, gain_equals_autograd, gain_equals_differences, memory_is_that_of_its_batches,
    network_step_is_one_graph,
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


def pseudo_derivative_is_a_bump(make: Make) -> None:
    """At every distance finite and not below 0, above it near threshold, 0 far from it.

    One for neurons without a gradient refuses with a ValueError that says so.
    """
    surrogate = make()
    for dtype in (torch.float32, torch.float64):
        distance = torch.cat((torch.linspace(-3, 3, 601, dtype=dtype), torch.tensor([REST, -torch.inf], dtype=dtype)))
        try:
            psi = surrogate.derivative(distance.clone())
        except ValueError as problem:
            demand("pseudo-derivative" in str(problem), f"`derivative` raises a ValueError for no reason: {problem}")
            return
        first = psi.clone()
        surrogate.derivative(distance.clone()).mul_(2)
        identical(psi, first, "`derivative` gives memory away that it uses again: callers multiply in place")
        demand(psi.shape == distance.shape and psi.dtype == dtype, "`derivative` must keep the shape and dtype")
        demand(torch.isfinite(psi).all(), "`derivative` is not finite at every distance (-inf is a resting unit)")
        demand((psi >= 0).all(), "`derivative` is below 0 at some distance")
        demand(psi[250:351].any(), "`derivative` is 0 within half a threshold: no spike would pass a gradient")
        demand((psi[-2:] < 1e-30).all(), "`derivative` does not vanish far from threshold, where resting units are put")
    with no_values("surrogate"):
        far = surrogate.derivative(torch.empty(3, device="meta"))
    demand(far.device.type == "meta", "`derivative` must stay on the device of the distance")


def draws_come_from_the_generator_alone(make: Make) -> None:
    """float32 of the shape that is asked for, finite, none below `least`; the same for the same seed."""
    distribution, there = make(), torch.get_rng_state()
    for shape in ((40_000,), (3, 4, 5)):
        one, two = (distribution.draw(shape, seeded()) for _ in range(2))
        identical(one, two, "Two draws of the same seed differ; randomness must come from the generator alone")
        demand(one.shape == shape, f"A draw of {list(shape)} has shape {list(one.shape)}")
        demand(one.dtype == torch.float32, f"A draw must be float32, got {one.dtype}")
        demand(torch.isfinite(one).all(), "A draw is not finite")
        least = one.min().item()
        demand(least >= distribution.least, f"`least` is {distribution.least:g}, but {least:g} is drawn")
    identical(torch.get_rng_state(), there, "A draw uses the global generator, not the one given")
    demand(one.unique().numel() > 1, "All draws are one value; a constant needs no distribution")


SURROGATE_CHECKS: tuple[Check, ...] = (pseudo_derivative_is_a_bump,)
DISTRIBUTION_CHECKS: tuple[Check, ...] = (draws_come_from_the_generator_alone,)


def check_surrogate(make: Make) -> None:
    """Everything that the contract of a surrogate promises; see `check_neuron`."""
    for check in SURROGATE_CHECKS:
        check(make)


def check_distribution(make: Make) -> None:
    """Everything that the contract of a distribution promises; see `check_neuron`."""
    for check in DISTRIBUTION_CHECKS:
        check(make)
