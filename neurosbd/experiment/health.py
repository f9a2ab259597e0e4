"""Layer health: units that never speak, activity that explodes. Watched during evaluation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.network import INPUT, Frame, Network

DEAD_FRACTION = 0.9  # of a layer's units or channels silent on the whole test set
EXPLODING = 1e3  # mean |activity|, in units where the input has variance 1


@dataclass(frozen=True)
class LayerHealth:
    """One population over a test set."""

    name: str
    silent: float  # fraction of units (conv: channels) that were 0 for every example
    magnitude: float  # mean |activity|

    @property
    def complaint(self) -> str | None:
        """What is wrong, with figures and what to try; None if nothing is."""
        if self.silent > DEAD_FRACTION:
            return (
                f"population '{self.name}': {self.silent:.0%} of its units are 0 for every test example; "
                f"try a lower learning rate for it, a bias, or leaky_relu"
            )
        if not self.magnitude < EXPLODING:
            return (
                f"population '{self.name}': mean |activity| is {self.magnitude:.3g}; try a lower learning rate for it, "
                f"rule = 'sbd' (decorrelation bounds activity), or weight decay"
            )
        return None


class HealthCheck:
    """Observer that follows the hidden populations; sums stay on the device until `read`."""

    def __init__(self, network: Network) -> None:
        self.names = [name for name in network.populations if name not in (INPUT, network.readout)]
        self._spoke: dict[str, Tensor] = {}
        self._total: dict[str, Tensor] = {}
        self._count = 0

    def __call__(self, t: int, frame: Frame) -> None:
        """Look at one frame."""
        for name in self.names:
            value = frame.activity[name].value
            spoke = value.ne(0).flatten(2).any(2).any(0) if value.ndim == 4 else value.ne(0).any(0)
            magnitude = value.abs().mean(dtype=torch.float64)
            self._spoke[name] = spoke | self._spoke[name] if name in self._spoke else spoke
            self._total[name] = self._total.get(name, torch.zeros_like(magnitude)) + magnitude
        self._count += 1

    def read(self) -> list[LayerHealth]:
        """One record per hidden population."""
        return [
            LayerHealth(name, 1 - self._spoke[name].double().mean().item(), self._total[name].item() / self._count)
            for name in self.names
            if self._count
        ]
