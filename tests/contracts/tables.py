"""How the contracts make the entries of a table."""

from typing import Any

import pytest
import torch

from neurosbd.testing import CONSTANTS, READ

DT = 1e-3


def made(table: Any, name: str) -> Any:
    return table[name](**CONSTANTS.get(name, {}))


def every(table: Any) -> Any:
    return pytest.mark.parametrize("name", [name for name in table if name not in READ])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
