"""Weights between two bounds."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.geometry import WeightAxes
from neurosbd.constraints.constraint import Nothing
from neurosbd.schema.constants import constants


class Limits(NamedTuple):
    """Bounds that differ between synapses, like the weight."""

    lower: Tensor
    upper: Tensor


@constants
class Bounds:
    """lower <= weight <= upper: what is outside is moved to the nearer bound.

    Args:
        lower: least weight: a number, or one per synapse, like the weight (in Python only); None: there is none.
        upper: largest weight, likewise, >= lower.
    Raises:
        ValueError: if both are None, lower exceeds upper, or there is another number of bounds than of synapses.
    Source: standard; hard bounds of STDP in Morrison, Diesmann, Gerstner 2008, Biol. Cybern. 98.
    """

    lower: float | Tensor | None = None
    upper: float | Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            if isinstance(getattr(self, name), list | tuple):
                object.__setattr__(self, name, torch.as_tensor(getattr(self, name)))
        if self.lower is None and self.upper is None:
            raise ValueError("Bounds needs a lower or an upper bound, or both")
        if self.lower is not None and self.upper is not None and bool(torch.any(_tensor(self.lower) > self.upper)):
            raise ValueError(f"Bounds.lower must be at most Bounds.upper, got {self.lower} and {self.upper}")

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """The widest of the bounds."""
        low = -math.inf if self.lower is None else _tensor(self.lower).min().item()
        high = math.inf if self.upper is None else _tensor(self.upper).max().item()
        return ((low, high),)

    def init(self, weight: Tensor, axes: WeightAxes, generator: torch.Generator) -> Limits | Nothing:
        """Bounds per synapse become tensors like the weight; numbers stay constants, exact in any type."""
        return self.limited(weight)

    def limited(self, weight: Tensor) -> Limits | Nothing:
        """What is kept of the bounds of a weight; ValueError if they are not one per synapse."""
        if not isinstance(self.lower, Tensor) and not isinstance(self.upper, Tensor):
            return Nothing()
        return Limits(self._like(weight, "lower", -math.inf), self._like(weight, "upper", math.inf))

    def apply(self, state: Limits | Nothing, weight: Tensor) -> None:
        """Clamped."""
        if isinstance(state, Limits):
            weight.clamp_(state.lower, state.upper)
        else:
            weight.clamp_(self.lower, self.upper)  # type: ignore[arg-type]

    def _like(self, weight: Tensor, name: str, free: float) -> Tensor:
        bound = getattr(self, name)
        if not isinstance(bound, Tensor):
            return torch.full_like(weight, free if bound is None else bound)
        if bound.shape != weight.shape:
            raise ValueError(
                f"Bounds.{name} has shape {list(bound.shape)}, but the weight has {list(weight.shape)}; give a number "
                f"for all synapses or one per synapse"
            )
        return torch.empty_like(weight).copy_(bound)


def _tensor(bound: float | Tensor) -> Tensor:
    return torch.as_tensor(bound, dtype=torch.float64)
