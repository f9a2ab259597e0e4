"""Convolution between maps of vectors: one kernel per pair of channels, shared over positions and components."""

from dataclasses import field

import torch
from torch import Tensor

from neurosbd.connections.conv2d import Conv2d
from neurosbd.connections.geometry import WeightAxes, sparse_mask
from neurosbd.connections.initialisers import Initialiser, KaimingNormal
from neurosbd.connections.pooling import Pooling
from neurosbd.connections.synapses import Synapses
from neurosbd.constants import Count, Share, Whole, constants


@constants
class VectorConv2d:
    """Square kernels over the (pooled) pre map, component by component; zero padding at the border.

        drive[b, o, k, r, c] = sum_{i, y, x} weight[o, i, y, x] arriving[b, k, i, stride r + y - padding, ...]
                               + bias[o, k]
        outer[o, i, y, x] = sum_{b, k, r, c} post_factor[b, o, k, r, c] pre_factor[b, k, i, stride r + y - padding, ...]

    From a map whose values are numbers every component has kernels of its own, weight[o, k, i, y, x]. With a kernel as
    large as the map it reaches vectors all to all: onto [units, components, 1, 1].

    Args:
        kernel: side of the kernel in pixels, >= 1.
        stride: step in pixels, >= 1.
        padding: zeros added on every side, in pixels, >= 0.
        pool: pooling of the pre map on the way, component by component, or none.
        bias: whether each component of each post channel has a bias.
        sparsity: fraction of the weights fixed at zero, drawn once, 0 <= sparsity < 1.
        weight: initialiser of the weights, whose fan-in is what one component hears.
    Raises:
        ValueError: if a constant is out of range, or the sizes of the populations do not fit.
    Source: Clark, Abbott, Chung 2021, NeurIPS, arXiv 2106.04089 (convolutional vectorised networks).
    """

    kernel: Count
    stride: Count = 1
    padding: Whole = 0
    pool: Pooling | None = None
    bias: bool = False
    sparsity: Share = 0.0
    weight: Initialiser = field(default_factory=KaimingNormal)

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """(out, in, kernel, kernel) between maps of vectors, (out, components, in, kernel, kernel) from a map of
        numbers."""
        if len(post) != 4 or len(pre) not in (3, 4) or (len(pre) == 4 and pre[1] != post[1]):
            raise ValueError(
                f"a vector_conv2d connection joins a map [channels, height, width] or one of vectors [channels, "
                f"components, height, width] to one of vectors of as many components, got {list(pre)} onto {list(post)}"
            )
        numbers = len(pre) == 3
        shape = self._plain.weight_shape(pre if numbers else (pre[0], *pre[2:]), (post[0], *post[2:]))
        return (shape[0], post[1], *shape[1:]) if numbers else shape

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """[out, in, kernel, kernel] or [out, components, in, kernel, kernel]."""
        last = len(shape) - 3
        return WeightAxes(tuple(range(last)), last, 1)

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Every kernel at every position, once per component that it serves."""
        numbers = len(pre) == 3
        each = self._plain.multiplications(shape[-4:], pre if numbers else (pre[0], *pre[2:]))
        return each * (shape[0] if numbers else pre[1])

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """Kernels drawn, component by component where each has its own."""
        bias = torch.zeros(post[:2]) if self.bias else None
        if len(shape) == 4:
            return Synapses(self._plain.start(shape, post, generator).weight, bias)
        drawn = [self.weight.draw((shape[0], *shape[2:]), generator) for _ in range(shape[1])]
        return Synapses(torch.stack(drawn, 1), bias)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """1 where there is a synapse."""
        return sparse_mask(shape, self.sparsity, generator)

    def carry(self, value: Tensor) -> Tensor:
        """The pooled map, of vectors [B, components, channels, height, width], of numbers as it is."""
        if value.dim() == 4:
            return self._plain.carry(value)
        folded, components = _folded(value.transpose(1, 2)), value.shape[2]
        return self._plain.carry(folded).unflatten(0, (-1, components))

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """Correlation of the map with the kernels, [B, out, components, height, width]."""
        plain, weight = self._plain, synapses.weight
        if weight.dim() == 5:
            drive = plain.drive(_flat(weight), arriving).unflatten(1, weight.shape[:2])
        else:
            folded = plain.drive(Synapses(weight, None), _folded(arriving))
            drive = folded.unflatten(0, arriving.shape[:2]).transpose(1, 2)
        return drive if synapses.bias is None else drive + synapses.bias[:, :, None, None]

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Correlation of the pre factor with the post factor, summed over components that share a kernel."""
        plain, weight = self._plain, synapses.weight
        bias = None if synapses.bias is None else post_factor.sum((0, 3, 4))
        if weight.dim() == 5:
            found = plain.outer(_flat(weight), post_factor.flatten(1, 2), pre_factor).weight
            found = found.reshape(weight.shape)
        else:
            post = _folded(post_factor.transpose(1, 2))
            found = plain.outer(Synapses(weight, None), post, _folded(pre_factor)).weight
        return Synapses(found, bias)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """The signal of every component through the kernels that it shares, spread over what was pooled, [B, *size]."""
        if synapses.weight.dim() == 5:
            return self._plain.back(_flat(synapses.weight), signal.flatten(1, 2), value)
        across = value.transpose(1, 2)
        onto = self._plain.back(Synapses(synapses.weight, None), _folded(signal.transpose(1, 2)), _folded(across))
        return onto.unflatten(0, across.shape[:2]).transpose(1, 2)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """The outer of every example by itself, [B, *weight]; components that share a kernel count as further steps."""
        weight = synapses.weight
        if weight.dim() == 5:
            flat = None if e is None else e.flatten(1, 2)
            found = self._plain.each(_flat(weight), posts.flatten(2, 3), pres, flat, kept)
            return found.unflatten(1, weight.shape[:2]) if e is None else e
        posts, pres = posts.permute(0, 3, 1, 2, 4, 5).flatten(0, 1), pres.transpose(1, 2).flatten(0, 1)
        return self._plain.each(Synapses(weight, None), posts, pres, e, kept)

    @property
    def _plain(self) -> Conv2d:
        """The convolution of one component."""
        return Conv2d(self.kernel, self.stride, self.padding, self.pool, weight=self.weight)


def _folded(maps: Tensor) -> Tensor:
    """Components as further examples, [B components, channels, height, width] of [B, components, ...]."""
    return maps.flatten(0, 1)


def _flat(weight: Tensor) -> Synapses:
    """The kernels of all components of all channels in a row."""
    return Synapses(weight.flatten(0, 1), None)
