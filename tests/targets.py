"""Every loss with its options; outputs and legal targets for any of them, and its derivative there in two ways."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.losses import LOSSES
from neurosbd.testing.losses import differences, example, slope

__all__ = ["OPTIONS", "close", "differences", "example", "named", "slope", "with_options"]

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in LOSSES),
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("cross_entropy", {"class_weights": (1.0, 0.5, 3.0)}),
    ("cross_entropy", {"label_smoothing": 0.1, "class_weights": (1.0, 0.5, 3.0)}),
    ("bernoulli", {"label_smoothing": 0.1}),
    ("bernoulli", {"positive_weights": (1.0, 0.5, 3.0)}),
    ("bernoulli", {"label_smoothing": 0.1, "positive_weights": (1.0, 0.5, 3.0)}),
    ("gamma", {"shape": 3.5}),
    ("negative_binomial", {"r": 0.3}),
    ("negative_binomial", {"r": 40.0}),
    ("pinball", {"levels": (0.1, 0.5, 0.95)}),
]


def named(value: Any) -> str:
    return value if isinstance(value, str) else "-".join(value)


def with_options(cases: list[tuple[str, dict[str, Any]]] = OPTIONS) -> Any:
    return pytest.mark.parametrize(("name", "options"), cases, ids=named)


def close(one: Tensor, other: Tensor, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    """As equal as float64 is, whatever the dtypes."""
    torch.testing.assert_close(one, other, rtol=rtol, atol=atol, check_dtype=False)
