"""Dense connections of several networks side by side: one product for all of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.connections.dense import Dense
from neurosbd.connections.geometry import WeightAxes
from neurosbd.connections.initialisers import Initialiser
from neurosbd.connections.synapses import Synapses


@dataclass(frozen=True)
class Stacked:
    """Connections of one kind in S networks that have nothing to do with each other.

        drive[b S + s, i] = sum_j weight[s, i, j] arriving[b S + s, j] + bias[s, i]
        outer[s, i, j] = sum_b post_factor[b S + s, i] pre_factor[b S + s, j]

    The rows of an activity count examples and within them networks, so that those of one network are rows of a matrix,
    S rows apart, of one step and of a block of steps alike; nobody but this geometry sees more than rows. Each network
    gets what `Dense` gives it alone, up to the order of summation.

    Args:
        dense: of every network, without pooling.
        networks: S.
    Source: torch.baddbmm, whose batch counts networks here.
    """

    dense: Dense
    networks: int

    @property
    def weight(self) -> Initialiser:
        """How the weights of each start."""
        return self.dense.weight

    @property
    def bias(self) -> bool:
        """Whether every post unit has a bias."""
        return self.dense.bias

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """(networks, post units, arriving units)."""
        return self.networks, *self.dense.weight_shape(pre, post)

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """[network, post, arriving]."""
        return WeightAxes((0, 1), 2, self.dense.axes(shape[1:], pre).positions)

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Of one example of each network."""
        return self.networks * self.dense.multiplications(shape[1:], pre)

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """Each as if it were drawn after the other."""
        weights, biases = zip(*(self.dense.start(shape[1:], post, generator) for _ in range(shape[0])), strict=True)
        return Synapses(torch.stack(weights), torch.stack(biases) if self.bias else None)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """1 where there is a synapse."""
        masks = [self.dense.mask(shape[1:], generator) for _ in range(shape[0])]
        return None if masks[0] is None else torch.stack([mask for mask in masks if mask is not None])

    def carry(self, value: Tensor) -> Tensor:
        """Flattened, [B S, arriving]."""
        return self.dense.carry(value)

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """[B S, post]."""
        pre, weight = side_by_side(arriving, self.networks), synapses.weight.mT
        if synapses.bias is None:
            return in_rows(torch.bmm(pre, weight))
        return in_rows(torch.baddbmm(synapses.bias[:, None], pre, weight))

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Of each network, [networks, post, arriving]."""
        post, pre = (side_by_side(factor, self.networks) for factor in (post_factor, pre_factor))
        return Synapses(torch.bmm(post.mT, pre), None if synapses.bias is None else post.sum(1))

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """[B S, *size]."""
        return in_rows(torch.bmm(side_by_side(signal, self.networks), synapses.weight)).view(value.shape)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """Of each example, [B S, post, arriving], as there are no weights in it."""
        return self.dense.each(synapses, posts, pres, e, kept)


def side_by_side(rows: Tensor, networks: int) -> Tensor:
    """Rows [B S, n] of S networks as one matrix for each, [S, B, n], without a copy."""
    return rows.unflatten(0, (-1, networks)).transpose(0, 1)


def in_rows(values: Tensor) -> Tensor:
    """[S, B, n] as rows [B S, n]."""
    return values.transpose(0, 1).flatten(0, 1)
