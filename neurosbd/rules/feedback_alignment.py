"""Feedback alignment: the score goes back from population to population through fixed random weights."""

from dataclasses import field

import torch

from neurosbd.connections.initialisers import Initialiser, KaimingNormal
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import Network
from neurosbd.rules.chain import Chain, draw_feedback, learn_back
from neurosbd.schema.constants import constants


@constants(called="fa")
class FeedbackAlignment(Chain):
    """Feedback alignment: the score goes from population to population through fixed random weights.

        signal[readout] = score;   signal[pre] = back(gain signal[post], B);   d weight = (gain signal[post]) pre^T

    With B = weight this is backprop. B has the shape of the weight and lacks the same synapses; poolings are exact.

    Args:
        feedback: how B is drawn, as a weight of the same connection would be, see INITIALISERS.
    Source: Lillicrap, Cownden, Tweed, Akerman 2016, Nat. Commun. 7:13276.
    Differs: B of a convolution is a kernel, shared over positions, as in BioTorch (Sanfiz, Akrout 2021, arXiv
        2108.13446).
    """

    feedback: Initialiser = field(default_factory=KaimingNormal)

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """B is drawn, for each connection."""
        return TensorState(draw_feedback(network, self.feedback, generator))

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """From the readout down through B."""
        return learn_back(run, batch, lambda connection: state.tensors[connection.name])
