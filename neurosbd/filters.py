"""Exponential decay: the one place where time constants become factors per step. Layer 0."""

import math

import torch
from torch import Tensor


def decay(tau: float | Tensor, dt: float) -> float | Tensor:
    """exp(-dt / tau): what is left after one step.

    Args:
        tau: time constant, s, > 0; a number or one per unit.
        dt: step, s.

    >>> round(decay(20e-3, 1e-3), 4)
    0.9512
    """
    return torch.exp(-dt / tau) if isinstance(tau, Tensor) else math.exp(-dt / tau)


def leak(value: Tensor, factor: float | Tensor, added: Tensor) -> Tensor:
    """factor * value + added, in one pass over memory where the factor is a number."""
    if isinstance(factor, Tensor):
        return torch.addcmul(added, value, factor)
    return torch.add(added, value, alpha=factor)
