"""Second moments of the score, less what the model expects them to be."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.losses import CrossEntropy
from neurosbd.process import Scored


@dataclass(frozen=True)
class Bartlett:
    """Products of two components of the score, less their mean under the model.

        column[b, (i, j)] = s_i s_j - (p_i [i = j] - p_i p_j),   i <= j,   p = softmax(output)

    At the optimum p is the distribution of the labels, and by the second Bartlett identity the mean is 0.
    D = C (C + 1) / 2.

    Raises:
        ValueError: if the loss is not the cross-entropy.
    Source: this project's own reading (algorithms A5 ii); Bartlett 1953, Biometrika 40, for the identity.
    """

    def init(self, scored: Scored, generator: torch.Generator) -> tuple[()]:
        """Nothing of its own."""
        if not isinstance(scored.loss, CrossEntropy):
            raise ValueError(f"the bartlett expansion needs the loss cross_entropy, got {type(scored.loss).__name__}")
        return ()

    def step(self, state: tuple[()], scored: Scored, dt: float) -> tuple[Tensor, tuple[()]]:
        """[B, C (C + 1) / 2]."""
        batch, outputs = scored.output.shape
        s, p = scored.score * batch, torch.softmax(scored.output, 1)
        i, j = torch.triu_indices(outputs, outputs, device=s.device)
        expected = torch.where(i == j, p[:, i], 0.0) - p[:, i] * p[:, j]
        return (s[:, i] * s[:, j] - expected) / batch, state
