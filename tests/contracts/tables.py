"""How the contracts make the entries of a table, and run the checks of `neurosbd.testing` on them."""

from typing import Any

import pytest
import torch

from neurosbd.tables import TABLES
from neurosbd.testing import CHECKS, REQUIRED

DT = 1e-3


def made(table: Any, name: str) -> Any:
    return table[name](**REQUIRED.get(name, {}))


def every(table: Any) -> Any:
    return pytest.mark.parametrize("name", list(table))


def checked(kind: str) -> Any:
    """Every item of a kind under every check of its contract."""
    cases = [(name, check) for name in TABLES[kind] for check in CHECKS[kind]]
    return pytest.mark.parametrize(("name", "check"), cases, ids=lambda v: v if isinstance(v, str) else v.__name__)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
