"""Softmax cross-entropy."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.losses.targets import as_vector


@dataclass(frozen=True)
class CrossEntropy:
    """Negative log-likelihood of a class under softmax(output).

        loss = -sum_c y_c log p_c,   p = softmax(output)
        score = p sum(y) - y         (its components sum to 0)

    Targets are labels [B] or probabilities [B, C].

    Source: A1 of this project's notes; as score of a softmax model, Bridle 1990.
    """

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in nats, [B]."""
        return -(as_vector(target, output) * torch.log_softmax(output, 1)).sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]."""
        y = as_vector(target, output)
        return torch.softmax(output, 1) * y.sum(1, keepdim=True) - y
