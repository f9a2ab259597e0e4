"""Sign symmetry: the score goes back through weights that share only their signs with those forward."""

from dataclasses import field
from typing import Literal

import torch
from torch import Tensor

from neurosbd.connections.initialisers import Initialiser, KaimingNormal
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import Connection, Network
from neurosbd.rules.chain import Chain, draw_feedback, learn_back
from neurosbd.schema.constants import constants


@constants(called="sign_symmetry")
class SignSymmetry(Chain):
    """Sign symmetry: the score goes back through weights that share only their signs with those forward.

        signal[readout] = score;   signal[pre] = back(gain signal[post], |B| sign(weight))
        d weight = (gain signal[post]) pre^T

    Args:
        magnitude: of the weights of the way back. 'fixed': |B| stays as it was drawn (frSF); 'drawn': B is drawn anew
            for every batch (brSF); 'equal': the root mean square of B for all of a connection (uSF).
        feedback: how B is drawn, as a weight of the same connection would be, see INITIALISERS.
    Source: Liao, Leibo, Poggio 2016, AAAI, arXiv 1510.05067, section 3 (uSF, brSF, frSF).
    Differs: magnitudes have the size of initial weights, not 1; batch manhattan updates and batch normalisation, which
        the source adds, are left to the optimizer and the neurons.
    """

    magnitude: Literal["fixed", "drawn", "equal"] = "fixed"
    feedback: Initialiser = field(default_factory=KaimingNormal)

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """|B|, for each connection; of magnitudes that are drawn anew the seed of the first batch."""
        if self.magnitude == "drawn":
            return TensorState({"seed": _seed(generator)})
        drawn_once = draw_feedback(network, self.feedback, generator)
        if self.magnitude == "fixed":
            return TensorState({name: b.abs() for name, b in drawn_once.items()})
        return TensorState({name: b.square().mean().sqrt() for name, b in drawn_once.items()})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """From the readout down, by the signs of the weights of this moment."""
        size = state.tensors
        if self.magnitude == "drawn":
            generator = torch.Generator().manual_seed(int(size["seed"]))
            size = {name: b.abs() for name, b in draw_feedback(run.network, self.feedback, generator).items()}
            state.tensors["seed"].copy_(_seed(generator))

        def backward(connection: Connection) -> Tensor:
            return run.network.weights[connection.name].sign().mul_(size[connection.name])

        return learn_back(run, batch, backward)


def _seed(generator: torch.Generator) -> Tensor:
    return torch.randint(2**62, (), generator=generator)
