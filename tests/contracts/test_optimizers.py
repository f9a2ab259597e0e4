"""Optimizers and schedules: they descend, and keep the ratio of the rates."""

import pytest
import torch

from neurosbd.learning.optimizers import OPTIMIZERS
from neurosbd.learning.schedules import SCHEDULES


def test_an_exponential_schedule_moves_once_an_epoch() -> None:
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = OPTIMIZERS["sgd"]().build([{"params": [parameter], "lr": 0.1}])
    schedule = SCHEDULES["exponential"]().build(optimizer, 4, 5)
    rates = []
    for _ in range(6):
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert rates[5] == pytest.approx(0.097) and rates[4] == pytest.approx(0.1)
