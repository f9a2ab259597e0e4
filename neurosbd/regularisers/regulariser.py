"""What keeps units and weights alive: regularisers of activity and of weights."""

from typing import Protocol, TypeVar

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses

S = TypeVar("S")  # its state


class Homeostasis(Protocol[S]):
    """Keeps a hidden population alive by its own activity, without hearing the loss.

    Its state lives as long as the experiment and is checkpointed with it.
    """

    def init(self, value: Tensor, generator: torch.Generator) -> S:
        """State before any learning, for activities like `value` [B, *size]."""
        ...

    def step(self, state: S, value: Tensor, share: float) -> tuple[Tensor, S]:
        """d cost / d value of every unit, to be descended, a mean over the batch: each row carries 1/B, [B, *size].

        `share` is the part of a batch that this step stands for.
        """
        ...


class Upkeep(Protocol[S]):
    """Keeps the synapses of a hidden connection fit by their own weights, without seeing any activity.

    Its state lives as long as the experiment and is checkpointed with it.
    """

    def init(self, synapses: Synapses) -> S:
        """State before any learning, for synapses like these."""
        ...

    def step(self, state: S, synapses: Synapses, present: Tensor | None) -> tuple[Synapses | None, S]:
        """d cost / d synapses of a batch, to be descended; it belongs to the state. None if there is none.

        `present` is 1 where there is a synapse, 0 where not, like the weight; None if all are there.
        """
        ...
