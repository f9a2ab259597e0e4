"""What every process that generates data keeps: the truth that it states is the truth of what it draws."""

import torch

from neurosbd.datasets.processes import Drawn
from neurosbd.testing.judging import Check, Make, demand, identical, seeded

MANY = 20_000
FIELDS = ("values", "targets", "mean", "std")


def examples_have_the_shapes_of_data(make: Make) -> None:
    """Values float32 [N, n] or pictures uint8 [N, height, width, channels]; targets, mean and std [N, k], finite."""
    drawn = make().draw(10, seeded())
    values, targets = drawn.values, drawn.targets
    legal = (values.ndim == 2 and values.dtype == torch.float32) or (values.ndim == 4 and values.dtype == torch.uint8)
    sentence = "Values must be float32 [N, n] or pictures uint8 [N, height, width, channels], got "
    demand(legal and len(values) == 10, f"{sentence}{values.dtype} {list(values.shape)} for N = 10")
    demand(targets.ndim == 2 and len(targets) == 10, f"Targets must be [N, k], got {list(targets.shape)} for N = 10")
    for name in ("mean", "std"):
        shape = getattr(drawn, name).shape
        demand(shape == targets.shape, f"`{name}` is {list(shape)}, but targets are {list(targets.shape)}")
    for name in FIELDS:
        demand(torch.isfinite(getattr(drawn, name).double()).all(), f"`{name}` is not finite")
    demand((drawn.std >= 0).all(), "`std` is below 0")


def examples_come_from_the_generator_alone(make: Make) -> None:
    """The same seed draws the same examples, another seed others."""
    there = torch.get_rng_state()
    one, two, other = (make().draw(10, seeded(seed)) for seed in (0, 0, 1))
    for name in FIELDS:
        sentence = f"The same generator draws other {name} the second time"
        identical(getattr(one, name), getattr(two, name), sentence)
    identical(torch.get_rng_state(), there, "Examples are drawn from the global generator, not from the one given")
    demand(not torch.equal(one.targets, other.targets), "Two seeds draw the same targets")


def mean_and_std_are_those_of_the_targets(make: Make) -> None:
    """Over 20,000 examples, within six standard errors. Must fail when the variance is given as std (tried)."""
    drawn: Drawn = make().draw(MANY, seeded())
    noisy = (drawn.std > 0).all(1)
    targets, mean, std = (tensor.double()[noisy] for tensor in (drawn.targets, drawn.mean, drawn.std))
    if not len(targets):
        return
    z = (targets - mean) / std
    for power, wanted, name in ((1, 0.0, "mean"), (2, 1.0, "std")):
        moment = z**power
        off = (moment.mean(0) - wanted).abs() / (moment.std(0) / len(z) ** 0.5)
        demand((off < 6).all(), f"`{name}` is not that of the targets: {off.max():.0f} standard errors off")


PROCESS_CHECKS: tuple[Check, ...] = (
    examples_have_the_shapes_of_data, examples_come_from_the_generator_alone, mean_and_std_are_those_of_the_targets,
)  # fmt: skip


def check_process(make: Make) -> None:
    """Everything that the contract of a process promises; see `check_neuron`."""
    for check in PROCESS_CHECKS:
        check(make)
