"""What an encoder must offer."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Encoder(Protocol):
    """A process between the data and the input population."""

    @property
    def intensity(self) -> bool:
        """Whether it wants intensities 0..1; else the values normalised to mean 0 and variance 1."""
        ...

    def init(self, value: Tensor, generator: torch.Generator | None = None) -> Any:
        """State before the first step, for values like this one [B, *size]."""
        ...

    def step(self, state: Any, value: Tensor, dt: float) -> tuple[Tensor, Any]:
        """What the input population shows, [B, *size]."""
        ...
