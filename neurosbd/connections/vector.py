"""All-to-all connection between units whose values are vectors: a weight is a number, shared over the components."""

import math
from dataclasses import field

import torch
from torch import Tensor

from neurosbd.connections.geometry import WeightAxes, sparse_mask
from neurosbd.connections.initialisers import Initialiser, KaimingNormal
from neurosbd.connections.synapses import Synapses, is_matrix
from neurosbd.schema.constants import Share, constants


@constants
class Vector:
    """Every post unit hears every pre unit, component by component.

        drive[b, i, k] = sum_j weight[i, j] arriving[b, j, k] + bias[i, k]
        outer[i, j] = sum_{b, k} post_factor[b, i, k] pre_factor[b, j, k]

    From units or a map, whose values are numbers, every component has weights of its own: weight[i, k, j]
    arriving[b, j]. Onto as many units as there are components, these are the components of one vector: weight[j]
    arriving[b, j, k].

    Args:
        bias: whether each component of each post unit has a bias.
        sparsity: fraction of the weights fixed at zero, drawn once, 0 <= sparsity < 1.
        weight: initialiser of the weights, whose fan-in is what one component hears.
    Raises:
        ValueError: if `sparsity` is out of range, or the sizes of the populations do not fit.
    Source: Clark, Abbott, Chung 2021, NeurIPS, arXiv 2106.04089 (vectorised networks): hidden layers, output, and the
        first layer, whose inputs they write as K n units with one component each that is not 0.
    """

    bias: bool = False
    sparsity: Share = 0.0
    weight: Initialiser = field(default_factory=KaimingNormal)

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """(post, pre) between vectors, (post, components, arriving) from numbers, (pre,) onto one vector."""
        pre = pre[:2] if len(pre) == 4 and pre[2:] == (1, 1) else pre
        if len(pre) in (1, 3) and len(post) == 2:
            return *post, math.prod(pre)
        if len(pre) != 2 or not 1 <= len(post) <= 2 or post[-1] != pre[1]:
            raise ValueError(
                f"a vector connection joins vectors [units, components] of as many components, ends at [components] "
                f"units, or starts at units or a map and ends at vectors, got {list(pre)} onto {list(post)}; a map of "
                f"vectors ends in a vector_conv2d of its size, onto [units, components, 1, 1]"
            )
        return (post[0], pre[0]) if len(post) == 2 else (pre[0],)

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """[post, pre], [post, components, arriving] or [pre]; of a map, the positions of a channel arrive in a row."""
        last = len(shape) - 1
        return WeightAxes(tuple(range(last)), last, shape[-1] // pre[0])

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Every weight once per component that it serves."""
        return math.prod(shape) * (1 if len(shape) == 3 else pre[1])

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """Weights drawn, component by component where each has its own."""
        if len(shape) == 3:  # component by component, each [post, arriving]
            drawn = [self.weight.draw((shape[0], shape[2]), generator) for _ in range(shape[1])]
            return Synapses(torch.stack(drawn, 1), torch.zeros(post) if self.bias else None)
        weight = self.weight.draw((math.prod(shape[:-1]), shape[-1]), generator).view(shape)
        return Synapses(weight, torch.zeros(post) if self.bias else None)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """1 where there is a synapse."""
        return sparse_mask(shape, self.sparsity, generator)

    def carry(self, value: Tensor) -> Tensor:
        """Vectors as they are, [B, pre, components]; numbers in a line, [B, arriving]."""
        if value.dim() == 5:  # a map of one position
            return value.flatten(2)
        return value if value.dim() == 3 else value.flatten(1)

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """[B, post, components], or [B, components]."""
        weight, vectors = synapses.weight, arriving.dim() == 3
        drive = torch.matmul(weight, arriving) if vectors else torch.einsum("ikj,bj->bik", weight, arriving)
        return drive if synapses.bias is None else drive + synapses.bias

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Summed over the batch, and over the components that share a weight."""
        bias = None if synapses.bias is None else post_factor.sum(0)
        return Synapses(torch.einsum(self._terms(synapses.weight), post_factor, pre_factor), bias)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """The signal of every component through the weights that it shares, [B, *size]."""
        post, onto = self._terms(synapses.weight).split("->")
        post, pre = post.split(",")
        return torch.einsum(f"{post},{onto}->{pre}", signal, synapses.weight).view(value.shape)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """The outer of every example by itself, [B, *weight]."""
        both, onto = self._terms(synapses.weight).split("->")
        total = torch.einsum(f"{','.join(f't{part}' for part in both.split(','))}->b{onto}", posts, pres)
        if e is None:
            return total
        return e.copy_(total) if kept == 0 else e.mul_(kept).add_(total)

    def _terms(self, weight: Tensor) -> str:
        """Post factor, pre factor -> weight, as einsum writes them."""
        if is_matrix(weight):
            return "bik,bjk->ij"
        return "bk,bjk->j" if weight.dim() == 1 else "bik,bj->ikj"
