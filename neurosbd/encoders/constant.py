"""Constant current."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Constant:
    """The value itself, as a current that flows at every step: shown[t] = value.

    Source: standard ('direct' or 'constant current' coding), for example Rueckauer et al. 2017, Front. Neurosci. 11.
    """

    @property
    def intensity(self) -> bool:
        """Normalised values."""
        return False

    def init(self, value: Tensor, generator: torch.Generator | None = None) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def step(self, state: tuple[()], value: Tensor, dt: float) -> tuple[Tensor, tuple[()]]:
        """value."""
        return value, state
