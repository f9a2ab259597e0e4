"""What an expansion of the score is."""

from typing import Protocol, TypeVar

import torch
from torch import Tensor

from neurosbd.neuromodulators.neuromodulator import Broadcast

S = TypeVar("S")  # its state


class Expansion(Protocol[S]):
    """A block of further columns for the score: as the score's own, their conditional mean is 0 at the optimum.

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

    def step(self, state: S, broadcast: Broadcast, dt: float) -> tuple[Tensor, S]:
        """Columns [B, D] of this step, of any scale; as the score they carry 1/B."""
        ...
