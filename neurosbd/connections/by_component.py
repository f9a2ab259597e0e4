"""A connection between maps of numbers, carried out component by component on maps of vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.connections.conv2d import Conv2d
from neurosbd.connections.geometry import WeightAxes
from neurosbd.connections.local2d import Local2d
from neurosbd.connections.synapses import Synapses


@dataclass(frozen=True)
class ByComponent:
    """Kernels that all components share, [out, ..., in, kernel, kernel], or that each has for itself where numbers
    arrive, [out, components, ..., in, kernel, kernel]. Biases are the owner's.

    Args:
        kind: name of the connection, for messages.
        plain: of one component, without a bias.
        shared: number of axes of a weight that components share.
    """

    kind: str
    plain: Conv2d | Local2d
    shared: int

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """That of a component, with an axis of components behind the channels where numbers arrive.

        Raises:
            ValueError: if the sizes of the populations do not fit.
        """
        if len(post) != 4 or len(pre) not in (3, 4) or (len(pre) == 4 and pre[1] != post[1]):
            raise ValueError(
                f"a {self.kind} connection joins a map [channels, height, width] or one of vectors [channels, "
                f"components, height, width] to one of vectors of as many components, got {list(pre)} onto {list(post)}"
            )
        shape = self.plain.weight_shape(_map(pre), _map(post))
        return (shape[0], post[1], *shape[1:]) if len(pre) == 3 else shape

    def axes(self, shape: tuple[int, ...]) -> WeightAxes:
        """All before the channels that arrive number what is reached."""
        last = len(shape) - 3
        return WeightAxes(tuple(range(last)), last, 1, kernel=(last + 1, last + 2))

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Those of a component, as often as there are components."""
        own = self._own(shape)
        each = self.plain.multiplications((shape[0], *shape[2:]) if own else shape, _map(pre))
        return each * (shape[1] if own else pre[1])

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Kernels drawn, component by component where each has its own."""
        if not self._own(shape):
            return self.plain.start(shape, post, generator).weight
        one = (shape[0], *shape[2:])
        return torch.stack([self.plain.start(one, post, generator).weight for _ in range(shape[1])], 1)

    def carry(self, value: Tensor) -> Tensor:
        """The pooled map, of vectors [B, components, channels, height, width], of numbers as it is."""
        if value.dim() == 4:
            return self.plain.carry(value)
        folded, components = _folded(value.transpose(1, 2)), value.shape[2]
        return self.plain.carry(folded).unflatten(0, (-1, components))

    def drive(self, weight: Tensor, arriving: Tensor) -> Tensor:
        """[B, out, components, height, width]."""
        if self._own(weight.shape):
            return self.plain.drive(_flat(weight), arriving).unflatten(1, weight.shape[:2])
        folded = self.plain.drive(Synapses(weight, None), _folded(arriving))
        return folded.unflatten(0, arriving.shape[:2]).transpose(1, 2)

    def outer(self, weight: Tensor, post_factor: Tensor, pre_factor: Tensor) -> Tensor:
        """Summed over components that share a kernel."""
        if self._own(weight.shape):
            found = self.plain.outer(_flat(weight), post_factor.flatten(1, 2), pre_factor).weight
            return found.unflatten(0, weight.shape[:2])
        post = _folded(post_factor.transpose(1, 2))
        return self.plain.outer(Synapses(weight, None), post, _folded(pre_factor)).weight

    def back(self, weight: Tensor, signal: Tensor, value: Tensor) -> Tensor:
        """The signal of every component through the kernels that it shares, spread over what was pooled, [B, *size]."""
        if self._own(weight.shape):
            return self.plain.back(_flat(weight), signal.flatten(1, 2), value)
        across = value.transpose(1, 2)
        onto = self.plain.back(Synapses(weight, None), _folded(signal.transpose(1, 2)), _folded(across))
        return onto.unflatten(0, across.shape[:2]).transpose(1, 2)

    def each(self, weight: Tensor, posts: Tensor, pres: Tensor, e: Tensor | None, kept: float) -> Tensor:
        """The outer of every example by itself, [B, *weight]; components that share a kernel count as further steps."""
        if self._own(weight.shape):
            flat = None if e is None else e.flatten(1, 2)
            found = self.plain.each(_flat(weight), posts.flatten(2, 3), pres, flat, kept)
            return found.unflatten(1, weight.shape[:2]) if e is None else e
        posts, pres = posts.permute(0, 3, 1, 2, 4, 5).flatten(0, 1), pres.transpose(1, 2).flatten(0, 1)
        return self.plain.each(Synapses(weight, None), posts, pres, e, kept)

    def _own(self, shape: tuple[int, ...]) -> bool:
        """Whether every component has kernels of its own."""
        return len(shape) > self.shared


def _map(size: tuple[int, ...]) -> tuple[int, ...]:
    """The size of one component."""
    return size if len(size) == 3 else (size[0], *size[2:])


def _folded(maps: Tensor) -> Tensor:
    """Components as further examples, [B components, channels, height, width] of [B, components, ...]."""
    return maps.flatten(0, 1)


def _flat(weight: Tensor) -> Synapses:
    """The kernels of all components of all channels in a row."""
    return Synapses(weight.flatten(0, 1), None)
