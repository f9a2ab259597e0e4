"""Pseudo-derivatives of the spike: what stands for d spike / d potential, which is zero almost everywhere.

All are functions of the distance from threshold x = (v - threshold) / scale, where scale is the
threshold itself for neurons measured in thresholds. A picture of each: docs/surrogates.png.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neurosbd.schema.constants import Positive, constants
from neurosbd.schema.namespace import is_table


class Surrogate(Protocol):
    """Shape of the pseudo-derivative."""

    def derivative(self, distance: Tensor) -> Tensor:
        """psi(x) >= 0 at every distance x from threshold, same shape; 0 far from it.

        The distance is the callee's: it may be written over, and its memory given back with what it has become. Large
        layers spend more time on asking for memory than on arithmetic.
        """
        ...


@constants
class Triangle:
    """psi(x) = height max(0, 1 - |x| / width).

    Args:
        height: at threshold, > 0 (gamma_pd of e-prop).
        width: distance at which it vanishes, in thresholds, > 0.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625, Methods; Esser et al. 2016, PNAS 113.
    """

    height: Positive = 0.3
    width: Positive = 1.0

    def derivative(self, distance: Tensor) -> Tensor:
        """Piecewise linear, zero beyond `width`."""
        return distance.abs_().mul_(-self.height / self.width).add_(self.height).clamp_(min=0)


@constants
class FastSigmoid:
    """psi(x) = 1 / (1 + slope |x|)^2.

    Args:
        slope: > 0; larger is narrower.
    Source: Zenke, Ganguli 2018 (SuperSpike), Neural Comput. 30; the default of snnTorch is slope 25.
    """

    slope: Positive = 25.0

    def derivative(self, distance: Tensor) -> Tensor:
        """Long tails: never exactly zero."""
        return distance.abs_().mul_(self.slope).add_(1).square_().reciprocal_()


@constants
class ArcTan:
    """psi(x) = (slope / 2) / (1 + (pi slope x / 2)^2).

    Args:
        slope: > 0; half of it is the height.
    Source: Fang et al. 2021, ICCV (PLIF).
    """

    slope: Positive = 2.0

    def derivative(self, distance: Tensor) -> Tensor:
        """Derivative of arctan(pi slope x / 2) / pi."""
        return distance.mul_(math.pi * self.slope / 2).square_().add_(1).reciprocal_().mul_(self.slope / 2)


@constants
class Boxcar:
    """psi(x) = height where |x| < width, else 0.

    Args:
        height: > 0.
        width: half width, in thresholds, > 0.
    Source: Kaiser, Mostafa, Neftci 2020 (DECOLLE), Front. Neurosci. 14:424; Wu et al. 2018 (STBP).
    """

    height: Positive = 0.5
    width: Positive = 1.0

    def derivative(self, distance: Tensor) -> Tensor:
        """Constant around threshold."""
        return torch.lt(distance.abs_(), self.width, out=distance).mul_(self.height)


@constants
class Gaussian:
    """psi(x) = height exp(-x^2 / (2 width^2)).

    Args:
        height: > 0.
        width: standard deviation, in thresholds, > 0.
    Source: Yin, Corradi, Bohte 2021, Nat. Mach. Intell. 3 (without their negative side lobes).
    """

    height: Positive = 0.5
    width: Positive = 0.5

    def derivative(self, distance: Tensor) -> Tensor:
        """Bell around threshold."""
        return distance.div_(self.width).square_().mul_(-0.5).exp_().mul_(self.height)


@dataclass(frozen=True)
class Without:
    """No pseudo-derivative: spikes that no gradient passes, for rules that only look at spikes.

    Source: the model neurons themselves.
    """

    def derivative(self, distance: Tensor) -> Tensor:
        """There is none."""
        raise ValueError(_without())


SURROGATES: dict[str, type] = {
    "triangle": Triangle,
    "fast_sigmoid": FastSigmoid,
    "arctan": ArcTan,
    "boxcar": Boxcar,
    "gaussian": Gaussian,
    "none": Without,
}
is_table(__name__, SURROGATES)


def check_gain(neuron: object) -> None:
    """Raise ValueError of a neuron that has no gain, since it spikes without a pseudo-derivative."""
    if isinstance(getattr(neuron, "surrogate", None), Without):
        raise ValueError(_without())


def _without() -> str:
    return (
        f"the neurons spike without a pseudo-derivative, which this rule needs; give the neuron a surrogate "
        f"({', '.join(name for name in SURROGATES if name != 'none')}), or use a rule of spikes (stdp, rstdp)"
    )


def above(potential: Tensor, threshold: float | Tensor) -> Tensor:
    """1 where potential > threshold, else 0; a constant to autograd."""
    still = potential.detach()
    return torch.gt(still, threshold, out=torch.empty_like(still))  # ten times faster than by way of a bool


def spike(distance: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where distance > 0, else 0; differentiable through the pseudo-derivative where autograd is on."""
    value = above(distance, 0.0)
    if torch.is_grad_enabled() and distance.requires_grad:
        still = distance.detach()
        value = value + (distance - still) * surrogate.derivative(still.clone())  # adds 0, with that slope
    return value
