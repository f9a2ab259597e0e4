"""Units whose incoming weights have a size that does not change."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.geometry import WeightAxes
from neurosbd.schema.constants import Positive, constants

Size = Literal["l1", "l2", "fan_in"]


class Norms(NamedTuple):
    """What the incoming weights of each postsynaptic unit are scaled to, like the weight with 1 in place of all other
    axes."""

    target: Tensor


class ListedNorms(NamedTuple):
    """The same of a weight that lists its synapses."""

    target: Tensor  # of each postsynaptic unit
    post: Tensor  # number of the unit of each synapse


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

    def init(self, weight: Tensor, axes: WeightAxes, generator: torch.Generator) -> Norms | ListedNorms:
        """Target of every unit; the weights start there."""
        if axes.pairs is not None:
            state: Norms | ListedNorms = ListedNorms(weight.new_zeros(axes.units[0]), axes.pairs.post)
        else:
            state = Norms(weight.new_zeros([n if axis in axes.post else 1 for axis, n in enumerate(weight.shape)]))
        now = self._norm(weight, state)
        if self.target is None:
            return state._replace(target=now)
        count = _sums((weight != 0).to(weight), state) if self.size == "fan_in" else torch.ones_like(now)
        state = state._replace(target=self.target * count)
        self.apply(state, weight)
        return state

    def apply(self, state: Norms | ListedNorms, weight: Tensor) -> None:
        """Scaled, unit by unit."""
        factor = state.target / self._norm(weight, state).clamp_min_(torch.finfo(weight.dtype).tiny)
        weight.mul_(factor.index_select(0, state.post) if isinstance(state, ListedNorms) else factor)

    def _norm(self, weight: Tensor, state: Norms | ListedNorms) -> Tensor:
        """Of the weights of each unit; a mean is a sum with another target."""
        if isinstance(state, ListedNorms):
            return _sums(weight.square(), state).sqrt_() if self.size == "l2" else _sums(weight.abs(), state)
        return torch.linalg.vector_norm(weight, 2 if self.size == "l2" else 1, _others(state), keepdim=True)


def _sums(values: Tensor, state: Norms | ListedNorms) -> Tensor:
    """Of all synapses of each postsynaptic unit."""
    if isinstance(state, ListedNorms):
        return torch.zeros_like(state.target).index_add_(0, state.post, values)
    return values.sum(_others(state), keepdim=True)


def _others(state: Norms) -> tuple[int, ...]:
    """Axes that number no postsynaptic unit."""
    return tuple(axis for axis, length in enumerate(state.target.shape) if length == 1)
