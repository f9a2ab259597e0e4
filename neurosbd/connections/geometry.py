"""What a connection's geometry must offer: the way to the synapses, the drive and its adjoint."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from neurosbd.connections.initialisers import Initialiser
from neurosbd.connections.synapses import Synapses
from neurosbd.connections.wirings import Pairs


class WeightAxes(NamedTuple):
    """Whose the axes of a weight are."""

    post: tuple[int, ...]  # say which postsynaptic unit (conv: channel)
    pre: int  # says which of what arrives
    positions: int  # so many in a row along `pre` come from one presynaptic unit or channel
    pairs: Pairs | None = None  # of a weight [n] that lists its synapses: the units of each, in place of these axes
    units: tuple[int, int] = (0, 0)  # then: how many there are of either, (post, arriving)
    kernel: tuple[int, ...] = ()  # rows and columns of a kernel, if it is one


class Geometry(Protocol):
    """Which units reach which, and how. Stateless: the weights belong to the network.

    `drive` is linear in the synapses and `outer` is its adjoint:
    <outer(p, x), w> = <p, drive(w, x)> for every post factor p, arriving x and synapses w. Where a drive is pooled by
    its maximum it is linear piece by piece, and this holds at the synapses w that `outer` is given.
    """

    @property
    def weight(self) -> Initialiser:
        """How the weights start."""
        ...

    @property
    def bias(self) -> bool:
        """Whether every post unit (conv: channel; vectors: component) has a bias."""
        ...

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the weight between populations of these sizes; ValueError if they do not fit."""
        ...

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """Whose the axes of a weight of `shape` are, of synapses from a population of size `pre`."""
        ...

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Of a weight of `shape` with what arrives at it from a population of size `pre`, per example and step."""
        ...

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """A weight of `shape` as `weight` draws it, laid out in memory for speed, and biases of 0 if there are any, of
        the units of a population of size `post`."""
        ...

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """1 where there is a synapse, 0 where there never is, like a weight of `shape`; None if all are there."""
        ...

    def carry(self, value: Tensor) -> Tensor:
        """Presynaptic activity as it arrives at the synapses: pooled, flattened, laid out for speed."""
        ...

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """Drive of the post population, [B, *size]."""
        ...

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Sum over the batch (and positions) of post_factor x pre_factor, like `synapses`."""
        ...

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """What a signal at the drive is at the pre population: the adjoint of `carry` and `drive` in their input.

        Args:
            synapses: of the connection, or others in their place.
            signal: [B, *post size].
            value: activity of the pre population, [B, *size]; where something is pooled by its maximum it says where.
        """
        ...

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """kept e[b] + sum_k posts[k, b] x pres[k, b], for each example by itself (conv: summed over
        positions).

        Args:
            synapses: of the connection.
            posts: post factors, [K, B, *size].
            pres: what arrives with them, [K, B, *arriving].
            e: [B, *weight], written over and returned, since the page faults of a fresh one cost more than the sum;
                None for a fresh one.
            kept: of e; with 0 it may hold anything.
        """
        ...


def sparse_mask(shape: tuple[int, ...], sparsity: float, generator: torch.Generator) -> Tensor | None:
    """Each synapse is absent with probability `sparsity`; in the type of a weight, since multiplying by it is
    30 times faster than filling by a boolean mask."""
    # Uniforms of float32 are multiples of 2^-24, so the share that is kept is off by up to 3e-8: 19 % at a share of
    # 1e-7, 1 % at 3e-6. In a weight of less than 1e9 numbers that is less than one standard deviation of the draw at
    # 1e-6, so the masks stay as they are.
    return (torch.rand(shape, generator=generator) >= sparsity).float() if sparsity else None
