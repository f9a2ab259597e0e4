"""What keeps units and weights alive: regularisers of activity and of weights."""

from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses

S = TypeVar("S")  # its state


class Part(NamedTuple):
    """Which examples of a batch are at hand: all of them, unless several processes share it."""

    examples: int  # of the whole batch, over which everything is a mean
    first: int = 0  # number in it of the first example at hand


class Homeostasis(Protocol[S]):
    """Keeps a hidden population alive by its own activity, without hearing the loss, in three verbs at every step:

        sums = homeostasis.statistics(state, value, part)      measure
        state = homeostasis.update(state, sums, share)         follow
        pull = homeostasis.apply(state, value, part)           pull

    Between the first and the second, the sums of all who share a batch can be added up. Nothing is written in place.
    Its state lives as long as the experiment and is checkpointed with it.
    """

    def init(self, value: Tensor, generator: torch.Generator) -> S:
        """State before any learning, for activities like `value` [B, *size]."""
        ...

    def statistics(self, state: S, value: Tensor, part: Part) -> tuple[Tensor, ...]:
        """What is followed, as sums over the examples at hand of what carries the 1/B of the whole batch; (): nothing.

        Those of two parts of a batch add up to those of the whole. Those of all steps of a block are taken before the
        first `update`, so of the state only what no update changes may be looked at.
        """
        ...

    def update(self, state: S, sums: tuple[Tensor, ...], share: float) -> S:
        """The state with this step in it, which stands for the share of a batch."""
        ...

    def apply(self, state: S, value: Tensor, part: Part) -> Tensor:
        """d cost / d value of every unit, to be descended, a mean over the batch: each row carries 1/B, [B, *size]."""
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
