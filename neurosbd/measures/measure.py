"""What every measure offers."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from neurosbd.learning.batch import Batch, BatchResult


class Measure(Protocol):
    """A figure of merit of a whole split that is no mean over its batches: sums are added up, then turned into it."""

    @property
    def name(self) -> str:
        """Its key in MEASURES; in the metrics of a run `train_`, `validation_` or `test_` stands before it."""
        ...

    @property
    def title(self) -> str:
        """As a person reads it."""
        ...

    @property
    def percent(self) -> bool:
        """Whether it is a share, shown as a percentage."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether the highest value is the best; else the one nearest to what was asked for."""
        ...

    def width(self, targets: int) -> int:
        """Number of sums for this many values to predict."""
        ...

    def sums(self, batch: Batch, result: BatchResult) -> Tensor:
        """Sums over a batch, float64 [width]. Nothing waits for the device."""
        ...

    def value(self, sums: Sequence[float]) -> float:
        """The measure from the sums over all batches; NaN if it is not defined for them."""
        ...
