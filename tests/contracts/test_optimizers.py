"""Optimizers and schedules: they descend, and keep the ratio of the rates."""

import pytest
import torch

from neurosbd.learning.optimizers import OPTIMIZERS, SCHEDULES
from tests.contracts.tables import every, made


@every(OPTIMIZERS)
def test_optimizers_descend_with_the_rates_of_their_groups(name: str) -> None:
    slow, fast = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = made(OPTIMIZERS, name).build([{"params": [slow], "lr": 1e-3}, {"params": [fast], "lr": 1e-2}])
    for parameter in (slow, fast):
        parameter.grad = torch.ones(3)
    optimizer.step()
    assert (1 - slow[0]).item() > 0 and (1 - fast[0]).item() == pytest.approx(10 * (1 - slow[0]).item(), rel=1e-3)


@every(SCHEDULES)
def test_schedules_run_to_the_end_and_keep_the_ratio_of_groups(name: str) -> None:
    a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimizer = OPTIMIZERS["sgd"]().build([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 1.0}])
    schedule = made(SCHEDULES, name).build(optimizer, 4, 5)
    rates = []
    for _ in range(20):
        optimizer.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
        schedule.step()
    assert all(0 <= r[0] <= 0.1 + 1e-9 and r[1] == pytest.approx(10 * r[0]) for r in rates)
    if name == "exponential":
        assert rates[5][0] == pytest.approx(0.097) and rates[4][0] == pytest.approx(0.1)
