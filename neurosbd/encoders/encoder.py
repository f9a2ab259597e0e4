"""What an encoder must offer."""

from typing import Protocol, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")  # its state


class Encoder(Protocol[S]):
    """A process between the data and the input population."""

    @property
    def intensity(self) -> bool:
        """Whether it wants intensities 0..1; else the values normalised to mean 0 and variance 1."""
        ...

    def init(self, value: Tensor, generator: torch.Generator | None = None) -> S:
        """State before the first step, for values like this one [B, *size]."""
        ...

    def step(self, state: S, value: Tensor, dt: float) -> tuple[Tensor, S]:
        """What the input population shows, [B, *size]."""
        ...
