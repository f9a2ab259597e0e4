"""Losses and their scores: what the network is asked to do, and what is broadcast. Layer 1."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from neurosbd.losses.bernoulli import Bernoulli
from neurosbd.losses.cross_entropy import CrossEntropy
from neurosbd.losses.deviance import Deviance
from neurosbd.losses.gaussian import Gaussian, GaussianCRPS
from neurosbd.losses.generic import bregman, exponential_family, from_function
from neurosbd.losses.law import Forecasting, Informative, Law, Lawful
from neurosbd.losses.log_link import Gamma, NegativeBinomial, Poisson
from neurosbd.losses.own import Own, give
from neurosbd.losses.pinball import Pinball
from neurosbd.losses.scoring_rules import Brier, RankedProbability, Spherical
from neurosbd.losses.squared_error import SquaredError
from neurosbd.losses.targets import TARGETS, Targets


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
class PredictsInterval(Described, Protocol):
    """A loss whose outputs tell where the target lies with a given probability."""

    @property
    def interval_level(self) -> float:
        """This probability; 0 if there is no interval."""
        ...

    def interval(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends where the output is the optimum, [B, k] each."""
        ...


LOSSES: dict[str, Callable[..., Predictive]] = {
    "cross_entropy": CrossEntropy,
    "bernoulli": Bernoulli,
    "brier": Brier,
    "spherical": Spherical,
    "ranked_probability": RankedProbability,
    "squared_error": SquaredError,
    "gaussian": Gaussian,
    "crps": GaussianCRPS,
    "pinball": Pinball,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "gamma": Gamma,
}

__all__ = [
    "LOSSES", "TARGETS", "Bernoulli", "Brier", "CrossEntropy", "Described", "Deviance", "Forecasting", "Gamma",
    "Gaussian", "GaussianCRPS", "Informative", "Law", "Lawful", "Loss", "NegativeBinomial", "Own", "Pinball", "Poisson",
    "Predictive", "PredictsInterval", "PredictsMean", "RankedProbability", "Spherical", "SquaredError", "Targets",
    "bregman", "exponential_family", "from_function", "give",
]  # fmt: skip
