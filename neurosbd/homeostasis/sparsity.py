"""Few active units: a cost on the sum of all activities."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sparsity:
    """cost = weight mean_b sum_i |value[b, i]|, so that small activities go to zero.

        d cost / d value[b, i] = weight sign(value[b, i]) / B

    Args:
        weight: of the cost, >= 0.
    Raises:
        ValueError: if `weight` is negative.
    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558: activation sparsity, weight about 1e-10.
    """

    weight: float = 1e-10

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"Sparsity.weight must be >= 0, got {self.weight}")

    def init(self, value: Tensor, generator: torch.Generator) -> tuple[()]:
        """Nothing of its own."""
        return ()

    def step(self, state: tuple[()], value: Tensor, share: float) -> tuple[Tensor, tuple[()]]:
        """weight sign(value) / B, [B, *size]."""
        return torch.sign(value) * (self.weight / len(value)), state
