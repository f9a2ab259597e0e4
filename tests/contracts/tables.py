"""How the contracts make the entries of a table."""

from typing import Any

import pytest
import torch

from neurosbd.plasticity import ThreeFactor, Window

REQUIRED: dict[str, dict[str, Any]] = {
    "weight_entropy": {"on": "all"},
    "conv2d": {"kernel": 3, "padding": 1},
    "local2d": {"kernel": 3, "padding": 1},
    "steps": {"epochs": (1, 3)},
    "uniform": {"low": 1.0, "high": 2.0},
    "normal": {"mean": 1.0, "std": 0.5},
    "log_normal": {"median": 1.0},
    "rate_regulated": {"inner": ThreeFactor()},
    "spike_timing": {"window": Window()},
    "rewarded_spike_timing": {"window": Window()},
}
DT = 1e-3


def made(table: Any, name: str) -> Any:
    return table[name](**REQUIRED.get(name, {}))


def every(table: Any) -> Any:
    return pytest.mark.parametrize("name", list(table))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
