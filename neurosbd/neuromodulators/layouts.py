"""How a projection is laid over a population: a column per unit, per channel, per patch, or along few directions.

A layout turns an activity [B, *size] into the coordinates [B, M] in which a projection [C, M] lives,
and spreads a third_factor [B, M] back over the population. M is the last axis of a projection, so that its
skinny products with [B, C] scores read memory in order: about five times faster than [M, C].

In all of them a projection whose entries have the standard deviation `scale` gives every unit a third factor of the
same variance, scale^2 |score|^2.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.axes import inner, is_map
from neurosbd.schema.constants import Count, Range, constants

NO_BASIS = torch.empty(0)  # of the layouts that need none


class Layout(Protocol):
    """Coordinates of a projection over one population."""

    def init(self, value: Tensor, generator: torch.Generator) -> Tensor:
        """Basis of the coordinates over a population like `value` [B, *size], drawn once; empty where none is needed.

        It is kept, moved and checkpointed with the projection.
        """
        ...

    def summary(self, value: Tensor, basis: Tensor) -> Tensor:
        """Activity [B, *size] in the coordinates of the projection, [B, M]."""
        ...

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """Third factor [B, M] over the population, [B, *size of like]."""
        ...

    def adjoint(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """The transpose of `summary`: a slope [B, M] at the coordinates as it is at the units, [B, *size of like]."""
        ...


def _no_basis(self: Layout, value: Tensor, generator: torch.Generator) -> Tensor:
    """Of a layout that needs none; the generator is not advanced."""
    return value.new_empty(0)


def _mean_over_positions(value: Tensor) -> Tensor:
    """[B, channels]. On a CPU an average over one window reads channels-last maps twice as fast as `mean`."""
    if value.device.type == "cpu" and value.is_contiguous(memory_format=torch.channels_last):
        return functional.avg_pool2d(value, value.shape[2:]).flatten(1)
    return value.mean(inner(value))


@dataclass(frozen=True)
class Full:
    """One column per unit; for maps one per channel and position. M = units, no basis, no product of its own.

    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD): units of a conv layer are channels x height x width.
    Differs: columns of a map are ordered position by position (channels-last), which costs no copy.
    """

    init = _no_basis

    def summary(self, value: Tensor, basis: Tensor) -> Tensor:
        """Every unit, [B, units]."""
        return _units(value)

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """Every unit its own third factor."""
        return _over(third_factor, like)

    adjoint = spread


@dataclass(frozen=True)
class Shared:
    """One column per channel, shared over the positions of a map; for other populations the same as full.

    The correlation is taken with the mean over positions, so frozen and learned parts keep their scale. M = channels;
    one pass over the activity, and no memory for the third factor.

    Source: this project's own reading; on CIFAR-10 as accurate as full, and hundreds of times smaller.
    """

    init = _no_basis

    def summary(self, value: Tensor, basis: Tensor) -> Tensor:
        """Mean over positions, [B, channels]."""
        return _mean_over_positions(value) if is_map(value) else value.flatten(1)

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """Every position of a channel the same third factor; an expanded view, nothing is written."""
        return third_factor[:, :, None, None].expand(like.shape) if is_map(like) else third_factor.view(like.shape)

    def adjoint(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """Every position of a channel its share of the slope."""
        return self.spread(third_factor / like[0, 0].numel() if is_map(like) else third_factor, like, basis)


class Patches(Layout, Protocol):
    """Layouts with a column for each channel and patch of a map, which differ in how large a patch is."""

    init = _no_basis

    def sides(self, value: Tensor) -> tuple[int, ...]:
        """Height and width of a patch over a population like `value`; () of one that is no map."""
        ...

    def summary(self, value: Tensor, basis: Tensor) -> Tensor:
        """Mean over each patch, [B, patches x channels]."""
        return _patch_means(value, *self.sides(value))

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """Every position of a patch the same third factor."""
        return _tiled(third_factor, like, *self.sides(like))

    def adjoint(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """Every position of a patch its share of the slope."""
        return _tiled(third_factor, like, *self.sides(like)) * _shares(like, *self.sides(like))


@constants
class Patchwise(Patches):
    """One column per channel and square patch of a map; for other populations the same as full.

    The correlation is taken with the mean over the positions of a patch. Patches lie side by side from the first
    position on, and those at the far border are cut where the map ends. M = channels x ceil(height / patch) x
    ceil(width / patch), ordered patch by patch: patch = 1 is full, patch >= the map is shared. One pass over the
    activity and one over the third factor, no basis.

    Args:
        patch: side in pixels of the map, >= 1.
    Raises:
        ValueError: if `patch` is out of range.
    Source: this project's own reading, between the two others.
    """

    patch: Annotated[int, Range(least=1, unit="pixel")] = 4

    def sides(self, value: Tensor) -> tuple[int, ...]:
        """Of a patch; none is larger than the map."""
        return tuple(min(self.patch, length) for length in _map_sides(value))


@constants
class Grid(Patches):
    """As patchwise, with as many patches along each side of every map, however large it is.

    M = channels x patches: no more than channels x divisions^2. A patch is ceil(height / divisions) x ceil(width /
    divisions), so that a map with fewer positions has one for each. divisions = 1 is shared.

    Args:
        divisions: of each side of a map, >= 1.
    Raises:
        ValueError: if `divisions` is out of range.
    Source: this project's own reading, so that one setting fits all layers of a network.
    """

    divisions: Count = 4

    def sides(self, value: Tensor) -> tuple[int, ...]:
        """Of a patch."""
        return tuple(-(-length // self.divisions) for length in _map_sides(value))


@constants
class LowRank:
    """All units of a population along a few fixed random directions.

        summary = h P,   spread = third_factor P^T,   |P[i]| = 1 for every unit i

    so that a learned projection R = mean score (h P)^T tells the units mean score h^T P P^T: the full correlation,
    since P P^T is the identity on average, and a mixture of other units' of the relative size 1 / sqrt(rank).
    M = rank. The basis holds units x rank numbers, and a step makes two products of batch x units x rank; full makes
    two of batch x units x outputs, so this is the smaller one only while rank < outputs.

    Args:
        rank: number of directions, >= 1.
    Raises:
        ValueError: if `rank` is out of range.
    Source: this project's own reading; random projections keep angles as in Johnson, Lindenstrauss 1984.
    """

    rank: Count = 8

    def init(self, value: Tensor, generator: torch.Generator) -> Tensor:
        """P^T, Gaussian directions of length 1, [rank, units]."""
        drawn = torch.randn((math.prod(value.shape[1:]), self.rank), generator=generator)
        return functional.normalize(drawn).t().contiguous().to(value)

    def summary(self, value: Tensor, basis: Tensor) -> Tensor:
        """h P, [B, rank]."""
        return _units(value) @ basis.t()

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        """third_factor P^T over the units."""
        return _over(third_factor @ basis, like)

    adjoint = spread


def _map_sides(value: Tensor) -> tuple[int, ...]:
    """Height and width of a map; () of any other population, which has no patches."""
    return tuple(value.shape[2:]) if is_map(value) else ()


def _units(value: Tensor) -> Tensor:
    """[B, units]; a map position by position."""
    if is_map(value):
        value = value.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return value.flatten(1)


def _patch_means(value: Tensor, *sides: int) -> Tensor:
    """Means over patches of [tall, wide] positions, cut at the far border, [B, patches x channels]."""
    return _units(functional.avg_pool2d(value, sides, ceil_mode=True) if sides else value)


def _tiled(third_factor: Tensor, like: Tensor, *sides: int) -> Tensor:
    """The other way, [B, *size of like]."""
    if not sides:
        return third_factor.view(like.shape)
    (batch, channels, height, width), (tall, wide) = like.shape, sides
    down, across = -(-height // tall), -(-width // wide)
    patches = third_factor.view(batch, down, 1, across, 1, channels).expand(-1, -1, tall, -1, wide, -1)
    maps = patches.reshape(batch, down * tall, across * wide, channels)
    return maps[:, :height, :width].permute(0, 3, 1, 2)


def _shares(like: Tensor, *sides: int) -> Tensor | float:
    """1 / how many positions a patch has, of every position, [height, width]; 1 of units by themselves."""
    lengths = _map_sides(like)
    if not sides:
        return 1.0
    along = []
    for side, length in zip(sides, lengths, strict=True):
        place = torch.arange(length, device=like.device) // side * side
        along.append((length - place).clamp(max=side).to(like.dtype))
    return 1 / torch.outer(*along)


def _over(third_factor: Tensor, like: Tensor) -> Tensor:
    """The other way, [B, *size of like], without a copy."""
    if is_map(like):
        batch, channels, height, width = like.shape
        return third_factor.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return third_factor.view(like.shape)


LAYOUTS = {"full": Full, "shared": Shared, "patchwise": Patchwise, "grid": Grid, "low_rank": LowRank}
