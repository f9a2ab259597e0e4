"""Accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch, BatchResult


@dataclass(frozen=True)
class Accuracy:
    """Share of the examples that went right: of the right class, or as a task judges.

        accuracy = sum_n success_n / N

    Args:
        success: how well each example of a batch went, 0..1, [B] or one for all.
    Source: standard.
    """

    name, title, percent, higher_is_better = "accuracy", "accuracy", True, True

    success: Callable[[Batch, BatchResult], Tensor]

    def width(self, targets: int) -> int:
        """Successes and examples."""
        return 2

    def sums(self, batch: Batch, result: BatchResult) -> Tensor:
        """Over a batch."""
        count = len(result.output)
        hits = self.success(batch, result).mean(dtype=torch.float64) * count
        return torch.stack((hits, torch.full_like(hits, count)))

    def value(self, sums: Sequence[float]) -> float:
        """0..1."""
        hits, count = sums
        return hits / count if count else float("nan")
