"""How the contracts make the entries of a table."""

from typing import Any

import pytest
import torch

from neurosbd.testing import CONSTANTS

DT = 1e-3


def made(table: Any, name: str) -> Any:
    return table[name](**CONSTANTS.get(name, {}))


def every(table: Any) -> Any:
    return pytest.mark.parametrize("name", list(table))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
