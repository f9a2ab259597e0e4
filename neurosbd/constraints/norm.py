"""Units whose incoming weights have a size that does not change."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.geometry import WeightAxes
from neurosbd.constants import Positive, constants

Size = Literal["l1", "l2", "fan_in"]


class Norms(NamedTuple):
    """What the incoming weights of each postsynaptic unit are scaled to, like the weight with 1 in place of all other
    axes."""

    target: Tensor


@constants
class Norm:
    """The incoming weights of every postsynaptic unit (conv: channel) are scaled to one size.

        weight[i] <- weight[i] target / ||weight[i]||,   ||.|| = sum |w|, sqrt(sum w^2), or the mean of |w|

    A unit whose weights are all 0 is left so. Biases are no part of it.

    Args:
        size: 'l1': sum of the absolute weights; 'l2': their Euclidean length; 'fan_in': their mean, over the synapses
            that are not 0 at the start.
        target: the size, > 0; None: that of each unit at the start.
    Raises:
        ValueError: if the target is not positive.
    Source: Oja 1982, J. Math. Biol. 15 ('l2'); Goupy, Tirilly, Bilasco 2024 (NCG), the initial sum after each update
        ('l1').
    """

    size: Size = "l1"
    target: Positive | None = None

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """It binds no single synapse."""
        return ((-math.inf, math.inf),)

    def init(self, weight: Tensor, axes: WeightAxes, generator: torch.Generator) -> Norms:
        """Target of every unit; the weights start there."""
        others = tuple(axis for axis, _ in enumerate(weight.shape) if axis not in axes.post)
        now = self._norm(weight, others)
        if self.target is None:
            return Norms(now)
        count = (weight != 0).sum(others, keepdim=True).to(weight) if self.size == "fan_in" else torch.ones_like(now)
        state = Norms(self.target * count)
        self.apply(state, weight)
        return state

    def apply(self, state: Norms, weight: Tensor) -> None:
        """Scaled, unit by unit."""
        now = self._norm(weight, tuple(axis for axis, length in enumerate(state.target.shape) if length == 1))
        weight.mul_(state.target / now.clamp_min_(torch.finfo(weight.dtype).tiny))

    def _norm(self, weight: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Of the weights of each unit; a mean is a sum with another target."""
        return torch.linalg.vector_norm(weight, 2 if self.size == "l2" else 1, axes, keepdim=True)
