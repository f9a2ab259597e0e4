"""Losses and their scores: what the network is asked to do, and what is broadcast."""

from collections.abc import Callable

from neurosbd.losses.bernoulli import Bernoulli
from neurosbd.losses.cross_entropy import CrossEntropy
from neurosbd.losses.custom import CustomLoss, register
from neurosbd.losses.deviance import Deviance
from neurosbd.losses.gaussian import Gaussian, GaussianCRPS
from neurosbd.losses.generic import bregman, exponential_family, from_function
from neurosbd.losses.log_link import Gamma, NegativeBinomial, Poisson
from neurosbd.losses.loss import Described, Equivariant, Loss, Predictive, PredictsInterval, PredictsMean
from neurosbd.losses.pinball import Pinball
from neurosbd.losses.predictive_distribution import (
    HasDistribution,
    HasProbabilities,
    Informative,
    PredictiveDistribution,
)
from neurosbd.losses.scoring_rules import Brier, RankedProbability, Spherical
from neurosbd.losses.squared_error import SquaredError
from neurosbd.losses.targets import TARGETS, Targets
from neurosbd.schema.namespace import is_table

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
is_table(__name__, LOSSES)

__all__ = [
    "LOSSES",
    "TARGETS",
    "Bernoulli",
    "Brier",
    "CrossEntropy",
    "CustomLoss",
    "Described",
    "Deviance",
    "Equivariant",
    "Gamma",
    "Gaussian",
    "GaussianCRPS",
    "HasDistribution",
    "HasProbabilities",
    "Informative",
    "Loss",
    "NegativeBinomial",
    "Pinball",
    "Poisson",
    "Predictive",
    "PredictiveDistribution",
    "PredictsInterval",
    "PredictsMean",
    "RankedProbability",
    "Spherical",
    "SquaredError",
    "Targets",
    "bregman",
    "exponential_family",
    "from_function",
    "register",
]  # fmt: skip
