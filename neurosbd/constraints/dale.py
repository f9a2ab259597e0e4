"""Dale's law: all synapses that leave a unit have one sign."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.geometry import WeightAxes
from neurosbd.schema.constants import Fraction, constants


class Signs(NamedTuple):
    """+1 for what excites, -1 for what inhibits, along the presynaptic axis of the weight."""

    sign: Tensor


@constants
class Dale:
    """Weights from excitatory units are >= 0, from inhibitory ones <= 0; what has the other sign becomes 0.

        sign[j] weight[i, j] >= 0,   sign[j] = 1 for the first round(excitatory n) of n presynaptic units, else -1

    The first units of a population are the excitatory ones, so that a unit has the same sign in every connection that
    is given the same share. Of a map the units are its channels. Initial weights keep their size and take the sign.

    Args:
        excitatory: share of the presynaptic units that excite, 0..1.
    Raises:
        ValueError: if the share is out of range.
    Source: Dale 1935; Song, Yang, Wang 2016, PLoS Comput. Biol. 12 (80 % of the units excitatory, in this order).
    Differs: they learn the sizes through a rectified parameter; here the weights are clamped.
    """

    excitatory: Fraction = 0.8

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """From 0 for what excites, up to 0 for what inhibits."""
        excites, inhibits = (0.0, math.inf), (-math.inf, 0.0)
        return (excites,) * (self.excitatory > 0) + (inhibits,) * (self.excitatory < 1)

    def init(self, weight: Tensor, axes: WeightAxes, generator: torch.Generator) -> Signs:
        """Signs of the units, which the weights take."""
        arriving = weight.shape[axes.pre] if axes.pairs is None else axes.units[1]
        excite = round(self.excitatory * (arriving // axes.positions)) * axes.positions
        sign = torch.ones(arriving)
        sign[excite:] = -1
        if axes.pairs is None:
            sign = sign.view([arriving if axis == axes.pre else 1 for axis, _ in enumerate(weight.shape)])
        else:
            sign = sign.index_select(0, axes.pairs.pre)
        sign = sign.to(weight)
        weight.abs_().mul_(sign)
        return Signs(sign)

    def apply(self, state: Signs, weight: Tensor) -> None:
        """Turned, clamped and turned back."""
        weight.mul_(state.sign).clamp_min_(0).mul_(state.sign)
