"""Convolution between maps of vectors: one kernel per pair of channels, shared over positions and components."""

from dataclasses import field

import torch
from torch import Tensor

from neurosbd.connections.by_component import ByComponent
from neurosbd.connections.conv2d import Conv2d
from neurosbd.connections.geometry import WeightAxes, sparse_mask
from neurosbd.connections.initialisers import Initialiser, KaimingNormal
from neurosbd.connections.pooling import Pooling
from neurosbd.connections.synapses import Synapses
from neurosbd.schema.constants import Count, Share, Whole, constants


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
        return self._by_component.weight_shape(pre, post)

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """[out, in, kernel, kernel] or [out, components, in, kernel, kernel]."""
        return self._by_component.axes(shape)

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Every kernel at every position, once per component that it serves."""
        return self._by_component.multiplications(shape, pre)

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """Kernels drawn, component by component where each has its own."""
        weight = self._by_component.start(shape, post, generator)
        return Synapses(weight, torch.zeros(post[:2]) if self.bias else None)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """1 where there is a synapse."""
        return sparse_mask(shape, self.sparsity, generator)

    def carry(self, value: Tensor) -> Tensor:
        """The pooled map, of vectors [B, components, channels, height, width], of numbers as it is."""
        return self._by_component.carry(value)

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """Correlation of the map with the kernels, [B, out, components, height, width]."""
        drive = self._by_component.drive(synapses.weight, arriving)
        return drive if synapses.bias is None else drive + synapses.bias[:, :, None, None]

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Correlation of the pre factor with the post factor, summed over components that share a kernel."""
        bias = None if synapses.bias is None else post_factor.sum((0, 3, 4))
        return Synapses(self._by_component.outer(synapses.weight, post_factor, pre_factor), bias)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """The signal of every component through the kernels that it shares, spread over what was pooled, [B, *size]."""
        return self._by_component.back(synapses.weight, signal, value)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """The outer of every example by itself, [B, *weight]; components that share a kernel count as further steps."""
        return self._by_component.each(synapses.weight, posts, pres, e, kept)

    @property
    def _by_component(self) -> ByComponent:
        plain = Conv2d(self.kernel, self.stride, self.padding, self.pool, weight=self.weight)
        return ByComponent("vector_conv2d", plain, 4)
