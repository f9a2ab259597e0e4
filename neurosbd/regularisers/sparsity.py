"""Few active units: a cost on the sum of all activities."""

import torch
from torch import Tensor

from neurosbd.regularisers.regulariser import Part
from neurosbd.schema.constants import NotNegative, constants


@constants
class Sparsity:
    """cost = weight mean_b sum_i |value[b, i]|, so that small activities go to zero.

        pull[b, i] = weight sign(value[b, i]) / B

    Args:
        weight: of the cost, >= 0.
    Raises:
        ValueError: if `weight` is negative or not finite.
    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558: activation sparsity, weight about 1e-10.
    """

    weight: NotNegative = 1e-10

    def init(self, value: Tensor, generator: torch.Generator) -> tuple[()]:
        """Nothing of its own."""
        return ()

    def statistics(self, state: tuple[()], value: Tensor, part: Part) -> tuple[()]:
        """Nothing is followed."""
        return ()

    def update(self, state: tuple[()], sums: tuple[Tensor, ...], share: float) -> tuple[()]:
        """There is none."""
        return state

    def apply(self, state: tuple[()], value: Tensor, part: Part) -> Tensor:
        """weight sign(value) / B, [B, *size]."""
        return torch.sign(value).mul_(self.weight / part.examples)
