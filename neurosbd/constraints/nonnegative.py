"""Weights that are never negative."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.connections.geometry import WeightAxes
from neurosbd.constraints.constraint import Nothing


@dataclass(frozen=True)
class Nonnegative:
    """weight >= 0: what is negative becomes 0.

    Initial weights keep their size and lose their sign, so that none starts at 0; their mean is above 0 then.

    Source: Clark, Abbott, Chung 2021, NeurIPS (GEVB), clamped after each update.
    Differs: they start a network from pairs of weights of both signs; here the initialiser's sizes are taken.
    """

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """From 0."""
        return ((0.0, math.inf),)

    def init(self, weight: Tensor, axes: WeightAxes, generator: torch.Generator) -> Nothing:
        """The sizes of the weights."""
        weight.abs_()
        return Nothing()

    def apply(self, state: Nothing, weight: Tensor) -> None:
        """Clamped."""
        weight.clamp_min_(0)
