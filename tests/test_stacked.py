"""Connections of several networks as one product: each gets what its own geometry gives it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.connections import Conv2d, Dense, Local2d
from neurosbd.connections.pooling import AveragePool, MaxPool
from neurosbd.connections.stacked import STACKED, in_rows, side_by_side
from neurosbd.connections.synapses import Synapses

NETWORKS, EXAMPLES, STEPS = 3, 4, 2
PRE = (2, 8, 8)
CASES: list[tuple[Any, tuple[int, ...]]] = [
    (Dense(bias=True), (5,)),
    (Dense(pool=MaxPool()), (5,)),
    (Conv2d(3, bias=True), (4, 6, 6)),
    (Conv2d(3, stride=2, padding=1, pool=AveragePool()), (4, 2, 2)),
    (Conv2d(3, bias=True, pool_drive=MaxPool()), (4, 3, 3)),
    (Local2d(3, bias=True, padding=1), (4, 8, 8)),
    (Local2d(3, stride=2, pool=MaxPool()), (4, 1, 1)),
    (Local2d(3, bias=True, pool_drive=MaxPool()), (4, 3, 3)),
]


def stacked(one: Any, post: tuple[int, ...]) -> tuple[Any, list[Synapses], Synapses]:
    """The geometry of all networks, the synapses of each, and those of all."""
    generator, geometry = torch.Generator().manual_seed(0), STACKED[type(one)](one, NETWORKS)
    shape = geometry.weight_shape(PRE, post)
    weight, bias = geometry.start(shape, post, generator)
    together = Synapses(weight.double(), None if bias is None else bias.double().normal_(generator=generator))
    own = [Synapses(w, None if together.bias is None else together.bias[s]) for s, w in enumerate(together.weight)]
    return geometry, own, together


def rows(*size: int, seed: int = 1) -> Tensor:
    """Activity of all networks."""
    return torch.randn(EXAMPLES * NETWORKS, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(found: Tensor, each: list[Tensor]) -> bool:
    """Whether something of every network is what each gives."""
    return torch.allclose(found, torch.stack(each), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("one", "post"), CASES, ids=[repr(one)[:40] for one, _ in CASES])
def test_each_network_gets_what_it_gets_alone(one: Any, post: tuple[int, ...]) -> None:
    """Drive, outer, back, and the outer of every example, to 1e-12. Must fail when networks and examples, or networks
    and channels, change places (both tried)."""
    geometry, own, together = stacked(one, post)
    value, factor = rows(*PRE), rows(*post, seed=2)
    values, factors = (side_by_side(part, NETWORKS) for part in (value, factor))
    arriving = geometry.carry(value)
    carried = [one.carry(part) for part in values]
    drives = [one.drive(w, x) for w, x in zip(own, carried, strict=True)]
    assert same(side_by_side(geometry.drive(together, arriving), NETWORKS), drives)
    outer = geometry.outer(together, factor, arriving)
    outers = [one.outer(w, p, x) for w, p, x in zip(own, factors, carried, strict=True)]
    assert outer.weight.stride() == together.weight.stride()
    assert same(outer.weight, [each.weight for each in outers])
    assert outer.bias is None or same(outer.bias, [each.bias for each in outers if each.bias is not None])
    backs = [one.back(w, p, v) for w, p, v in zip(own, factors, values, strict=True)]
    assert same(side_by_side(geometry.back(together, factor, value), NETWORKS), backs)
    steps = [(factor * k, arriving + k) for k in range(1, STEPS + 1)]
    posts, pres = (torch.stack(part) for part in zip(*steps, strict=True))
    apart = [one.each(w, posts[:, s::NETWORKS], pres[:, s::NETWORKS]) for s, w in enumerate(own)]
    assert same(side_by_side(geometry.each(together, posts, pres), NETWORKS), apart)


@pytest.mark.parametrize(("one", "post"), CASES, ids=[repr(one)[:40] for one, _ in CASES])
def test_what_is_known_of_a_weight_holds_for_all(one: Any, post: tuple[int, ...]) -> None:
    """Axes, and the gradient of autograd, which goes by the drive alone."""
    geometry, _, together = stacked(one, post)
    shape, plain = tuple(together.weight.shape), one.axes(tuple(together.weight.shape[1:]), PRE)
    found = geometry.axes(shape, PRE)
    assert [shape[axis] for axis in found.post] == [NETWORKS, *(shape[1:][axis] for axis in plain.post)]
    assert shape[found.pre] == shape[1:][plain.pre] and found.positions == plain.positions
    assert geometry.multiplications(shape, PRE) == NETWORKS * one.multiplications(shape[1:], PRE)
    weight, factor, arriving = together.weight.requires_grad_(), rows(*post, seed=2), geometry.carry(rows(*PRE))
    (geometry.drive(together, arriving) * factor).sum().backward()
    with torch.no_grad():
        outer = geometry.outer(together, factor, arriving).weight
    assert weight.grad is not None and torch.allclose(weight.grad, outer, rtol=1e-12, atol=1e-12)


def test_rows_come_back() -> None:
    values = rows(3)
    assert torch.equal(in_rows(side_by_side(values, NETWORKS)), values)
