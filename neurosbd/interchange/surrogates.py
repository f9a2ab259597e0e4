"""Pseudo-derivatives of other libraries: one of ours where it is the same curve, else the foreign one itself."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurosbd.surrogates import ArcTan, Boxcar, FastSigmoid, Surrogate, Triangle

_GRID = torch.linspace(-3, 3, 121, dtype=torch.float64)  # distances at which two curves are compared
Foreign = Any  # what belongs to another library, whose types are not ours to know


@dataclass(frozen=True)
class ForeignSurrogate:
    """psi(x) = unit * d spike(d) / d d at d = unit x, as the autograd function of another library says.

    Args:
        spike: a function of the distance from threshold, such as `snntorch.surrogate.atan()`.
        unit: the threshold of the neuron, in which our distances are measured, > 0.
    Source: Neftci, Mostafa, Zenke 2019, IEEE Signal Process. Mag. 36.
    """

    spike: Callable[[Tensor], Tensor]
    unit: float = 1.0

    def derivative(self, distance: Tensor) -> Tensor:
        """By autograd at each distance; 0 where the function has no derivative."""
        with torch.enable_grad():
            leaf = (distance.detach() * self.unit).requires_grad_()
            value = self.spike(leaf)
            if not value.requires_grad:
                return torch.zeros_like(distance)
            (slope,) = torch.autograd.grad(value, leaf, torch.ones_like(value))
        return slope * self.unit


def surrogate_of(spike: Callable[[Tensor], Tensor], unit: float) -> Surrogate:
    """One of our surrogates if it is the same function everywhere, else the foreign one.

    Args:
        spike: function of the distance from threshold.
        unit: the threshold, > 0.
    """
    foreign = ForeignSurrogate(spike, unit)
    wanted = foreign.derivative(_GRID.clone())
    for candidate in _candidates(wanted):
        if torch.allclose(candidate.derivative(_GRID.clone()), wanted, rtol=1e-5, atol=1e-9):
            return candidate
    return foreign


def _candidates(curve: Tensor) -> Iterator[Surrogate]:
    """What the curve may be, from its height at threshold and its value one unit away."""
    peak, near, far = (_short(curve[i].item()) for i in (60, 70, 80))  # at 0, 0.5 and 1
    if not (peak > 0 and math.isfinite(peak)):
        return
    yield ArcTan(_short(2 * peak))
    if 0 < far < 1:
        yield FastSigmoid(_short(far**-0.5 - 1))
    if near < peak:
        yield Triangle(peak, _short(peak / (peak - near) / 2))
    inside = _GRID[curve > 0]
    if len(inside) < len(_GRID):
        yield Boxcar(peak, inside.max().item() + 0.025)


def _short(value: float) -> float:
    """Without the dust of a rounded calculation."""
    return float(f"{value:.6g}")
