"""What the outputs of a loss say of the target beyond the optimum: second moments of the score, distributions."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class PredictiveDistribution(NamedTuple):
    """The distribution that the outputs claim for every value of the target, independent of each other."""

    mean: Tensor  # [B, k]
    spread: Tensor  # standard deviation, [B, k]
    # frequency f -> means of cos(f w) and sin(f w), w = (y - mean) / spread, [B, k] or []
    characteristic: Callable[[float], tuple[Tensor, Tensor]]


@runtime_checkable
class Informative(Protocol):
    """A loss that knows the second moment of its own score."""

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T | output] under the model, [B, C, C]; of the target only its kind counts, not its values."""
        ...


@runtime_checkable
class HasProbabilities(Protocol):
    """A loss whose outputs say how likely a label, or a yes, is."""

    def probabilities(self, output: Tensor) -> Tensor:
        """Probabilities [B, C] of which the output is the optimum."""
        ...


@runtime_checkable
class HasDistribution(Protocol):
    """A loss whose outputs describe a distribution of real values or counts."""

    def distribution(self, output: Tensor) -> PredictiveDistribution:
        """That distribution."""
        ...


def one_hot_covariance(probabilities: Tensor) -> Tensor:
    """Covariance of a one-hot label with these probabilities, diag p - p p^T, [B, C, C]."""
    return torch.diag_embed(probabilities) - probabilities[:, :, None] * probabilities[:, None, :]


def information_of_labels(score: Callable[[Tensor, Tensor], Tensor], output: Tensor, probabilities: Tensor) -> Tensor:
    """Second moment of a score over all labels by enumeration, [B, C, C]."""
    batch, classes = output.shape
    labels = torch.arange(classes, device=output.device).repeat(batch)
    scores = score(output.repeat_interleave(classes, 0), labels).view(batch, classes, classes)
    return (scores * probabilities[:, :, None]).mT @ scores


def polar(modulus: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part."""
    return modulus * torch.cos(phase), modulus * torch.sin(phase)


def gaussian_distribution(mean: Tensor, spread: Tensor) -> PredictiveDistribution:
    """Normal with this mean and standard deviation."""
    return PredictiveDistribution(
        mean, spread, lambda f: (torch.full_like(mean, math.exp(-0.5 * f * f)), torch.zeros_like(mean))
    )
