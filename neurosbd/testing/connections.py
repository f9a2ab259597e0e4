"""What every connection, pooling and initialiser keeps; the change of weights is the adjoint of the drive."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.connections import POOLINGS, Geometry
from neurosbd.connections.synapses import Synapses
from neurosbd.connections.wirings import Pairs
from neurosbd.testing.judging import Check, Make, close, demand, drawn, seeded

ENDS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (  # sizes of populations, first of maps and units
    *(((2, 6, 6), post) for post in ((7,), (5, 6, 6), (5, 3, 3), (5, 4, 4), (2, 6, 6), (72,))),
    *(((2, 6, 6), (7, 5)), ((6, 5), (7, 5)), ((6, 5), (5,))),  # and of vectors
    *(((2, 6, 6), (4, 5, *s)) for s in ((6, 6), (3, 3), (4, 4))),
    *(((2, 5, 6, 6), (4, 5, *s)) for s in ((6, 6), (3, 3))),
    ((6, 5, 1, 1), (5,)),
)


class Joined(NamedTuple):
    """A geometry between two populations, with random synapses and activity in float64."""

    geometry: Geometry
    synapses: Synapses
    x: Tensor  # [B, *pre]
    factor: Tensor  # [B, *post]


def joined(make: Make) -> Iterator[Joined]:
    """A geometry without and with a bias, and behind every pooling, as far as it has such constants."""
    geometry = make()
    fields = set(getattr(geometry, "__dataclass_fields__", ()))
    pools = [None, *POOLINGS] if "pool" in fields else [None]
    for pool in pools:
        for bias in (False, True) if "bias" in fields else (geometry.bias,):
            changes: dict[str, object] = {"bias": bias} if "bias" in fields else {}
            changes |= {"pool": POOLINGS[pool]() if pool else None} if "pool" in fields else {}
            yield from _wired(dataclasses.replace(geometry, **changes) if changes else geometry)


def _wired(geometry: Geometry) -> Iterator[Joined]:
    """Between the first sizes of every kind that a geometry can join."""
    kinds: set[tuple[int, int]] = set()  # of both ends
    for pre, post in ENDS:
        try:
            shape = geometry.weight_shape(pre, post)
        except ValueError:
            continue
        if (len(pre), len(post)) in kinds:
            continue
        kinds.add((len(pre), len(post)))
        start = geometry.start(shape, post, seeded())
        demand(start.weight.shape == shape, "`start` draws a weight of another shape than it is asked for")
        demand((start.bias is not None) == geometry.bias, "`start` has a bias where `bias` says no, or none where yes")
        synapses = Synapses(*(None if s is None else drawn(*s.shape, seed=2) for s in start))  # type: ignore[arg-type]
        yield Joined(geometry, synapses, drawn(4, *pre, seed=3), drawn(4, *post, seed=4))
    sizes = "; ".join(f"{list(pre)} onto {list(post)}" for pre, post in ENDS)
    demand(kinds, f"`weight_shape` refuses to join any of the sizes {sizes}")


def outer_is_the_adjoint_of_drive(make: Make) -> None:
    """<outer(p, x), w> = <p, drive(w, x)>. Must fail when a kernel is flipped (tried)."""
    for geometry, synapses, x, factor in joined(make):
        arriving = geometry.carry(x)
        drive = geometry.drive(synapses, arriving)
        demand(drive.shape == factor.shape, f"The drive has shape {list(drive.shape)}, not {list(factor.shape)}")
        outer = geometry.outer(synapses, factor, arriving)
        left = sum((a * b).sum() for a, b in zip(outer, synapses, strict=True) if a is not None and b is not None)
        right = (factor * drive).sum()
        close(torch.as_tensor(left), right, "`outer` is not the adjoint of `drive`", rtol=1e-10, atol=1e-10)


def outer_equals_autograd(make: Make) -> None:
    """The gradient of <p, drive(w, x)> by w. Oracle: autograd."""
    for geometry, synapses, x, factor in joined(make):
        leaves = [s.requires_grad_() for s in synapses if s is not None]
        exact = torch.autograd.grad((geometry.drive(synapses, geometry.carry(x)) * factor).sum(), leaves)
        with torch.no_grad():
            outer = geometry.outer(synapses, factor, geometry.carry(x))
        for got, want in zip([o for o in outer if o is not None], exact, strict=True):
            close(got, want, "`outer` is not the gradient of the drive by autograd", rtol=1e-10, atol=1e-12)


def back_equals_autograd(make: Make) -> None:
    """The gradient of <p, drive(w, carry(x))> by x. Oracle: autograd. Must fail when a kernel is flipped (tried)."""
    for geometry, synapses, x, factor in joined(make):
        x = x.requires_grad_()
        (exact,) = torch.autograd.grad((geometry.drive(synapses, geometry.carry(x)) * factor).sum(), x)
        with torch.no_grad():
            back = geometry.back(synapses, factor, x)
        close(back, exact, "`back` is not the gradient of the drive in its input by autograd", rtol=1e-10, atol=1e-12)


def each_adds_up_to_outer(make: Make) -> None:
    """Example by example, and on top of what there was. Must fail when `kept` is left out (tried)."""
    for geometry, synapses, x, factor in joined(make):
        arriving = geometry.carry(x)
        each = geometry.each(synapses, factor[None], arriving[None])
        outer = geometry.outer(synapses, factor, arriving).weight
        close(each.sum(0), outer, "`each`, summed over the examples, is not `outer`", rtol=1e-10, atol=1e-12)
        before = drawn(*each.shape, seed=5)
        after = geometry.each(synapses, factor[None], arriving[None], before.clone(), 0.5)
        close(after, each + 0.5 * before, "`each` does not keep the share of e that it is told to", 1e-10, 1e-12)


def axes_say_whose_each_is(make: Make) -> None:
    """Every axis of a weight is of post units, of what arrives, or of the kernel. Must fail for kernels whose rows and
    columns are nobody's (tried)."""
    for geometry, synapses, x, _ in joined(make):
        axes = geometry.axes(tuple(synapses.weight.shape), tuple(x.shape[1:]))
        if axes.pairs is None:  # a list has the units of every synapse in their place
            said = sorted((*axes.post, axes.pre, *axes.kernel))
            every = list(range(synapses.weight.dim()))
            demand(said == every, f"`axes` must say of each axis {every} whose it is, once; it names {said}")


CONNECTION_CHECKS: tuple[Check, ...] = (
    outer_is_the_adjoint_of_drive, outer_equals_autograd, back_equals_autograd, each_adds_up_to_outer,
    axes_say_whose_each_is,
)  # fmt: skip


def check_connection(make: Make) -> None:
    """Everything that the contract of a connection promises; see `check_neuron`."""
    for check in CONNECTION_CHECKS:
        check(make)


def pooling_says_its_size(make: Make) -> None:
    """What it makes of a map has the size that it says, and an example alone is pooled as in a batch."""
    pooling, value = make(), drawn(2, 3, 9, 7)
    pooled = pooling.pool(value)
    sentence = f"A map [3, 9, 7] is pooled to {list(pooled.shape[1:])}, but `size` says {pooling.size((3, 9, 7))}"
    demand(pooled.shape[1:] == pooling.size((3, 9, 7)), sentence)
    close(pooling.pool(value[1:]), pooled[1:], "An example alone is pooled in another way than in a batch")


def initialiser_draws_from_its_generator(make: Make) -> None:
    """The same weights for the same seed, float32, of the shape that is asked for; a matrix may be refused."""
    for shape in ((3, 4), (4, 2, 3, 3)):
        try:
            one, two = (make().draw(shape, seeded(5)) for _ in range(2))
        except ValueError:  # says why a matrix cannot be
            demand(len(shape) == 2, "Kernels [post, pre, kernel, kernel] must be drawn")
            continue
        demand(
            torch.equal(one, two), "Two draws of the same seed differ; randomness must come from the generator alone"
        )
        demand(one.dtype == torch.float32 and one.shape == shape, f"The weights must be float32 {list(shape)}")


def wiring_joins_a_pair_once(make: Make) -> None:
    """In order, the same pairs for the same seed, units that are there, and no unit itself without autapses."""
    for post, pre, autapses in ((36, 36, True), (36, 36, False), (36, 64, True)):
        try:
            one, two = (make().draw(post, pre, autapses, seeded(5)) for _ in range(2))
        except ValueError:  # says why so many cannot be wired
            continue
        same = all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        demand(same, "Two draws of the same seed differ; randomness must come from the generator alone")
        demand(
            isinstance(one, Pairs) and one.post.shape == one.pre.shape, "`draw` must give Pairs(post, pre), [n] each"
        )
        if len(one.post):
            there = bool(min(*one.post, *one.pre) >= 0 and one.post.max() < post and one.pre.max() < pre)
            demand(there, f"It joins units that are not there, of {pre} onto {post}")
        flat = one.post * pre + one.pre
        demand(bool((flat.diff() > 0).all()), "Pairs must come in order, post unit by post unit, each once")
        demand(autapses or not bool((one.post == one.pre).any()), "A unit reaches itself, though autapses = false")


POOLING_CHECKS: tuple[Check, ...] = (pooling_says_its_size,)
INITIALISER_CHECKS: tuple[Check, ...] = (initialiser_draws_from_its_generator,)
WIRING_CHECKS: tuple[Check, ...] = (wiring_joins_a_pair_once,)


def check_pooling(make: Make) -> None:
    """Everything that the contract of a pooling promises; see `check_neuron`."""
    for check in POOLING_CHECKS:
        check(make)


def check_initialiser(make: Make) -> None:
    """Everything that the contract of an initialiser promises; see `check_neuron`."""
    for check in INITIALISER_CHECKS:
        check(make)


def check_wiring(make: Make) -> None:
    """Everything that the contract of a wiring promises; see `check_neuron`."""
    for check in WIRING_CHECKS:
        check(make)
