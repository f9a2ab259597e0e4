"""Projection of the score by weights that learn as a readout of the population would: direct Kolen-Pollack."""

from dataclasses import field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from neurosbd.neuromodulators.layouts import NO_BASIS, Grid, Layout
from neurosbd.neuromodulators.neuromodulator import Broadcast, Reading, Receiver, no_statistics, unchanged
from neurosbd.neuromodulators.projection import draw_projection
from neurosbd.schema.constants import NotNegative, Positive, constants


class Descending(NamedTuple):
    """State of a projection that descends."""

    feedback: nn.Parameter  # B [C, M]; the optimizer of the run moves it
    basis: Tensor = NO_BASIS  # of the layout


@constants
class DirectKolenPollack:
    """Broadcast the score through weights that take the steps which a readout of the population would take.

        third_factor[b] = score[b] B;    B.grad = sum_b score[b]^T h[b]

    over all scored steps of the batch, each with its weight. Next to the readout this is the rule of Kolen and Pollack:
    B and the weights of a dense readout have one gradient, so that with decay they meet. Further down B learns from the
    score alone which way the activity of a population tells about the error that is left. B is a Parameter that the
    optimizer of the run moves as it moves the synapses, its decay included.

    Args:
        layout: which units share a column of B, see LAYOUTS.
        relative_rate: learning rate of B by that of the readout, > 0.
        scale: standard deviation of B at the start, >= 0. At 0 nobody but the readout learns from the first batch.
    Raises:
        ValueError: if a constant is out of range.
    Source: Webster, Choi, Ahn 2021, Learning the connections in direct feedback alignment (DKP), OpenReview;
        Kolen, Pollack 1994, IEEE Int. Conf. Neural Netw.
    Differs: B is under the optimizer of the run, there under an Adam of its own (1e-4, times 0.8 per epoch); it is laid
        over patches of a map, there over every unit.
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    statistics = no_statistics
    update = unchanged

    layout: Layout = field(default_factory=Grid)
    relative_rate: Positive = 1.0
    scale: NotNegative = 0.02

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Descending:
        """Draw B; it has learned nothing."""
        weight, basis = draw_projection(
            receiver.value, broadcast.outputs, self.layout, self.scale, generator, broadcast.n_expanded
        )
        return Descending(nn.Parameter(weight), basis)

    def head(self, state: Descending) -> nn.Parameter:
        """B, [C, M]."""
        return state.feedback

    def read(self, state: Descending, receiver: Receiver, broadcast: Broadcast) -> Reading:
        """The activity in the coordinates of B, and the score that is broadcast in place of one of its own."""
        return Reading(self.layout.summary(receiver.value, state.basis), broadcast.score)

    def third_factor(self, state: Descending, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """The score through B, [B, *size]."""
        return self.layout.spread(broadcast.score @ state.feedback, receiver.value, state.basis)

    def projection(self, state: Descending) -> Tensor:
        """B, [C, M]."""
        return state.feedback.detach()
