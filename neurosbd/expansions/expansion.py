"""What an expansion of the score is."""

from typing import Protocol, TypeVar

import torch
from torch import Tensor

from neurosbd.neuromodulators.neuromodulator import Broadcast

S = TypeVar("S")  # its state


class Expansion(Protocol[S]):
    """A block of further columns for the score: as the score's own, their conditional mean is 0 at the optimum.

    Three verbs at every step, `columns`, `statistics` and `update`: the columns are those of the state before, so that
    no label of the present step is in what they are made of. The sums of all who share a batch can be added up.
    Its state lives as long as the experiment and is checkpointed with it.
    """

    @property
    def weight(self) -> float:
        """How loud it is beside the score, >= 0."""
        ...

    def width(self, broadcast: Broadcast) -> int:
        """D, its number of columns."""
        ...

    def init(self, broadcast: Broadcast, generator: torch.Generator) -> S:
        """State before any learning; random parts are drawn from `generator`.

        Raises:
            ValueError: if the mean would not be 0 for this loss, or nothing would be added.
        """
        ...

    def columns(self, state: S, broadcast: Broadcast) -> Tensor:
        """Columns [B, D] of this step, of any scale; as the score they carry 1/B, which is that of
        `broadcast.examples`."""
        ...

    def statistics(self, state: S, broadcast: Broadcast) -> tuple[Tensor, ...]:
        """What is followed, as sums over the examples at hand of what carries 1/B; (): nothing."""
        ...

    def update(self, state: S, sums: tuple[Tensor, ...], broadcast: Broadcast) -> S:
        """The state with this step in it."""
        ...


def no_statistics(expansion: object, state: object, broadcast: Broadcast) -> tuple[()]:
    """Nothing is followed: `statistics` of a block whose state stays, beside `unchanged`."""
    return ()
