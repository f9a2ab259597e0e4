"""Projection of the score by weights with which the population predicts the target itself (SBP)."""

from dataclasses import field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosbd.constants import Fraction, NotNegative, Positive, constants
from neurosbd.neuromodulators.layouts import NO_BASIS, Grid, Layout
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.neuromodulators.projection import draw_projection

_BETAS = (0.9, 0.999)  # memory of the mean slope and of its square, per batch
_EPSILON = 1e-8


class Predicting(NamedTuple):
    """State of the prediction weights and of their optimizer."""

    weight: Tensor  # V [C, M]
    sent: Tensor  # V before it learned from the last step, [C, M]
    slope: Tensor  # running mean of d own loss / d V, [C, M]
    power: Tensor  # of its square, [C, M]
    age: Tensor  # batches so far, []
    basis: Tensor = NO_BASIS  # of the layout


@constants
class Prediction:
    """Broadcast the score through weights with which every population predicts the target by itself.

        own_score[b] = d l(V h[b], y[b]) / d (V h[b])        of the population's own prediction V h
        third_factor[b] = ((1 - own) score[b] + own own_score[b]) V
        V <- V - rate Adam(sum_b own_score[b]^T h[b])        after the third factor was sent

    V starts small and random, as in DFA. It comes to rest where the population's own score is uncorrelated with its
    activity, the optimum of its prediction; by then it is how the activity tells about the target, and so which way a
    broadcast score asks it to move. All that is needed is there: own activity, own prediction, and from outside C
    values of score and of target. As under the other rules, every position of a map gets the whole signal.

    Every step of V has one size, whatever the score, so a prediction from M inputs moves by up to rate M times their
    mean. A score that grows exponentially with the prediction (poisson) can run away with it from thousands of units;
    a smaller rate helps.

    Args:
        layout: which units share a column of V, see LAYOUTS.
        rate: of V, its step per batch, > 0.
        scale: standard deviation of V at the start, >= 0. At 0 nobody but the readout learns from the first batch.
        own: weight of the own score in the third factor, 0..1. 0: the broadcast score alone. 1: every population
            descends the loss of its own prediction, and the score of the readout has no part in it.
    Raises:
        ValueError: if a constant is out of range.
    Source: this project. With own = 1 it is the local loss of Mostafa et al. 2018, Front. Neurosci. 12:608 (there of
        fixed random classifiers), of Nokland, Eidnes 2019, arXiv 1901.06656, or Mono-Forward of Gong, Li, Abdulla
        2025, arXiv 2501.09238, at all layers at once. Near own = 0 is Yang, Lee, Park 2024, IEEE Access 12:81388,
        where a local module learns to mimic the output of the network and corrects random feedback; here it predicts
        the target, of any loss, over patches of a map, and is the feedback.
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = True
    steady: ClassVar[bool] = False

    layout: Layout = field(default_factory=Grid)
    rate: Positive = 1e-2
    scale: NotNegative = 0.02
    own: Fraction = 0.5

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Predicting:
        """Draw V; it has learned nothing."""
        if broadcast.n_expanded:
            raise ValueError("a prediction is judged by the loss, so it takes the score alone; remove the expansion")
        weight, basis = draw_projection(receiver.value, broadcast, self.layout, self.scale, generator)
        slope, power = torch.zeros_like(weight), torch.zeros_like(weight)
        return Predicting(weight, weight.clone(), slope, power, weight.new_zeros(()), basis)

    def statistics(self, state: Predicting, receiver: Receiver, broadcast: Broadcast) -> tuple[Tensor]:
        """own_score^T h, [C, M], of the prediction as it is."""
        activity = self.layout.summary(receiver.value, state.basis)
        return (broadcast.score_of(activity @ state.weight.t()).t() @ activity,)

    def update(self, state: Predicting, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Predicting:
        """V learns to predict better; what is sent goes through V as it was."""
        (slope,) = sums
        return self._learned(state, slope, broadcast.step_share)

    def third_factor(self, state: Predicting, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """Broadcast and own score through V, [B, *size]."""
        score = broadcast.score
        if self.own:
            activity = self.layout.summary(receiver.value, state.basis)
            score = torch.lerp(score, broadcast.score_of(activity @ state.sent.t()), self.own)
        return self.layout.spread(score @ state.sent, receiver.value, state.basis)

    def projection(self, state: Predicting) -> Tensor:
        """V, [C, M]."""
        return state.weight

    def _learned(self, state: Predicting, slope: Tensor, share: float) -> Predicting:
        """A step of Adam (Kingma, Ba 2015), or the share of one."""
        first, second = (beta**share for beta in _BETAS)
        mean = torch.lerp(state.slope, slope, 1 - first)
        power = torch.lerp(state.power, slope.square(), 1 - second)
        age = state.age + share
        mean_norm, power_norm = (1 - beta**age for beta in _BETAS)  # what a running mean that started at 0 still lacks
        change = (mean / mean_norm) / ((power / power_norm).sqrt_() + _EPSILON)
        return Predicting(state.weight - self.rate * share * change, state.weight, mean, power, age, state.basis)
