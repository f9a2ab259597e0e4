"""Wirings: which pairs of units a connection joins, drawn by name from an explicit generator, always on the CPU.

A pair is joined once at most. Several synapses of one pair are several connections, each with a label.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from neurosbd.files.arrays import shaped
from neurosbd.schema.constants import Count, Fraction, Positive, constants

_AT_ONCE = 2**24  # pairs that are drawn at once


class Pairs(NamedTuple):
    """The pairs that are joined, in the order of their post units, and of one post unit in that of its pre units."""

    post: Tensor  # number of each post unit, int64 [n]
    pre: Tensor  # number of each pre unit, int64 [n]


class Wiring(Protocol):
    """Which pre units reach which post units."""

    def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> Pairs:
        """Pairs of so many post and pre units, from `generator` alone.

        Args:
            post, pre: how many units there are on either side, >= 1.
            autapses: whether unit n may reach unit n; else both sides are one population, and it does not.
            generator: source of whatever is drawn.
        Raises:
            ValueError: if so many units cannot be wired so; with the numbers and what to change.
        """
        ...

    def density(self, post: int, pre: int) -> float:
        """Share of the pairs that are joined, as far as it is known before they are drawn."""
        ...


@constants
class Indegree:
    """Every post unit is reached by the same number of pre units, drawn without putting any back.

    Args:
        count: synapses onto one unit, >= 1.
    Raises:
        ValueError: if there are fewer pre units.
    Source: Brunel 2000, J. Comput. Neurosci. 8:183; NEST's `fixed_indegree` with `allow_multapses = False`.
    """

    count: Count = 10

    def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> Pairs:
        """`count` pre units each."""
        _check_degree("indegree", self.count, pre, "pre", autapses)
        return Pairs(*_chosen(post, pre, self.count, autapses, generator))

    def density(self, post: int, pre: int) -> float:
        """`count` of the pre units."""
        return self.count / pre


@constants
class Outdegree:
    """Every pre unit reaches the same number of post units, drawn without putting any back.

    Args:
        count: synapses from one unit, >= 1.
    Raises:
        ValueError: if there are fewer post units.
    Source: NEST's `fixed_outdegree` with `allow_multapses = False`.
    """

    count: Count = 10

    def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> Pairs:
        """`count` post units each."""
        _check_degree("outdegree", self.count, post, "post", autapses)
        sources, targets = _chosen(pre, post, self.count, autapses, generator)
        order = torch.argsort(targets, stable=True)
        return Pairs(targets[order], sources[order])

    def density(self, post: int, pre: int) -> float:
        """`count` of the post units."""
        return self.count / post


@dataclass(frozen=True)
class OneToOne:
    """Unit n reaches unit n, and no other.

    Source: standard; NEST's and PyNN's one-to-one.
    """

    def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> Pairs:
        """The pairs (n, n); nothing is drawn."""
        if post != pre:
            raise ValueError(
                f"one_to_one joins populations of one size, got {pre:,} units onto {post:,}; make them alike, or take "
                f"the wiring 'indegree' with count = 1"
            )
        if not autapses:
            raise ValueError("one_to_one without autapses joins nobody; leave out one of the two")
        return Pairs(torch.arange(post), torch.arange(pre))

    def density(self, post: int, pre: int) -> float:
        """One of the pre units."""
        return 1 / pre


@dataclass(frozen=True)
class OneToOthers:
    """Unit n reaches all units but unit n: lateral inhibition by way of units that are joined one to one.

    Source: Diehl, Cook 2015, Front. Comput. Neurosci. 9:99, section 2.3.
    """

    def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> Pairs:
        """The pairs (n, m), n not m; nothing is drawn."""
        if post != pre or post < 2:
            raise ValueError(
                f"one_to_others joins populations of one size, of two units or more, got {pre:,} units onto {post:,}; "
                f"make them alike, or leave the wiring out to join all pairs"
            )
        return Pairs(*(~torch.eye(post, dtype=torch.bool)).nonzero().unbind(1))

    def density(self, post: int, pre: int) -> float:
        """All but one of the pre units."""
        return 1 - 1 / pre


@constants
class Distance:
    """Each pair is joined with a probability that falls with the distance of its units.

        gaussian:      peak exp(-d^2 / (2 width^2))
        exponential:   peak exp(-d / width)

    Both populations lie in one space, whose side or circumference is 1, evenly and in the order of their numbers.

    Args:
        width: how far connections reach, in units of the space, > 0.
        peak: probability at distance 0, 0..1.
        profile: 'gaussian' or 'exponential'.
        space: 'ring': unit n of N lies at n / N of a circle; 'grid': row by row on a square; 'torus': the same, whose
            opposite edges touch.
    Raises:
        ValueError: if a constant is out of range, or units that lie on a square are no square number.
    Source: Mehring, Hehl, Kubo, Diesmann, Aertsen 2003, Biol. Cybern. 88:395 (gaussian); Perin, Berger, Markram 2011,
        PNAS 108:5419 (probability falls with distance); NEST's spatial profiles of these names.
    """

    width: Positive = 0.1
    peak: Fraction = 1.0
    profile: Literal["gaussian", "exponential"] = "gaussian"
    space: Literal["ring", "grid", "torus"] = "ring"

    def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> Pairs:
        """Every pair by itself."""
        there, here = self.places(post), self.places(pre)

        def joined(rows: range) -> Tensor:
            probability = self.probability(self._apart(there[rows.start : rows.stop], here))
            return torch.rand(len(rows), pre, generator=generator) < probability

        return _pairs(post, pre, autapses, joined)

    def density(self, post: int, pre: int) -> float:
        """Mean probability of the synapses onto some of the post units."""
        there = self.places(post)[:: max(post // 64, 1)]
        return self.probability(self._apart(there, self.places(pre))).mean().item()

    def places(self, units: int) -> Tensor:
        """Where so many units lie, [units, 1] or [units, 2]."""
        if self.space == "ring":
            return (torch.arange(units) / units)[:, None]
        side = math.isqrt(units)
        if side * side != units:
            raise ValueError(
                f"units on a {self.space} must be a square number, got {units:,}; make it {side * side:,} or "
                f"{(side + 1) ** 2:,}, or take space = 'ring'"
            )
        along = torch.arange(side) / side
        return torch.cartesian_prod(along, along)

    def probability(self, distance: Tensor) -> Tensor:
        """By distance, of that shape."""
        reach = distance / self.width
        return self.peak * torch.exp(-reach if self.profile == "exponential" else -0.5 * reach.square())

    def _apart(self, there: Tensor, here: Tensor) -> Tensor:
        """Distance of every place from every other, [post, pre]."""
        along = (there[:, None] - here).abs()
        return (along if self.space == "grid" else torch.minimum(along, 1 - along)).square().sum(-1).sqrt()


def by_chance(post: int, pre: int, sparsity: float, autapses: bool, generator: torch.Generator) -> Pairs:
    """Each pair is joined with probability 1 - sparsity, by the same draws as `sparse_mask` makes."""

    def joined(rows: range) -> Tensor:
        if not sparsity:
            return torch.ones(len(rows), pre, dtype=torch.bool)
        return torch.rand(len(rows), pre, generator=generator) >= sparsity

    return _pairs(post, pre, autapses, joined)


def rows_of(post: int, pre: int) -> Iterator[range]:
    """Post units whose pairs are looked at together, in multiples of 16: random numbers are drawn 16 at a time, so that
    those of the parts are those of the whole."""
    several = max(_AT_ONCE // pre // 16, 1) * 16
    return (range(first, min(first + several, post)) for first in range(0, post, several))


def _check_degree(what: str, count: int, units: int, side: str, autapses: bool) -> None:
    there = units if autapses else units - 1
    if count > there:
        others = "" if autapses else " others, as autapses = false"
        raise ValueError(
            f"{what}: {count:,} different {side} units are to be drawn out of {there:,}{others}; take count = "
            f"{there:,} or less, or a larger population"
        )


def _chosen(units: int, others: int, count: int, autapses: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each of so many units `count` of the others, in order: (units, others), [units count] each."""
    found = []
    for rows in rows_of(units, others):
        lots = torch.rand(len(rows), others, generator=generator)
        if not autapses:
            lots.diagonal(rows.start).fill_(-1)
        found.append(lots.topk(count).indices.sort().values)
    return torch.arange(units).repeat_interleave(count), torch.cat(found).flatten()


def _pairs(post: int, pre: int, autapses: bool, joined: Callable[[range], Tensor]) -> Pairs:
    """Those of which `joined` is true, [rows, pre]."""
    found = []
    for rows in rows_of(post, pre):
        there = joined(rows)
        if not autapses:
            there.diagonal(rows.start).fill_(False)
        found.append(there.nonzero() + torch.tensor([rows.start, 0]))
    pairs = torch.cat(found)
    return Pairs(pairs[:, 0].contiguous(), pairs[:, 1].contiguous())


@constants(called="file")
class WiringFromFile:
    """Pairs are joined where the array of a file is not 0.

    Args:
        file: .npy or .npz, [post, pre].
        array: which one of an .npz that has several.
    Raises:
        UsageError: when they are asked for, if there is no such file, or it does not fit.
        ValueError: if a unit would reach itself, though it shall not.
    Source: standard.
    """

    file: str = ""
    array: str = ""

    def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> Pairs:
        """Where it is not 0; nothing is drawn."""
        joined = torch.from_numpy(shaped(self.file, self.array, (post, pre), "[post, pre]") != 0)
        if not autapses and joined.diagonal().any():
            raise ValueError(
                f"{self.file}: joins unit {int(joined.diagonal().nonzero()[0])} with itself, but autapses = false; "
                f"leave out one of the two"
            )
        return Pairs(*joined.nonzero().unbind(1))

    def density(self, post: int, pre: int) -> float:
        """Share of the array that is not 0."""
        return float((shaped(self.file, self.array, (post, pre), "[post, pre]") != 0).mean())


WIRINGS: dict[str, Callable[..., Wiring]] = {
    "indegree": Indegree,
    "outdegree": Outdegree,
    "one_to_one": OneToOne,
    "one_to_others": OneToOthers,
    "distance": Distance,
    "file": WiringFromFile,
}
