"""Outputs and legal targets for any loss, without knowing which it is, and its derivative there in two ways."""

import torch
from torch import Tensor

from neurosbd.losses import Described


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
