"""Connections of several networks side by side: one product for all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.connections.conv2d import Conv2d
from neurosbd.connections.dense import Dense
from neurosbd.connections.geometry import Geometry, WeightAxes
from neurosbd.connections.initialisers import Initialiser
from neurosbd.connections.kernels import arriving_size, spread
from neurosbd.connections.local2d import Local2d, LocalDrive, correlated, multiplied
from neurosbd.connections.pooling import unpooled
from neurosbd.connections.synapses import Synapses

G = TypeVar("G", bound=Geometry)


@dataclass(frozen=True)
class Stacked(Generic[G]):
    """Connections of one kind in S networks that have nothing to do with each other.

    The rows of an activity count examples and within them networks, so that those of one network are rows of a matrix,
    S rows apart, of one step and of a block of steps alike; nobody but this geometry sees more than rows. Each network
    gets what the geometry of one gives it alone, up to the order of summation; weights and biases are [S, ..].

    Args:
        one: geometry of every network.
        networks: S.
    """

    one: G
    networks: int

    @property
    def weight(self) -> Initialiser:
        """How the weights of each start."""
        return self.one.weight

    @property
    def bias(self) -> bool:
        """Whether they have biases."""
        return self.one.bias

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """(networks, *that of one)."""
        return self.networks, *self.one.weight_shape(pre, post)

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """Those of one, behind the axis of networks."""
        one = self.one.axes(shape[1:], pre)
        post, kernel = (tuple(axis + 1 for axis in axes) for axes in (one.post, one.kernel))
        return WeightAxes((0, *post), one.pre + 1, one.positions, kernel=kernel)

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Of one example of each network."""
        return self.networks * self.one.multiplications(shape[1:], pre)

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """Each as if it were drawn after the other."""
        weights, biases = zip(*(self.one.start(shape[1:], post, generator) for _ in range(shape[0])), strict=True)
        return Synapses(self.laid(torch.stack(weights)), torch.stack(biases) if self.bias else None)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """1 where there is a synapse."""
        masks = [self.one.mask(shape[1:], generator) for _ in range(shape[0])]
        return None if masks[0] is None else self.laid(torch.stack([mask for mask in masks if mask is not None]))

    def laid(self, weight: Tensor) -> Tensor:
        """A weight of all networks, in memory as its products want it."""
        return weight.contiguous()

    def carry(self, value: Tensor) -> Tensor:
        """As of one, [B S, *arriving]."""
        return self.one.carry(value)


@dataclass(frozen=True)
class StackedDense(Stacked[Dense]):
    """Dense connections of S networks.

        drive[b S + s, i] = sum_j weight[s, i, j] arriving[b S + s, j] + bias[s, i]
        outer[s, i, j] = sum_b post_factor[b S + s, i] pre_factor[b S + s, j]

    Source: torch.baddbmm, whose batch counts networks here.
    """

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
        onto = in_rows(torch.bmm(side_by_side(signal, self.networks), synapses.weight))
        size = self.one.pool.size(tuple(value.shape[1:])) if self.one.pool else value.shape[1:]
        return unpooled(self.one.pool, onto.view(len(signal), *size), value)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """Of each example, [B S, post, arriving], as there are no weights in it."""
        return self.one.each(synapses, posts, pres, e, kept)


@dataclass(frozen=True)
class StackedConv2d(Stacked[Conv2d]):
    """Convolutions of S networks as one whose channels come in S groups.

        drive[b S + s] = correlation of arriving[b S + s] with weight[s], + bias[s]

    Source: Krizhevsky et al. 2012, NeurIPS (convolutions in groups); torch.nn.functional.conv2d.
    Differs: maps lie channel by channel in memory, as only then examples of all networks and channels of all groups
        are the same numbers in a row.
    """

    def carry(self, value: Tensor) -> Tensor:
        """The pooled map, [B S, channels, height, width]."""
        return (self.one.pool.pool(value) if self.one.pool else value).contiguous()

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """Correlation of the maps with the kernels of their network, pooled, [B S, out, height, width]."""
        drive = self._full_drive(synapses, arriving)
        return self.one.pool_drive.pool(drive) if self.one.pool_drive else drive

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Correlation of the pre factors with the post factors of each network."""
        one, weight = self.one, synapses.weight.flatten(0, 1)
        post_factor = spread(one, post_factor, pre_factor.shape, lambda: self._full_drive(synapses, pre_factor))
        biased = synapses.bias is not None
        _, kernels, bias = torch.ops.aten.convolution_backward(
            self._in_groups(post_factor),
            self._in_groups(pre_factor),
            weight,
            [len(weight)] if biased else None,
            [one.stride] * 2,
            [one.padding] * 2,
            [1, 1],
            False,
            [0, 0],
            self.networks,
            [False, True, biased],
        )
        apart = (self.networks, -1)
        return Synapses(kernels.unflatten(0, apart), bias.unflatten(0, apart) if biased else None)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """Transposed correlation with the kernels of each network, spread over what was pooled, [B S, *size]."""
        one, size = self.one, arriving_size(self.one, value)
        signal = spread(one, signal, size, lambda: self._full_drive(synapses, self.carry(value)))
        rest = [(side + 2 * one.padding - one.kernel) % one.stride for side in size[1:]]  # that no kernel has seen
        maps, weight = self._in_groups(signal), synapses.weight.flatten(0, 1)
        onto = functional.conv_transpose2d(maps, weight, None, one.stride, one.padding, rest, self.networks)
        return unpooled(one.pool, self._in_rows(onto), value)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """Of each example, [B S, out, in, kernel, kernel]; weights say no more than which drive was the largest."""
        pairs = zip(posts, pres, strict=True)
        full = [spread(self.one, p, x.shape, lambda x=x: self._full_drive(synapses, x)) for p, x in pairs]
        return replace(self.one, pool_drive=None).each(synapses, torch.stack(full), pres, e, kept)

    def _full_drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        one, maps, weight = self.one, self._in_groups(arriving), synapses.weight.flatten(0, 1)
        bias = None if synapses.bias is None else synapses.bias.flatten()
        return self._in_rows(functional.conv2d(maps, weight, bias, one.stride, one.padding, 1, self.networks))

    def _in_groups(self, maps: Tensor) -> Tensor:
        """Maps [B S, channels, height, width] of all networks in one, [B, S channels, height, width]."""
        return maps.contiguous().unflatten(0, (-1, self.networks)).flatten(1, 2)

    def _in_rows(self, maps: Tensor) -> Tensor:
        """The other way."""
        return maps.unflatten(1, (self.networks, -1)).flatten(0, 1)


@dataclass(frozen=True)
class StackedLocal2d(Stacked[Local2d]):
    """Locally connected maps of S networks: as many kernels at every position.

        drive[b S + s, o, r, c] = sum_{i, y, x} weight[s, o, r, c, i, y, x] arriving[b S + s, i, stride r + y - padding,
                                  ...] + bias[s, o, r, c]

    In memory the weight lies as [height, width, networks, kernel, kernel, in, out].
    """

    def laid(self, weight: Tensor) -> Tensor:
        """[networks, out, height, width, in, kernel, kernel]."""
        return _kernels(weight).contiguous().permute(2, 6, 0, 1, 5, 3, 4)

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """Patch of every position times its kernels, pooled, [B S, out, height, width]."""
        drive = self._full_drive(synapses, arriving)
        return self.one.pool_drive.pool(drive) if self.one.pool_drive else drive

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Patch of every position times the post factor there, summed over the examples of each network."""
        post_factor = spread(self.one, post_factor, pre_factor.shape, lambda: self._full_drive(synapses, pre_factor))
        bias = None if synapses.bias is None else side_by_side(post_factor, self.networks).sum(1)
        return Synapses(self.local_outer(post_factor, pre_factor), bias)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """What every pixel sent to the positions that look at it, spread over what was pooled, [B S, *size]."""
        size = arriving_size(self.one, value)
        signal = spread(self.one, signal, size, lambda: self._full_drive(synapses, self.carry(value)))
        return unpooled(self.one.pool, self.local_back(signal, synapses.weight, size), value)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """Of each example, [B S, out, height, width, in, kernel, kernel]."""
        pairs = zip(posts, pres, strict=True)
        full = [spread(self.one, p, x.shape, lambda x=x: self._full_drive(synapses, x)) for p, x in pairs]
        first = Synapses(synapses.weight[0], None)
        return replace(self.one, pool_drive=None).each(first, torch.stack(full), pres, e, kept)

    def _full_drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        drive = LocalDrive.apply(self, arriving, synapses.weight)
        if synapses.bias is None:
            return drive
        return (drive.unflatten(0, (-1, self.networks)) + synapses.bias).flatten(0, 1)

    def local_drive(self, arriving: Tensor, weight: Tensor) -> Tensor:
        """See `LocalDrives`."""
        drive = multiplied(self._by_network(self.one.patches(arriving)), _kernels(weight))
        return drive.permute(3, 2, 4, 0, 1).flatten(0, 1)

    def local_outer(self, post_factor: Tensor, pre_factor: Tensor) -> Tensor:
        """See `LocalDrives`."""
        patches, factor = self.one.patches(pre_factor), post_factor.permute(2, 3, 0, 1)
        return correlated(*map(self._by_network, (patches, factor))).permute(2, 6, 0, 1, 5, 3, 4)

    def local_back(self, slope: Tensor, weight: Tensor, arriving: tuple[int, ...]) -> Tensor:
        """See `LocalDrives`."""
        slopes = side_by_side(slope, self.networks)
        onto = [self.one.local_back(one, own, arriving) for one, own in zip(slopes, weight, strict=True)]
        return in_rows(torch.stack(onto))

    def _by_network(self, rows: Tensor) -> Tensor:
        """[height, width, B S, ..] as [height, width, S, B, ..], without a copy."""
        return rows.unflatten(2, (-1, self.networks)).transpose(2, 3)


def _kernels(weight: Tensor) -> Tensor:
    """A weight of locally connected maps as it lies in memory."""
    return weight.permute(2, 3, 0, 5, 6, 4, 1)


def side_by_side(rows: Tensor, networks: int) -> Tensor:
    """Rows [B S, n] of S networks as one matrix for each, [S, B, n], without a copy."""
    return rows.unflatten(0, (-1, networks)).transpose(0, 1)


def in_rows(values: Tensor) -> Tensor:
    """[S, B, n] as rows [B S, n]."""
    return values.transpose(0, 1).flatten(0, 1)


STACKED: Mapping[type, Callable[[Any, int], Geometry]] = {  # by what each network has
    Dense: StackedDense, Conv2d: StackedConv2d, Local2d: StackedLocal2d,
}  # fmt: skip
