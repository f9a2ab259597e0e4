"""Many small minimisations at once: Newton's method with damping, within bounds."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

STEPS = 250


class Taylor(NamedTuple):
    """Value [*n], slope [*n, C] and curvature [*n, C, C] of a function at n places."""

    value: Tensor
    slope: Tensor
    curvature: Tensor


def taylor(function: Callable[[Tensor], Tensor], z: Tensor) -> Taylor:
    """Value and two derivatives by autograd; every function value may depend on its own place only."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = function(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=True, materialize_grads=True)
        rows = [torch.zeros_like(z)] * z.shape[-1]
        if slope.requires_grad:  # not so for a loss of straight pieces
            totals = slope.flatten(0, -2).sum(0)
            rows = [torch.autograd.grad(t, leaf, retain_graph=True, materialize_grads=True)[0] for t in totals]
    return Taylor(value.detach(), slope.detach(), torch.stack(rows, -2))


def minimise(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    settled: Callable[[Tensor, Tensor], Tensor],
    low: float,
    high: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Local minimisers of a function from every start.

    Negative curvature is taken as positive and flat directions are damped, so that every step goes downhill.

    Args:
        function: places [*n, C] -> values [*n], each of its own place only.
        start: places [*n, C] within the bounds.
        settled: (places, slopes of what is free to move) -> which are good enough, [*n].
        low: bound of every coordinate.
        high: bound of every coordinate.

    Returns:
        Places, values, and which of them settled; the others stopped at a kink, or after 250 steps.
    """
    z, damping = start, torch.full_like(start[..., :1], 1e-3)
    at = taylor(function, z)
    for _ in range(STEPS):
        free = ~(((z <= low) & (at.slope > 0)) | ((z >= high) & (at.slope < 0)))
        slope = at.slope * free
        done = settled(z, slope)
        if bool((done | (damping[..., 0] > 1e16)).all()):
            break
        square = (at.curvature * free[..., None] * free[..., None, :]).nan_to_num(0.0, 0.0, 0.0)
        scale, direction = torch.linalg.eigh(0.5 * (square + square.mT))
        along = (slope[..., None, :] @ direction)[..., 0, :] / (scale.abs() + damping)
        trial = (z - (direction @ along[..., None])[..., 0] * free).clamp(low, high)
        there = taylor(function, trial)
        # At the very bottom the value no longer tells; there the slope does.
        level = there.value <= at.value + 4e-16 * at.value.abs()
        better = (there.value < at.value) | (level & (there.slope.norm(dim=-1) < at.slope.norm(dim=-1)))
        taken = (better & ~done)[..., None]
        z = torch.where(taken, trial, z)
        at = Taylor(
            torch.where(taken[..., 0], there.value, at.value),
            torch.where(taken, there.slope, at.slope),
            torch.where(taken[..., None], there.curvature, at.curvature),
        )
        damping = torch.where(taken, (0.2 * damping).clamp_min(1e-12), 5 * damping)
    free = ~(((z <= low) & (at.slope > 0)) | ((z >= high) & (at.slope < 0)))
    return z, at.value, settled(z, at.slope * free)
