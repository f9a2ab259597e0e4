"""What every optimizer and schedule keeps: it descends, and the ratio of the rates stays."""

import torch

from neurosbd.learning.optimizers import OPTIMIZERS
from neurosbd.testing.judging import Check, Make, demand


def optimizer_descends(make: Make) -> None:
    """Against the gradient, each group by its own rate."""
    slow, fast = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = make().build([{"params": [slow], "lr": 1e-3}, {"params": [fast], "lr": 1e-2}])
    for parameter in (slow, fast):
        parameter.grad = torch.ones(3)
    optimizer.step()
    one, two = (1 - slow[0]).item(), (1 - fast[0]).item()
    demand(one > 0, "The optimizer does not go down a slope of 1")
    demand(abs(two - 10 * one) < 1e-2 * two, f"A group of ten times the rate moves {two / one:.3g} times as far")


def schedule_keeps_the_ratio(make: Make) -> None:
    """Of the rates of two groups, to the end of the training; no rate rises above its start or below 0."""
    a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimizer = OPTIMIZERS["sgd"]().build([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 1.0}])
    schedule = make().build(optimizer, 4, 5)
    for step in range(20):
        optimizer.step()
        one, two = (group["lr"] for group in optimizer.param_groups)
        demand(0 <= one <= 0.1 + 1e-9, f"At step {step} the rate is {one:.3g}, where it started at 0.1")
        demand(abs(two - 10 * one) <= 1e-6 * two, f"At step {step} the ratio of two rates is no longer 10")
        schedule.step()


OPTIMIZER_CHECKS: tuple[Check, ...] = (optimizer_descends,)
SCHEDULE_CHECKS: tuple[Check, ...] = (schedule_keeps_the_ratio,)


def check_optimizer(make: Make) -> None:
    """Everything that the contract of an optimizer promises; see `check_neuron`."""
    for check in OPTIMIZER_CHECKS:
        check(make)


def check_schedule(make: Make) -> None:
    """Everything that the contract of a schedule promises; see `check_neuron`."""
    for check in SCHEDULE_CHECKS:
        check(make)
