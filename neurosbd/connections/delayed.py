"""Connections each of whose weights has a delay of its own."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Never

import torch
from torch import Tensor

from neurosbd.connections.geometry import Geometry, WeightAxes
from neurosbd.connections.initialisers import Initialiser
from neurosbd.connections.sides import Sides
from neurosbd.connections.sparse import Sparse
from neurosbd.connections.synapses import Synapses, is_matrix


@dataclass(frozen=True, eq=False)
class Delayed:
    """The weights of a connection with one delay each, beside them.

        drive(weight, arriving) = undelayed.drive(wide, arriving),    wide[.., l n + j, ..] = weight[.., j, ..]
                                                                      where the delay is lags[l], else 0
        outer(post, pre)[.., j, ..] = undelayed.outer(post, pre)[.., l n + j, ..]

    What arrives is what the n pre units or channels sent lags[0] steps ago, then what they sent lags[1] steps ago, and
    so forth, so that all is one product, or one convolution, of what `undelayed` does anyway, with as many times more
    pre units as there are different delays. Of a convolution each weight of a kernel has its delay at every position,
    as it has its value; with one delay for each pair of channels it would be the same product. In time and memory of
    a step it is that many times the connection with one delay; few delays, such as of whole milliseconds, cost little.

    Args:
        undelayed: the connection: dense, conv2d or local2d.
        axis: of the weight, along which it counts pre units or channels.
        delay: of every weight, steps, int32, like the weight; of those that a mask takes out, too, as they may return.
        lags: the different ones, in order.
    Source: standard.
    """

    undelayed: Geometry
    axis: int
    delay: Tensor
    lags: tuple[int, ...]

    @property
    def weight(self) -> Initialiser:
        """How the weights start."""
        return self.undelayed.weight

    @property
    def bias(self) -> bool:
        """Whether there are biases; they have no delay."""
        return self.undelayed.bias

    def to(self, delay: Tensor) -> "Delayed":
        """The same with these delays."""
        return replace(self, delay=delay, lags=lags_in(delay))

    def delays(self) -> Tensor:
        """Delay of every weight in steps, int32, like the weight."""
        return self.delay

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """As without delays."""
        return self.undelayed.weight_shape(pre, post)

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """As without delays."""
        return self.undelayed.axes(shape, pre)

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Those without delays, once for every different delay."""
        return len(self.lags) * self.undelayed.multiplications(shape, pre)

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """As without delays."""
        return self.undelayed.start(shape, post, generator)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """As without delays."""
        return self.undelayed.mask(shape, generator)

    def carry(self, value: Tensor) -> Tensor:
        """What sets out, as without delays; what arrives is several of these side by side along axis 1."""
        return self.undelayed.carry(value)

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """That of the wide weight."""
        return self.undelayed.drive(self._wide(synapses), arriving)

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """That of the wide weight, at the delay of each."""
        weight, bias = self.undelayed.outer(self._wide(synapses), post_factor, pre_factor)
        return Synapses(weight.gather(self.axis, self._heard), bias)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Never:
        """Refused: what comes back left at different times."""
        raise ValueError("nothing goes back through synapses with delays of their own; give them one delay")

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """That of the wide weight, at the delay of each, [B, *weight]."""
        wide = self.undelayed.each(self._wide(synapses), posts, pres)
        found = wide.gather(self.axis + 1, self._heard.expand(len(wide), *self._heard.shape))
        if e is None:
            return found
        return e.mul_(kept).add_(found) if kept else e.copy_(found)

    @cached_property
    def sides(self) -> Sides:
        """How values of units stand beside its weights, where they are a matrix."""
        return Sides(heard=self._heard, units=(len(self.delay), self._arriving)) if is_matrix(self.delay) else Sides()

    @property
    def _arriving(self) -> int:
        """How many units or channels arrive, those of every delay counted."""
        return len(self.lags) * self.delay.shape[self.axis]

    @cached_property
    def _heard(self) -> Tensor:
        """Which of what arrives each weight hears, int64, like the weight."""
        units = self.delay.shape[self.axis]
        along = [units if axis == self.axis else 1 for axis in range(self.delay.dim())]
        lags = torch.tensor(self.lags, dtype=self.delay.dtype, device=self.delay.device)
        return torch.searchsorted(lags, self.delay) * units + torch.arange(units, device=self.delay.device).view(along)

    def _wide(self, synapses: Synapses) -> Synapses:
        """Every weight in the place of its own delay, 0 in those of the others."""
        weight = synapses.weight
        shape = [self._arriving if axis == self.axis else size for axis, size in enumerate(weight.shape)]
        return Synapses(weight.new_zeros(shape).scatter(self.axis, self._heard, weight), synapses.bias)


def lags_in(delay: Tensor) -> tuple[int, ...]:
    """The different delays that there are, in order."""
    return tuple(torch.unique(delay).tolist())


def as_given(geometry: Geometry) -> Geometry:
    """A geometry as a model file says it, of one that is stored as a list or with delays of its own."""
    if isinstance(geometry, Sparse):
        return geometry.dense
    return geometry.undelayed if isinstance(geometry, Delayed) else geometry


def needs_dense(name: str, geometry: Sparse | Delayed, why: str) -> str:
    """What to say of a connection that is stored sparsely, or has delays of its own, where it cannot be."""
    if geometry.lags:
        return f"the synapses of connection '{name}' have delays of their own, but {why}; give them one delay"
    return f"connection '{name}' is stored sparsely, but {why}; set storage = 'dense' of it"
