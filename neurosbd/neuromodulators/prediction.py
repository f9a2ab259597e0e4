"""Projection of the score by the weights of a head that predicts the target from the population alone (SBP)."""

from dataclasses import field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from neurosbd.neuromodulators.layouts import NO_BASIS, Grid, Layout
from neurosbd.neuromodulators.neuromodulator import Broadcast, Reading, Receiver, no_statistics, unchanged
from neurosbd.neuromodulators.projection import draw_projection
from neurosbd.schema.constants import Fraction, NotNegative, Positive, constants


class Predicting(NamedTuple):
    """State of a head that predicts."""

    prediction: nn.Parameter  # V [C, M]; the optimizer of the run moves it
    basis: Tensor = NO_BASIS  # of the layout


@constants
class Prediction:
    """Broadcast the score through weights with which every population predicts the target by itself.

        own_score[b] = d l(V h[b], y[b]) / d (V h[b])        of the population's own prediction V h
        third_factor[b] = ((1 - own) score[b] + own own_score[b]) V
        V.grad = sum_b own_score[b]^T h[b]                   over all scored steps of the batch, each with its weight

    V is the head of the population, a Parameter that the optimizer of the run moves as it moves the synapses.

    V starts small and random, as in DFA. It comes to rest where the population's own score is uncorrelated with its
    activity, the optimum of its prediction; by then it is how the activity tells about the target, and so which way a
    broadcast score asks it to move. All that is needed is there: own activity, own prediction, and from outside C
    values of score and of target. As under the other rules, every position of a map gets the whole signal.

    V reads as the readout of the network does, so its rate is relative to the readout's, under Adam and SGD alike.
    Under Adam every step of V has one size, whatever the score, so a prediction from M inputs moves by up to its rate
    times M times their mean. A score that grows exponentially with the prediction (poisson) can run away with it from
    thousands of units; a schedule that starts slowly, or a smaller rate, helps.

    Args:
        layout: which units share a column of V, see LAYOUTS.
        relative_rate: learning rate of V by that of the readout, > 0.
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
    steady: ClassVar[bool] = True
    statistics = no_statistics
    update = unchanged

    layout: Layout = field(default_factory=Grid)
    relative_rate: Positive = 2.0
    scale: NotNegative = 0.02
    own: Fraction = 0.5

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Predicting:
        """Draw V; it has learned nothing."""
        if broadcast.n_expanded:
            raise ValueError("a prediction is judged by the loss, so it takes the score alone; remove the expansion")
        weight, basis = draw_projection(receiver.value, broadcast.outputs, self.layout, self.scale, generator)
        return Predicting(nn.Parameter(weight), basis)

    def head(self, state: Predicting) -> nn.Parameter:
        """V, [C, M]."""
        return state.prediction

    def read(self, state: Predicting, receiver: Receiver, broadcast: Broadcast) -> Reading:
        """The activity h in the coordinates of V, and the own score of the prediction V h."""
        activity = self.layout.summary(receiver.value, state.basis)
        return Reading(activity, broadcast.score_of(activity @ state.prediction.mT))

    def third_factor(self, state: Predicting, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """Broadcast and own score through V, [B, *size]."""
        assert receiver.reading is not None
        score = torch.lerp(broadcast.score, receiver.reading.score, self.own) if self.own else broadcast.score
        return self.layout.spread(score @ state.prediction, receiver.value, state.basis)

    def projection(self, state: Predicting) -> Tensor:
        """V, [C, M]."""
        return state.prediction.detach()
