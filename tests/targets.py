"""Every loss with its options; outputs and legal targets for any of them, and its derivative there in two ways."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.losses import LOSSES, Described

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


def example(loss: Described, count: int, values: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random outputs [count, parameters x values] and legal targets beside them, float64 or labels."""
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(count, loss.parameters * values, dtype=torch.float64, generator=generator)
    support = loss.targets.support(values, generator)
    return output, support[torch.randint(len(support), (count,), generator=generator)]


def slope(loss: Described, output: Tensor, target: Tensor) -> Tensor:
    """d loss / d output by autograd."""
    with torch.enable_grad():
        leaf = output.detach().requires_grad_()
        (exact,) = torch.autograd.grad(loss.per_example(leaf, target).sum(), leaf)
    return exact


def differences(loss: Described, output: Tensor, target: Tensor, step: float = 1e-6) -> Tensor:
    """The same by central differences, every output of every example."""
    moves = step * torch.eye(output.shape[1], dtype=output.dtype)
    rises = [loss.per_example(output + move, target) - loss.per_example(output - move, target) for move in moves]
    return torch.stack(rises, 1) / (2 * step)


def close(one: Tensor, other: Tensor, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    """As equal as float64 is, whatever the dtypes."""
    torch.testing.assert_close(one, other, rtol=rtol, atol=atol, check_dtype=False)
