"""Losses and their scores: what the network is asked to do, and what is broadcast. Layer 1."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from neurosbd.losses.cross_entropy import CrossEntropy
from neurosbd.losses.squared_error import SquaredError


class Loss(Protocol):
    """A per-example loss of free outputs, with its derivative at the output."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, [B]; the caller takes the mean."""
        ...

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]. Its conditional mean vanishes at the optimum."""
        ...


LOSSES: dict[str, Callable[..., Loss]] = {"cross_entropy": CrossEntropy, "squared_error": SquaredError}
