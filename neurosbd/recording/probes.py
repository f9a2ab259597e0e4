"""What only a computation on the side can tell: how an update relates to the gradient, and to Hebb."""

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch
from neurosbd.learning.meters import LossMeter
from neurosbd.learning.simulation import unroll
from neurosbd.losses import Loss
from neurosbd.network.network import Frame, Network
from neurosbd.recording.signals import drive


def true_gradients(network: Network, loss: Loss, batch: Batch, noise: torch.Generator) -> dict[str, Tensor | None]:
    """d mean-loss / d weight of every plastic connection by autograd (through time); `.grad` is left alone."""
    meter = LossMeter(batch, loss, network)
    names = [name for name, connection in network.connections.items() if connection.plastic]
    unroll(network, batch.inputs, (meter,), generator=noise, differentiable=True)
    assert meter.total is not None
    found = torch.autograd.grad(meter.total, [network.weights[n] for n in names], allow_unused=True)
    return dict(zip(names, found, strict=True))


def alignment(network: Network, loss: Loss, batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
    """Cosine of `.grad` and the true gradient, and the ratio of their norms, of every plastic connection, [2].

    NaN where one of them is 0.
    """
    truth = true_gradients(network, loss, batch, noise)
    return {name: _compared(network.weights[name].grad, true) for name, true in truth.items()}


class Correspondence:
    """Observer that adds up what Hebb would do: sum over batch and time of drive x pre, for every connection.

    Source: Koplow, Poggio, Ziyin 2025, arXiv 2505.18069.
    Differs: for spiking networks summed over the steps of the trial.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.hebb: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, t: int, frame: Frame) -> None:
        """Add a step."""
        for population, connections in self.network.incoming.items():
            driven = drive(self.network, frame, population)
            for connection in connections:
                if connection.plastic:
                    synapses = self.network.synapses(connection)
                    part = connection.geometry.outer(synapses, driven, frame.carried[connection.name]).weight
                    before = self.hebb.get(connection.name)
                    self.hebb[connection.name] = part if before is None else before + part

    def read(self) -> dict[str, Tensor]:
        """Cosine of the descent, -`.grad`, with Hebb's change, and the norm of the descent, [2]."""
        found = {}
        for name, hebb in self.hebb.items():
            gradient = self.network.weights[name].grad
            descent = torch.zeros_like(hebb) if gradient is None else -gradient
            found[name] = torch.stack((_compared(descent, hebb)[0], descent.norm()))
        return found


def _compared(one: Tensor | None, other: Tensor | None) -> Tensor:
    """Cosine of two arrays, and the ratio of their norms, [2]."""
    if one is None or other is None:
        return torch.full((2,), float("nan"))
    a, b = one.detach().flatten().double(), other.detach().flatten().double()
    return torch.stack((a @ b / (a.norm() * b.norm()), a.norm() / b.norm()))
