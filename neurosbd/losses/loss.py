"""What a loss is, and what more it may say of itself."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from neurosbd.losses.deviance import Deviance
from neurosbd.losses.targets import Targets


class Loss(Protocol):
    """A per-example loss of free outputs, with its derivative at the output."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, [B]; the caller takes the mean."""
        ...

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]. Its conditional mean vanishes at the optimum."""
        ...


@runtime_checkable
class Described(Loss, Protocol):
    """A loss that says what it wants."""

    @property
    def targets(self) -> Targets:
        """Which targets are legal."""
        ...

    @property
    def parameters(self) -> int:
        """Outputs per value of the target; they come in blocks, all values of the first, then of the second."""
        ...


class Predictive(Described, Protocol):
    """A loss whose outputs describe a distribution of the target: an entry of LOSSES."""

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Targets drawn from the distribution of which the output is the optimum: there the mean score is 0."""
        ...

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T | output] under that distribution, [B, C, C]; of the target only its kind counts."""
        ...


@runtime_checkable
class PredictsMean(Described, Protocol):
    """A loss whose outputs tell the mean of the target, in the terms of a likelihood."""

    @property
    def deviance(self) -> Deviance:
        """How far values are from a mean."""
        ...

    def mean(self, output: Tensor) -> Tensor:
        """E[y|x] where the output is the optimum, [B, k]."""
        ...


@runtime_checkable
class Equivariant(Described, Protocol):
    """A loss for real values whose outputs follow the units of the target."""

    def in_units(self, output: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        """The outputs that say of offset + scale y what these say of y, [B, C]; offset and scale are [k], scale > 0."""
        ...


@runtime_checkable
class PredictsInterval(Described, Protocol):
    """A loss whose outputs tell where the target lies with a given probability."""

    @property
    def interval_level(self) -> float:
        """This probability; 0 if there is no interval."""
        ...

    def interval(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends where the output is the optimum, [B, k] each."""
        ...
