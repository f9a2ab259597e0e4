"""Accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.learners import Outcome, Trial


@dataclass(frozen=True)
class Accuracy:
    """Share of the examples that went right: of the right class, or as a task judges.

        accuracy = sum_n success_n / N

    Args:
        success: how well each example of a batch went, 0..1, [B] or one for all.
    """

    name, title, percent, higher_is_better = "accuracy", "accuracy", True, True

    success: Callable[[Trial, Outcome], Tensor]

    def width(self, targets: int) -> int:
        """Successes and examples."""
        return 2

    def sums(self, trial: Trial, outcome: Outcome) -> Tensor:
        """Over a batch."""
        count = len(outcome.output)
        hits = self.success(trial, outcome).mean(dtype=torch.float64) * count
        return torch.stack((hits, torch.full_like(hits, count)))

    def value(self, sums: Sequence[float]) -> float:
        """0..1."""
        hits, count = sums
        return hits / count if count else float("nan")
