"""Kolen-Pollack: weights of the way back that take the same steps as those forward."""

from dataclasses import field

import torch
from torch import nn

from neurosbd.connections.initialisers import Initialiser, KaimingNormal
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import Network
from neurosbd.rules.chain import Chain, draw_feedback, learn_back
from neurosbd.schema.constants import constants


@constants(called="kolen_pollack")
class KolenPollack(Chain):
    """Kolen-Pollack: the weights of the way back take the same steps as those forward, and decay makes them equal.

        signal[readout] = score;   signal[pre] = back(gain signal[post], B)
        d weight = d B = (gain signal[post]) pre^T

    The optimizer moves both, at the rate of the population and with its decay: by plain SGD with `weight_decay`, or by
    AdamW, (weight - B)[t] = (1 - lr weight_decay)^t (weight - B)[0]. Without decay their difference stays.

    Args:
        feedback: how B starts, as a weight of the same connection would be, see INITIALISERS.
    Source: Kolen, Pollack 1994, IEEE Int. Conf. Neural Netw.; Akrout et al. 2019, NeurIPS, arXiv 1904.05391.
    """

    feedback: Initialiser = field(default_factory=KaimingNormal)

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """B is drawn, for each connection."""
        start = draw_feedback(network, self.feedback, generator)
        return TensorState(parameters={name: nn.Parameter(b) for name, b in start.items()})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """From the readout down through B, which has the gradient of the weight."""
        return learn_back(run, batch, lambda connection: state.parameters[connection.name], state.parameters)
