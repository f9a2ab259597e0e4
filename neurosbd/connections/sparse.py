"""Dense connections of which only the synapses that are there are kept, one number each."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.dense import Dense
from neurosbd.connections.geometry import WeightAxes
from neurosbd.connections.initialisers import Initialiser
from neurosbd.connections.pooling import unpooled
from neurosbd.connections.sides import Sides
from neurosbd.connections.synapses import Synapses
from neurosbd.connections.wirings import Pairs, rows_of

# Of all pairs: a connection with fewer synapses is stored sparsely. Where the border is best depends on the size. At
# just a tenth a list of 3,000 units is faster in drive and outer, with one example as with 32, silent or not; of
# 1,000 it is faster with 32; of 300 a matrix is, with one. So a connection of just a tenth, as small networks of the
# field have it, stays a matrix, and who has thousands of units says storage = 'sparse'.
SHARE = 0.1
_PAIRS = 2**16  # with fewer, a product with all of them is as fast
# Where no more than one of so many units sends something, it is quicker to look up who hears them: in a batch, and of a
# single example.
_FEW_OF_BATCH, _FEW_OF_ONE = 64, 4


class Lists(NamedTuple):
    """The synapses of a connection by their numbers, which go by post unit and then by pre unit; int32 all."""

    post: Tensor  # number of the post unit of each synapse, [n]
    pre: Tensor  # and of what arrives at it, [n]
    onto: Tensor  # the first synapse onto each post unit, and n, [post + 1]
    fan_in: Tensor  # how many there are onto each, [post]
    sent: Tensor  # numbers of the synapses in the order of their pre units, [n]
    fan_out: Tensor  # how many there are of each, [pre]


def listed(post: Tensor, pre: Tensor, shape: tuple[int, int]) -> Lists:
    """The lists of synapses in order, from the numbers of their units, [n] each, of so many post and pre units."""
    sent = torch.argsort(pre, stable=True)
    onto = torch.searchsorted(post.contiguous(), torch.arange(shape[0] + 1, device=post.device).to(post)).int()
    fan_out = torch.bincount(pre, minlength=shape[1]).int()
    return Lists(post.int(), pre.int(), onto, onto.diff(), sent.int(), fan_out)


class Listed(NamedTuple):
    """A connection that is stored sparsely, as it starts."""

    geometry: "Sparse"
    synapses: Synapses


@dataclass(frozen=True, eq=False)
class Sparse:
    """The synapses of a dense connection one by one, without those that are not there.

        drive[b, post[n]] += weight[n] arriving[b, pre[n]]
        outer[n] = sum_b post_factor[b, post[n]] pre_factor[b, pre[n]]

    The same numbers as those of `Dense` with a mask, but for the order of the sums. Where few of the units send
    anything, as in a step of spikes, the synapses of those alone are looked up; else it is a product with a matrix in
    compressed rows. Both are O(n) in memory.

    Args:
        dense: what is stored.
        shape: (post units, arriving units).
        lists: its synapses.
        lags: delays of its synapses in steps, where they have delays of their own: what arrives is then what the pre
            units sent so long ago, for one delay after another, and arriving units are counted in this order; (): all
            have the same.
    """

    dense: Dense
    shape: tuple[int, int]
    lists: Lists
    lags: tuple[int, ...] = ()

    @property
    def weight(self) -> Initialiser:
        """That of the dense connection."""
        return self.dense.weight

    @property
    def bias(self) -> bool:
        """Whether each post unit has a bias."""
        return self.dense.bias

    def to(self, lists: Lists, lags: tuple[int, ...]) -> "Sparse":
        """The same with its lists in another place, or with others, of synapses with these delays."""
        return replace(self, shape=(self.shape[0], self._units * max(len(lags), 1)), lists=lists, lags=lags)

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """(synapses,)."""
        return (len(self.lists.post),)

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """The units of every synapse."""
        units = self._units
        pairs = Pairs(self.lists.post, self.lists.pre % units if self.lags else self.lists.pre)
        return WeightAxes((0,), 0, units // pre[0], pairs, (self.shape[0], units))

    @property
    def _units(self) -> int:
        """How many arrive, each counted once."""
        return self.shape[1] // max(len(self.lags), 1)

    @cached_property
    def sides(self) -> Sides:
        """How values of units stand beside its synapses."""
        return Sides(Pairs(self.lists.post, self.lists.pre), self.shape)

    def delays(self) -> Tensor | None:
        """Delay of every synapse in steps, int32 [n]; None: all have the same."""
        if not self.lags:
            return None
        return torch.tensor(self.lags, dtype=torch.int32, device=self.lists.pre.device)[self.lists.pre // self._units]

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Every synapse once, where all units send something."""
        return shape[0]

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """Weights drawn, as those of the dense connection at these synapses."""
        bias = torch.zeros(self.shape[0]) if self.bias else None
        return Synapses(_drawn(self.dense, self.shape, Pairs(*self.lists[:2]), generator), bias)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> None:
        """All synapses that are listed are there."""

    def carry(self, value: Tensor) -> Tensor:
        """Pooled and flattened, as for the dense connection."""
        return self.dense.carry(value)

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """Sum over the synapses onto each post unit, + bias, [B, post]."""
        weight, bias = synapses
        if torch.is_grad_enabled() or not _has_products(weight):
            drive = self._summed(weight, arriving, onto=True)
        else:
            where = arriving.nonzero() if arriving.device.type == "cpu" else None
            few = _FEW_OF_ONE if len(arriving) == 1 else _FEW_OF_BATCH
            if where is not None and where.shape[0] * few <= arriving.numel():
                drive = self._of_few(weight, arriving, where)
            else:
                drive = (self._matrix(weight) @ arriving.t()).t()
        return drive if bias is None else drive + bias

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Sum over the batch at the synapses that are there, [n], and that of post_factor."""
        bias = None if synapses.bias is None else post_factor.sum(0)
        if len(post_factor) == 1 or not _has_products(post_factor):
            rows = (
                post.index_select(0, self.lists.post) * pre.index_select(0, self.lists.pre)
                for post, pre in zip(post_factor, pre_factor, strict=True)
            )
            return Synapses(sum(rows, post_factor.new_zeros(())), bias)
        like = self._matrix(synapses.weight)
        found = torch.sparse.sampled_addmm(like, post_factor.t(), pre_factor, beta=0.0)
        return Synapses(found.values(), bias)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """Sum over the synapses of each pre unit, unflattened and spread over what was pooled, [B, *size]."""
        if self.lags:
            raise ValueError("nothing goes back through synapses with delays of their own; give them one delay")
        pool = self.dense.pool
        size = pool.size(tuple(value.shape[1:])) if pool else value.shape[1:]
        return unpooled(pool, self._summed(synapses.weight, signal, onto=False).view(len(signal), *size), value)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """kept e[b] + sum_k posts[k, b, post] pres[k, b, pre], in place of e if there is one, [B, n]."""
        pairs = (post[:, self.lists.post] * pre[:, self.lists.pre] for post, pre in zip(posts, pres, strict=True))
        found = sum(pairs, posts.new_zeros(posts.shape[1], len(self.lists.post)))
        if e is None:
            return found
        return e.mul_(kept).add_(found) if kept else e.copy_(found)

    def spread(self, values: Tensor) -> Tensor:
        """Values of the synapses [n] as those of all pairs, 0 where there is none, [post, pre]."""
        return values.new_zeros(self.shape).index_put_((self.lists.post.long(), self.lists.pre.long()), values)

    @cached_property
    def _of_each(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Of each pre unit the numbers of its synapses, and their post units: views that lie in a row, so that those of
        a few units are copied together, which is a fifth of the time of looking them up one by one."""
        fan_out, post = self.lists.fan_out.tolist(), self.lists.post.index_select(0, self.lists.sent)
        return self.lists.sent.split(fan_out), post.split(fan_out)

    def sent_by(self, units: Tensor) -> Tensor:
        """Numbers of the synapses of these pre units, one unit after the other."""
        return _joined(self._of_each[0], units.tolist(), self.lists.sent)

    @cached_property
    def _onto_each(self) -> Sequence[Tensor]:
        """Of each post unit the numbers of its synapses, as above."""
        numbers = torch.arange(len(self.lists.post), dtype=torch.int32, device=self.lists.post.device)
        return numbers.split(self.lists.fan_in.tolist())

    def onto(self, units: Tensor) -> Tensor:
        """Numbers of the synapses onto these post units, one unit after the other."""
        return _joined(self._onto_each, units.tolist(), self.lists.sent)

    def _of_few(self, weight: Tensor, arriving: Tensor, where: Tensor) -> Tensor:
        """The drive of what is not 0, at `where` [s, 2]."""
        post, rows = self.shape[0], len(arriving)
        drive = weight.new_zeros(rows * post)
        if where.shape[0]:
            row, unit = where.unbind(1)
            units = unit.tolist()
            synapses, place = (_joined(each, units, self.lists.sent) for each in self._of_each)
            sends = arriving[0].index_select(0, unit) if rows == 1 else arriving[row, unit]
            values = weight.index_select(0, synapses)
            if sends.tolist().count(1.0) < len(units):
                values.mul_(torch.repeat_interleave(sends, self.lists.fan_out.index_select(0, unit)))
            if rows > 1:
                place = place + torch.repeat_interleave(row * post, self.lists.fan_out.index_select(0, unit))
            drive.index_add_(0, place, values)
        return drive.view(rows, post)

    def _summed(self, weight: Tensor, factor: Tensor, onto: bool) -> Tensor:
        """Weight times factor, summed onto each post unit or back to each pre unit, for autograd too."""
        there, here = (self.lists.post, self.lists.pre) if onto else (self.lists.pre, self.lists.post)
        parts = factor.t().index_select(0, here) * weight[:, None]
        return parts.new_zeros(self.shape[not onto], len(factor)).index_add(0, there, parts).t()

    def _matrix(self, weight: Tensor) -> Tensor:
        """[post, pre] in compressed rows."""
        _silence_beta_warning()
        return torch.sparse_csr_tensor(
            self.lists.onto, self.lists.pre, weight.detach(), self.shape, check_invariants=False
        )


def laid_out(dense: Dense, shape: tuple[int, int], post: tuple[int, ...], generator: torch.Generator) -> Listed:
    """A dense connection stored sparsely, from the same draws: the same synapses with the same weights.

    Args:
        dense: the connection.
        shape: of its weight, (post, pre).
        post: size of the post population.
        generator: source of weights and synapses.
    Raises:
        ValueError: if the units cannot be wired so.
    """
    before = generator.get_state()
    for _ in _rows(dense, shape, generator):
        pass  # weights come before the synapses
    pairs = dense.pairs(shape, generator)
    after = generator.get_state()
    geometry = Sparse(dense, shape, listed(*pairs, shape))
    started = geometry.start((len(pairs.post),), post, generator.set_state(before))
    generator.set_state(after)
    return Listed(geometry, started)


def with_lags(laid: Listed, steps: Tensor) -> Listed:
    """A connection that is stored sparsely, each of whose synapses, if there is any, has a delay of so many steps."""
    geometry, (weight, bias) = laid.geometry, laid.synapses
    lags = torch.unique(steps) if len(steps) else steps.new_ones(1)
    shape = (geometry.shape[0], len(lags) * geometry.shape[1])
    pre = torch.searchsorted(lags, steps) * geometry.shape[1] + geometry.lists.pre
    order = torch.argsort(geometry.lists.post.long() * shape[1] + pre)
    lists = listed(geometry.lists.post[order], pre[order], shape)
    delayed = Sparse(geometry.dense, shape, lists, tuple(lags.tolist()))
    return Listed(delayed, Synapses(weight[order], bias))


def is_few(dense: Dense, shape: tuple[int, ...]) -> bool:
    """Whether so few of the pairs of a connection are joined that it is better stored sparsely."""
    return shape[0] * shape[1] >= _PAIRS and dense.density(shape) < SHARE * (1 - 1e-9)


def _rows(dense: Dense, shape: tuple[int, int], generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
    """(first post unit, weights [rows, pre]) of parts of the weight, as one draw of the whole gives them."""
    parts = rows_of(*shape) if getattr(dense.weight, "by_rows", False) else iter([range(shape[0])])
    return ((rows.start, dense.weight.draw((len(rows), shape[1]), generator)) for rows in parts)


def _drawn(dense: Dense, shape: tuple[int, int], pairs: Pairs, generator: torch.Generator) -> Tensor:
    weight, done = torch.empty(len(pairs.post)), 0
    for first, rows in _rows(dense, shape, generator):
        until = int(torch.searchsorted(pairs.post, first + len(rows)))
        post, pre = (each[done:until].long() for each in pairs)
        weight[done:until] = rows[post - first, pre]
        done = until
    return weight


def _joined(parts: Sequence[Tensor], units: list[int], empty: Tensor) -> Tensor:
    """Those parts of a list, one after the other."""
    return torch.cat([parts[unit] for unit in units]) if units else empty[:0]


_MULTIPLIES = torch.backends.mkl.is_available()  # by compressed rows, on a CPU


def _has_products(like: Tensor) -> bool:
    """Whether this build of torch multiplies by compressed rows."""
    return _MULTIPLIES or like.device.type == "cuda"


@cache
def _silence_beta_warning() -> None:
    """torch says once that compressed rows are in beta state, which is no news for whoever runs a network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.eye(2).to_sparse_csr()
