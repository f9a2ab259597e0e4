"""Squared error."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.losses.deviance import SQUARE
from neurosbd.losses.predictive_distribution import PredictiveDistribution, gaussian_distribution, one_hot_covariance
from neurosbd.losses.targets import REALS, as_vector


@dataclass(frozen=True)
class SquaredError:
    """Half the squared distance of the output from the target.

        loss = 1/2 sum_k (output_k - y_k)^2
        score = output - y

    Targets are labels [B] (then y is one-hot) or values [B, k].

    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558, section 2.
    """

    targets, parameters, deviance = REALS, 1, SQUARE

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, [B]."""
        return 0.5 * (output - as_vector(target, output)).square().sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, k]."""
        return output - as_vector(target, output)

    def mean(self, output: Tensor) -> Tensor:
        """E[y|x], [B, k]."""
        return output

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Values [B, k]: Gaussian around the output, variance 1."""
        return output + torch.randn(output.shape, dtype=output.dtype, device=output.device, generator=generator)

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T], [B, k, k]: diag z - z z^T for labels, whatever their distribution; else 1, the variance."""
        if target.ndim == 1:
            return one_hot_covariance(output)
        return torch.eye(output.shape[1], dtype=output.dtype, device=output.device).expand(len(output), -1, -1)

    def distribution(self, output: Tensor) -> PredictiveDistribution:
        """Gaussian around the output, variance 1; not of labels."""
        return gaussian_distribution(output, torch.ones_like(output))
