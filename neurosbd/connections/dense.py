"""All-to-all connection."""

import math
from dataclasses import field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.connections.geometry import WeightAxes, sparse_mask
from neurosbd.connections.initialisers import Initialiser, KaimingNormal
from neurosbd.connections.pooling import Pooling, unpooled
from neurosbd.connections.synapses import Synapses
from neurosbd.connections.wirings import Pairs, Wiring, by_chance
from neurosbd.schema.constants import Share, constants

Storage = Literal["automatic", "dense", "sparse"]


@constants
class Dense:
    """Every post unit hears every pre unit (of the pooled and flattened map).

        drive[b, i] = sum_j weight[i, j] arriving[b, j] + bias[i]
        outer[i, j] = sum_b post_factor[b, i] pre_factor[b, j]

    Args:
        pool: pooling of the pre map on the way, or none.
        bias: whether each post unit has a bias.
        sparsity: fraction of the weights fixed at zero, drawn once, 0 <= sparsity < 1: each pair of units is joined
            with probability 1 - sparsity.
        autapses: whether a unit of a recurrent connection may reach itself; else the diagonal is fixed at zero.
        weight: initialiser of the weights.
        wiring: which pairs of units are joined, in place of `sparsity`, see WIRINGS; None: as `sparsity` says.
        storage: 'dense': all pairs, those that are not joined as well; 'sparse': the synapses that are there, see
            `Sparse`; 'automatic': sparse where spikes arrive at fewer than a tenth of many pairs, or synapses have
            delays of their own. A choice of speed and memory, which changes synapses and weights no more than by the
            order of sums.
    Raises:
        ValueError: if `sparsity` is out of range or there is a wiring besides, or the sizes of the populations do not
            fit.
    Source: McCulloch, Pitts 1943; fixed sparsity as in Erdogan et al. 2025 (EBD), appendix (MLP recipe).
    """

    pool: Pooling | None = None
    bias: bool = False
    sparsity: Share = 0.0
    autapses: bool = True
    weight: Initialiser = field(default_factory=KaimingNormal)
    wiring: Wiring | None = None
    storage: Storage = "automatic"

    def __post_init__(self) -> None:
        if self.wiring is not None and self.sparsity:
            raise ValueError(
                f"dense: wiring and sparsity = {self.sparsity:g} both say which units are joined; leave one of them out"
            )

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """(post units, arriving units)."""
        if len(post) != 1:
            raise ValueError(f"a dense connection drives a population of size [n], got {list(post)}")
        return post[0], math.prod(self.pool.size(pre) if self.pool else pre)

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """[post, arriving]; of a map, the positions of a channel arrive in a row."""
        return WeightAxes((0,), 1, shape[1] // pre[0])

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """post x arriving: every weight once, those that a mask holds at zero as well."""
        return math.prod(shape)

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """Weights drawn."""
        return Synapses(self.weight.draw(shape, generator), torch.zeros(shape[0]) if self.bias else None)

    def density(self, shape: tuple[int, ...]) -> float:
        """Share of all pairs that are joined, as far as it is known before they are drawn."""
        return 1 - self.sparsity if self.wiring is None else self.wiring.density(shape[0], shape[1])

    def pairs(self, shape: tuple[int, int], generator: torch.Generator) -> Pairs:
        """Those that are joined, without a mask of all."""
        self._check_autapses(shape)
        if self.wiring is None:
            return by_chance(*shape, self.sparsity, self.autapses, generator)
        return self.wiring.draw(*shape, self.autapses, generator)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """1 where there is a synapse."""
        self._check_autapses(shape)
        if self.wiring is not None:
            pairs = self.wiring.draw(shape[0], shape[1], self.autapses, generator)
            return torch.zeros(shape).index_put_(pairs, torch.ones(()))
        present = sparse_mask(shape, self.sparsity, generator)
        if self.autapses:
            return present
        others = 1 - torch.eye(shape[0])
        return others if present is None else present * others

    def _check_autapses(self, shape: tuple[int, ...]) -> None:
        if not self.autapses and shape[0] != shape[1]:
            raise ValueError(f"autapses = false is for a population onto itself, got {shape[1]} onto {shape[0]} units")

    def carry(self, value: Tensor) -> Tensor:
        """Pooled and flattened in the order channel, row, column: [B, arriving]."""
        return (self.pool.pool(value) if self.pool else value).flatten(1)

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """arriving weight^T + bias, [B, post]."""
        return functional.linear(arriving, synapses.weight, synapses.bias)

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """post_factor^T pre_factor and the sum of post_factor."""
        bias = None if synapses.bias is None else post_factor.sum(0)
        return Synapses(torch.mm(post_factor.t(), pre_factor), bias)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """signal weight, unflattened and spread over what was pooled, [B, *size]."""
        size = self.pool.size(tuple(value.shape[1:])) if self.pool else value.shape[1:]
        return unpooled(self.pool, (signal @ synapses.weight).view(len(signal), *size), value)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """kept e[b] + sum_k posts[k, b] pres[k, b]^T, in place of e if there is one, [B, post, pre]."""
        post, pre = posts.permute(1, 2, 0), pres.transpose(0, 1)
        return torch.bmm(post, pre) if e is None else e.baddbmm_(post, pre, beta=kept)
