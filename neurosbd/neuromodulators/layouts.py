"""How a projection is laid over a population: one row per unit, or one per channel.

A layout turns an activity [B, *size] into the coordinates [B, M] in which a projection [C, M] lives,
and spreads a signal [B, M] back over the population. M is the last axis of a projection, so that its
skinny products with [B, C] scores read memory in order: about five times faster than [M, C].
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Layout(Protocol):
    """Coordinates of a projection over one population."""

    def summary(self, value: Tensor) -> Tensor:
        """Activity [B, *size] in the coordinates of the projection, [B, M]."""
        ...

    def spread(self, signal: Tensor, like: Tensor) -> Tensor:
        """Signal [B, M] over the population, [B, *size of like]."""
        ...


@dataclass(frozen=True)
class Full:
    """One row per unit; for maps one per channel and position.

    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD): units of a conv layer are channels x height x width.
    Differs: rows of a map are ordered position by position (channels-last), which costs no copy.
    """

    def summary(self, value: Tensor) -> Tensor:
        """Every unit, [B, units]."""
        if value.ndim == 4:
            value = value.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        return value.flatten(1)

    def spread(self, signal: Tensor, like: Tensor) -> Tensor:
        """Every unit its own signal."""
        if like.ndim == 4:
            batch, channels, height, width = like.shape
            return signal.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return signal.view(like.shape)


@dataclass(frozen=True)
class Shared:
    """One row per channel, shared over the positions of a map; for other populations the same as full.

    The correlation is taken with the mean over positions, so frozen and learned parts keep their scale.
    Source: this project's own reading (algorithms A6: as accurate as full, hundreds of times smaller).
    """

    def summary(self, value: Tensor) -> Tensor:
        """Mean over positions, [B, channels]."""
        return value.mean((2, 3)) if value.ndim == 4 else value.flatten(1)

    def spread(self, signal: Tensor, like: Tensor) -> Tensor:
        """Every position of a channel the same signal; an expanded view, nothing is written."""
        return signal[:, :, None, None].expand(like.shape) if like.ndim == 4 else signal.view(like.shape)


LAYOUTS = {"full": Full, "shared": Shared}
