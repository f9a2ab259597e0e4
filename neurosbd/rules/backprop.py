"""Backpropagation: the reference that every local rule is measured against."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import Rule, TensorState
from neurosbd.network.network import Network


@dataclass(frozen=True)
class Backprop(Rule[TensorState]):
    """Fill the same `.grad` by automatic differentiation through the same network, through time if there is any.

    Heads descend their own loss, of which the populations that they read hear nothing.
    """

    sums_over_examples: ClassVar[bool] = True
    teaches_heads: ClassVar[bool] = True
    takes_lists: ClassVar[bool] = True
    transmits: ClassVar[bool] = True
    differentiates: ClassVar[bool] = True

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """One showing that autograd follows."""
        with torch.enable_grad():
            run.show(batch)
            costs = [meter.total.sum() for meter in (run.meter, *run.heads.values()) if meter.total is not None]
            if costs:
                torch.autograd.backward(costs)
        return run.result()

    def why_apart(self, network: Network) -> None:
        """The gradient of a sum of losses is that of each network."""


def bp() -> Backprop:
    """Backpropagation by autograd, not local: baseline and test oracle.

    Source: Rumelhart, Hinton, Williams 1986, Nature 323.
    """
    return Backprop()


def bptt() -> Backprop:
    """Backpropagation through time with the neurons' pseudo-derivatives: bp, on a network that runs for many steps.

    Source: Werbos 1990, Proc. IEEE 78; pseudo-derivatives: Neftci, Mostafa, Zenke 2019, IEEE Signal Process. Mag. 36.
    Differs: the reset of a spike is not differentiated (Bellec et al. 2020).
    """
    return Backprop()
