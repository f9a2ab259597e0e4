"""By how much synapses have changed in an epoch: what there is to say of a training that nothing judges."""

import torch
from torch import Tensor

from neurosbd.network.network import Network


class WeightChanges:
    """The weights that learn, as they were when an epoch began.

        change = mean over the synapses of a connection of |weight now - weight then|

    Args:
        network: that learns.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.then: dict[str, Tensor] = {}
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Remember the weights: an epoch begins."""
        learning = {name: weight for name, weight in self.network.weights.items() if weight.requires_grad}
        self.then = {name: weight.detach().clone() for name, weight in learning.items()}

    @torch.no_grad()
    def read(self) -> dict[str, float]:
        """'CONNECTION.weight_change' of every plastic connection, in the unit of its weights."""
        found = {}
        for name, then in self.then.items():
            present = self.network.present(self.network.connections[name])
            moved = (self.network.weights[name] - then).abs()
            count = moved.numel() if present is None else int(present.sum())
            moved = moved if present is None else moved * present
            found[f"{name}.weight_change"] = moved.sum(dtype=torch.float64).item() / max(count, 1)
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """The weights then, by connection."""
        return dict(self.then)

    @torch.no_grad()
    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Put back what `state_dict` gave; of connections that it lacks, the epoch begins now."""
        for name, weight in saved.items():
            self.then[name].copy_(weight)
