"""Power normalisation: the mean square of every unit is drawn to a target."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import per_unit
from neurosbd.regularisers.regulariser import Part
from neurosbd.schema.constants import NotNegative, Positive, Share, constants


class MeanSquare(NamedTuple):
    """State of a power normalisation."""

    power: Tensor  # running mean of value^2, per unit [N], of a map per channel [channels]


@constants
class Power:
    """cost = weight sum_i (m_i - target)^2, with m_i the running mean of value_i^2.

        m <- lam m + (1 - lam) mean_b value[b]^2
        pull[b, i] = 4 weight (m_i - target) value[b, i] / (B positions)

    In a map a channel is one i: its mean runs over the positions as well, because that is what its one kernel can
    hold. lam is per batch; the steps of a spiking run each take their share. At lam = 0 the pull is the derivative of
    the cost of this batch; else the factor (1 - lam) is left to the learning rate. m starts at the target, so nothing
    is pulled before it was seen. A unit that is silent for every example has no pull: nothing revives it.

    Args:
        target: P, the mean square that is wanted, > 0.
        weight: of the cost, >= 0.
        forgetting: lam, per batch, 0 <= lam < 1.
    Raises:
        ValueError: if a constant is out of range.
    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558: power normalisation, target .25 in its MLPs.
    Differs: a running mean in place of that of the batch (which lam = 0 is); maps per channel are our own reading.
    """

    target: Positive = 0.25
    weight: NotNegative = 1e-2
    forgetting: Share = 0.9

    def init(self, value: Tensor, generator: torch.Generator) -> MeanSquare:
        """At the target."""
        return MeanSquare(value.new_full((value.shape[1],), self.target))

    def statistics(self, state: MeanSquare, value: Tensor, part: Part) -> tuple[Tensor]:
        """sum_b value[b]^2 / B, of a map the mean over its positions, like m."""
        rows = value.movedim(1, -1).flatten(0, -2)  # no copy: maps lie channels-last
        return (rows.square().sum(0) / (part.examples * _positions(value)),)

    def update(self, state: MeanSquare, sums: tuple[Tensor, ...], share: float) -> MeanSquare:
        """m with this step in it."""
        return MeanSquare(torch.lerp(sums[0], state.power, self.forgetting**share))

    def apply(self, state: MeanSquare, value: Tensor, part: Part) -> Tensor:
        """4 weight (m - target) value / (B positions), [B, *size]."""
        slope = (state.power - self.target) * (4 * self.weight / (part.examples * _positions(value)))
        return value * per_unit(slope, value)


def _positions(value: Tensor) -> int:
    """At which a unit, or a channel, has a value."""
    return math.prod(value.shape[2:])
