"""Learned projection of the score: the running cross-correlation of score and activity (EBD, SBD)."""

from dataclasses import field
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosbd.neuromodulators.activations import ACTIVATIONS, Activation, ActivationName
from neurosbd.neuromodulators.forgetting import Forgetting
from neurosbd.neuromodulators.layouts import NO_BASIS, Layout, Shared
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.neuromodulators.projection import draw_projection
from neurosbd.schema.constants import Legal, NotNegative, constants


class Feedback(NamedTuple):
    """State of a projection with a frozen and a learned part."""

    frozen: Tensor  # R0 [C, G M], float32, as far as it has not faded; 0 beyond the first M columns
    learned: Tensor  # R [C, G M], float32: running correlation of the score and G functions of the activity
    basis: Tensor = NO_BASIS  # of the layout


def _different(names: tuple[ActivationName, ...]) -> bool:
    return bool(names) and len(set(names)) == len(names)


@constants
class Decorrelation:
    """Broadcast the score through its own correlation with the activity, so that activity decorrelates.

        R_g <- lam R_g + (1 - lam) mean_b score[b] g(h[b])^T          for every g of `activations`
        third_factor[b] = sum_g g'(h[b]) . (score[b] (R0_g + learned R_g))

    With the identity alone, as by default, that is score[b] (R0 + learned R). R0 belongs to the first g, those of the
    others are 0. At the optimum every function of the activity is uncorrelated with the score, so several ask for
    more; g(h) = h^2 is the error-modulated Hebbian rule.
    lam is per batch: with several steps in a batch, those of a spiking run, each takes its share.
    Descending `third_factor` lowers 1/2 sum_g ||R_g||^2, the squared correlation of score and activity, which is
    zero at the optimum of the loss. With the learned part at 0, or lam = 1, this is DFA.

    Args:
        layout: which units share a column of the projection, see LAYOUTS.
        scale: standard deviation of the frozen random part R0, >= 0.
        learned: weight of the learned part, >= 0.
        forgetting: lam, constant or scheduled over the training.
        activations: names of g, see ACTIVATIONS.
        expanded: lam of the rows that belong to an expansion of the score. They are many and start at 0, so what they
            hold is noise until it has been averaged: it should be nearer to 1 than that of the score.
        fading: what R0 is multiplied by per batch. With 1, the default, it stays; faded like R (a constant lam), R0 is
            where R starts, as in the paper.
    Raises:
        ValueError: if `scale` or `learned` is negative or not finite, or an activation is unknown or there twice.
    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558, equations 9-12, with the score of
        any loss in place of the error (Uzun et al. 2026, SBD, arXiv 2605.30638, from its abstract).
    Differs: R0 does not fade unless it is told to. The factor (1 - lam) of the paper's update is left to the
        learning rate, as there in practice.
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = True
    steady: ClassVar[bool] = False

    layout: Layout = field(default_factory=Shared)
    scale: NotNegative = 0.02
    learned: NotNegative = 1.0
    forgetting: Forgetting = field(default_factory=Forgetting)
    activations: Annotated[tuple[ActivationName, ...], Legal("one or more different names", _different)] = ("identity",)
    expanded: Forgetting = field(default_factory=lambda: Forgetting(0.998))
    fading: Forgetting = field(default_factory=lambda: Forgetting(1.0))

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Feedback:
        """Draw R0; R starts at 0."""
        first, basis = draw_projection(
            receiver.value, broadcast.outputs, self.layout, self.scale, generator, broadcast.n_expanded
        )
        frozen = torch.cat((first, first.new_zeros(len(first), (len(self.activations) - 1) * first.shape[1])), 1)
        return Feedback(frozen, torch.zeros_like(frozen), basis)

    def statistics(self, state: Feedback, receiver: Receiver, broadcast: Broadcast) -> tuple[Tensor]:
        """score^T g(h), [C + D, G M]. The rows of the score carry 1/B, so the sum over the batch is the mean."""
        return (broadcast.score.mT @ self._summary(state, receiver),)

    def update(self, state: Feedback, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Feedback:
        """R with this batch in it, and R0 as far as it has not faded."""
        (measured,) = sums
        return state._replace(
            frozen=self._faded(state.frozen, broadcast), learned=self._learned(state.learned, broadcast, measured)
        )

    def third_factor(self, state: Feedback, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """The score through R0 + learned R, [B, *size]."""
        functions, whole = [ACTIVATIONS[name] for name in self.activations], broadcast.score @ self.projection(state)
        shares = whole.chunk(len(functions), -1) if len(functions) > 1 else (whole,)
        signals = [
            self._signal(g, share, receiver.value, state.basis) for g, share in zip(functions, shares, strict=True)
        ]
        return sum(signals[1:], signals[0])

    def correlated(self, state: Feedback, receiver: Receiver) -> Tensor:
        """R g(h[b]), [B, C + D]: the derivative of 1/2 ||R||^2 by the score, but for the factor (1 - lam) / B."""
        return self._summary(state, receiver) @ state.learned.t()

    def projection(self, state: Feedback) -> Tensor:
        """R0 + learned R, [C, M], of one function after the other, [C, G M]."""
        return torch.add(state.frozen, state.learned, alpha=self.learned)

    def _summary(self, state: Feedback, receiver: Receiver) -> Tensor:
        """Every function of the activity in the coordinates of R, side by side, [B, G M]."""
        parts = [self.layout.summary(ACTIVATIONS[name].value(receiver.value), state.basis) for name in self.activations]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _faded(self, frozen: Tensor, broadcast: Broadcast) -> Tensor:
        """R0 after this batch; the same tensor as long as it stays."""
        if self.fading.never:
            return frozen
        return frozen * self.fading.factor_of(broadcast.step_share, broadcast.progress)

    def _learned(self, learned: Tensor, broadcast: Broadcast, measured: Tensor) -> Tensor:
        """lam R + (1 - lam) mean score^T g(h), with a lam of their own for the rows of an expansion."""
        lam = self.forgetting.factor_of(broadcast.step_share, broadcast.progress)
        if not broadcast.n_expanded:
            return _running_mean(learned, measured, lam)
        own = self.expanded.factor_of(broadcast.step_share, broadcast.progress)
        sizes = (len(learned) - broadcast.n_expanded, broadcast.n_expanded)
        parts = zip(learned.split(sizes), measured.split(sizes), (lam, own), strict=True)
        return torch.cat([_running_mean(r, m, f) for r, m, f in parts])

    def _signal(self, function: Activation, share: Tensor, value: Tensor, basis: Tensor) -> Tensor:
        """What one function asks of every unit, [B, *size]."""
        spread = self.layout.spread(share.contiguous(), value, basis)
        return spread if function.slope is None else spread * function.slope(value)


def _running_mean(running: Tensor, measured: Tensor, lam: float | Tensor) -> Tensor:
    """lam running + (1 - lam) measured in one pass; lam is near 1, so that it is 1 - lam that is rounded."""
    new = 1 - lam
    return torch.lerp(running, measured, new.to(running) if isinstance(new, Tensor) else new)
