"""Coverage of predictive intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.losses import PredictsInterval


@dataclass(frozen=True)
class Coverage:
    """Share of the targets inside their predictive interval; it should be the probability of the interval, not more.

        coverage = sum_nk 1[low <= y <= high] / (N k)

    The interval is the central one of 90 % for gaussian and crps, from the first to the last level for pinball.

    Args:
        loss: gaussian, crps, pinball with at least two levels.
    Source: Gneiting, Balabdaoui, Raftery 2007, J. R. Stat. Soc. B 69:243.
    """

    name, title, percent, higher_is_better = "coverage", "coverage", True, False

    loss: PredictsInterval

    def width(self, targets: int) -> int:
        """Targets inside, and all."""
        return 2

    def sums(self, batch: Batch, result: BatchResult) -> Tensor:
        """Over a batch."""
        low, high = self.loss.interval(result.output)
        y = batch.target.to(low.dtype)
        inside = ((low <= y) & (y <= high)).double().sum()
        return torch.stack((inside, torch.full_like(inside, y.numel())))

    def value(self, sums: Sequence[float]) -> float:
        """0..1."""
        inside, count = sums
        return inside / count if count else float("nan")
