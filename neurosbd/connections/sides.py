"""Values of units beside their synapses: along the axes of a matrix of weights, or one by one beside a list."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.connections.wirings import Pairs


@dataclass(frozen=True, eq=False)
class Sides:
    """How values of units stand beside the weights of a connection whose every weight joins two units.

    So that a value per synapse and example is [B, post, pre] where weights are a matrix and [B, n] where they are a
    list, and what is done with it is written once.

    Args:
        pairs: the units of each synapse of a list; None: weights are a matrix [post, pre].
        units: of a list, or with delays, how many there are of either, (post, arriving).
        heard: of a matrix whose weights have delays of their own, which of what arrives each hears, [post, pre]; None:
            all of a column hear the same.
    """

    pairs: Pairs | None = None
    units: tuple[int, int] = (0, 0)
    heard: Tensor | None = None

    @property
    def listed(self) -> bool:
        """Whether synapses are listed."""
        return self.pairs is not None

    def of_post(self, values: Tensor) -> Tensor:
        """Values of the post units [.., post] as they go with the weights, [.., post, 1] or [.., n]."""
        return values[..., None] if self.pairs is None else values.index_select(-1, self.pairs.post)

    def of_pre(self, values: Tensor) -> Tensor:
        """What arrives, [.., arriving], as it goes with the weights: [.., 1, pre], [.., post, pre] with delays of their
        own, or [.., n]."""
        if self.pairs is not None:
            return values.index_select(-1, self.pairs.pre)
        return values[..., None, :] if self.heard is None else values[..., self.heard]

    def sum_post(self, factor: Tensor, e: Tensor) -> Tensor:
        """sum_b factor[b, post] e[b], like the weight.

        Args:
            factor: of the post units, [B, post].
            e: [B, *weight].
        """
        if self.pairs is None:
            return torch.einsum("bi,bij->ij", factor, e)
        return torch.einsum("bn,bn->n", self.of_post(factor), e)

    def sum_pre(self, factor: Tensor, e: Tensor) -> Tensor:
        """sum_b factor[b, arriving] e[b], like the weight; factor is [B, arriving]."""
        if self.pairs is None and self.heard is None:
            return torch.einsum("bij,bj->ij", e, factor)
        return torch.einsum("b...,b...->...", self.of_pre(factor), e)

    def onto(self, pending: Tensor, kept: float, post: Tensor, pre: Tensor) -> Tensor:
        """kept pending[b] + post[b] x pre[b] of every example, in one pass, [B, *weight]."""
        if self.pairs is None and self.heard is None:
            return torch.baddbmm(pending, post[:, :, None], pre[:, None, :], beta=kept)
        return torch.addcmul(pending * kept, self.of_post(post), self.of_pre(pre))

    @cached_property
    def biased(self) -> "Sides":
        """The same with a bias of every post unit among the weights: a last column, or behind the list. It hears one
        more unit, the last of what arrives, that always sends 1."""
        if self.heard is not None:
            last = self.heard.new_full((len(self.heard), 1), self.units[1])
            return Sides(units=(self.units[0], self.units[1] + 1), heard=torch.cat((self.heard, last), 1))
        if self.pairs is None:
            return self
        post, pre = self.pairs
        every = torch.arange(self.units[0], dtype=post.dtype, device=post.device)
        pairs = Pairs(torch.cat((post, every)), torch.cat((pre, torch.full_like(every, self.units[1]))))
        return Sides(pairs, (self.units[0], self.units[1] + 1))

    def joined(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Weight [B, *weight] and bias [B, post] in one tensor, as `biased` stands beside it."""
        return torch.cat((weight, bias[..., None] if self.pairs is None else bias), -1)

    def apart(self, full: Tensor) -> Synapses:
        """The reverse of `joined`."""
        if self.pairs is None:
            return Synapses(full[..., :-1], full[..., -1])
        count = len(self.pairs.post)
        return Synapses(full[..., :count], full[..., count:])
