"""Learned projection of the score: the running cross-correlation of score and activity (EBD, SBD)."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.neuromodulators.fixed_random import check_scale, draw_projection
from neurosbd.neuromodulators.forgetting import Forgetting
from neurosbd.neuromodulators.layouts import NO_BASIS, Layout, Shared
from neurosbd.process import Heard


class Feedback(NamedTuple):
    """State of a projection with a frozen and a learned part."""

    frozen: Tensor  # R0 [C, M], float32
    learned: Tensor  # R [C, M], float32: running correlation of score and activity
    basis: Tensor = NO_BASIS  # of the layout


@dataclass(frozen=True)
class Decorrelation:
    """Broadcast the score through its own correlation with the activity, so that activity decorrelates.

        R <- lam R + (1 - lam) mean_b score[b] h[b]^T
        signal[b] = score[b] (R0 + learned R)

    lam is per batch: with several hearings in a batch, the steps of a spiking run, each takes its share.
    Descending `signal` lowers 1/2 ||R||^2, the squared correlation of score and activity, which is
    zero at the optimum of the loss. With the learned part at 0, or lam = 1, this is DFA.

    Args:
        layout: which units share a row of the projection, see LAYOUTS.
        scale: standard deviation of the frozen random part R0, >= 0.
        learned: weight of the learned part, >= 0.
        forgetting: lam, constant or scheduled over the training.
    Raises:
        ValueError: if `scale` or `learned` is negative or not finite.
    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558, equations 9-12, with the score of
        any loss in place of the error (Uzun et al. 2026, SBD, arXiv 2605.30638, from its abstract).
    Differs: R0 does not decay; in the paper it is the start of R and fades with lam^t. The factor
        (1 - lam) of the paper's update is left to the learning rate, as there in practice.
    """

    layout: Layout = field(default_factory=Shared)
    scale: float = 0.02
    learned: float = 1.0
    forgetting: Forgetting = field(default_factory=Forgetting)

    def __post_init__(self) -> None:
        check_scale(self, self.scale)
        if not (self.learned >= 0 and math.isfinite(self.learned)):
            raise ValueError(f"Decorrelation.learned must be a number >= 0, got {self.learned}")

    def init(self, heard: Heard, generator: torch.Generator) -> Feedback:
        """Draw R0; R starts at 0."""
        frozen, basis = draw_projection(heard, heard.score.shape[1], self.layout, self.scale, generator)
        return Feedback(frozen, torch.zeros_like(frozen), basis)

    def step(self, state: Feedback, heard: Heard, dt: float) -> tuple[Tensor, Feedback]:
        """Update R with this batch, then project the score with it, [B, *size]."""
        lam = self.forgetting.factor(heard.progress) ** heard.share
        activity = self.layout.summary(heard.value, state.basis)
        # The rows of the score carry 1/B, so this sum over the batch is the mean.
        learned = torch.addmm(state.learned, heard.score.t(), activity, beta=lam, alpha=1 - lam)
        projection = torch.add(state.frozen, learned, alpha=self.learned)
        signal = self.layout.spread(heard.score @ projection, heard.value, state.basis)
        return signal, state._replace(learned=learned)

    def correlated(self, state: Feedback, heard: Heard) -> Tensor:
        """R h[b], [B, C + D]: the derivative of 1/2 ||R||^2 by the score, but for the factor (1 - lam) / B."""
        return self.layout.summary(heard.value, state.basis) @ state.learned.t()

    def projection(self, state: Feedback) -> Tensor:
        """R0 + learned R, [C, M]."""
        return torch.add(state.frozen, state.learned, alpha=self.learned)
