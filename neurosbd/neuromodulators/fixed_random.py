"""Fixed random projection of the score: direct feedback alignment."""

from dataclasses import field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosbd.constants import NotNegative, constants
from neurosbd.neuromodulators.layouts import NO_BASIS, Layout, Shared
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.neuromodulators.projection import draw_projection


class Frozen(NamedTuple):
    """State of a projection that does not learn."""

    frozen: Tensor  # [C, M], float32
    basis: Tensor = NO_BASIS  # of the layout


@constants
class FixedRandom:
    """third_factor[b] = score[b] R0, with R0 drawn once.

    Args:
        layout: which units share a column of R0, see LAYOUTS.
        scale: standard deviation of the entries of R0, >= 0.
    Raises:
        ValueError: if `scale` is negative or not finite.
    Source: Nokland 2016, NeurIPS (arXiv 1609.01596), equation 7.
    Differs: injected at the activity after the nonlinearity and before pooling, as in EBD.
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = True

    layout: Layout = field(default_factory=Shared)
    scale: NotNegative = 0.02

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Frozen:
        """Draw R0."""
        return Frozen(*draw_projection(receiver.value, broadcast, self.layout, self.scale, generator))

    def statistics(self, state: Frozen, receiver: Receiver, broadcast: Broadcast) -> tuple[()]:
        """Nothing is learned."""
        return ()

    def update(self, state: Frozen, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Frozen:
        """As it was."""
        return state

    def third_factor(self, state: Frozen, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """score R0 spread over the population, [B, *size]."""
        return self.layout.spread(broadcast.score @ state.frozen, receiver.value, state.basis)

    def projection(self, state: Frozen) -> Tensor:
        """R0, [C, M]."""
        return state.frozen
