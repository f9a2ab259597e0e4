"""What every constraint keeps: a projection in place, whatever the weight looks like."""

from collections.abc import Iterator

import torch
from torch import Tensor

from neurosbd.connections import Conv2d, Dense, Geometry, Local2d, Vector
from neurosbd.connections.geometry import WeightAxes
from neurosbd.constraints import Constraint
from neurosbd.testing.judging import Check, Make, close, demand, drawn, identical, no_values, seeded

PRE = (2, 6, 6)
WIRINGS: tuple[tuple[Geometry, tuple[int, ...]], ...] = (
    (Dense(), (7,)), (Conv2d(3, padding=1), (5, 6, 6)), (Local2d(3, padding=1), (5, 6, 6)), (Vector(), (7, 5)),
)  # fmt: skip


def _weights(dtype: torch.dtype) -> Iterator[tuple[Tensor, WeightAxes]]:
    """A weight of both signs of every shipped geometry, laid out as that lays it out."""
    for geometry, post in WIRINGS:
        shape = geometry.weight_shape(PRE, post)
        weight = geometry.start(shape, post, seeded()).weight.to(dtype)
        yield weight.copy_(drawn(*shape, seed=1)), geometry.axes(shape, PRE)


def _another(weight: Tensor) -> Tensor:
    return torch.empty_like(weight).copy_(drawn(*weight.shape, seed=2))


def constraint_is_a_projection_in_place(make: Make) -> None:
    """A second time it moves nothing but by rounding."""
    for dtype in (torch.float32, torch.float64):
        for weight, axes in _weights(dtype):
            constraint = make()
            state = constraint.init(weight, axes, seeded())
            kept, moved = [value.clone() for value in state], _another(weight)
            there, stride = moved.data_ptr(), moved.stride()
            demand(constraint.apply(state, moved) is None, "`apply` returns something; it must work in place alone")
            demand(
                moved.data_ptr() == there and moved.stride() == stride, "`apply` must leave the weight where it lies"
            )
            demand(torch.isfinite(moved).all(), "`apply` makes weights that are not finite")
            again = moved.clone()
            constraint.apply(state, again)
            tolerance = 1e-5 if dtype == torch.float32 else 1e-12
            close(again, moved, "A second `apply` moves what the first one has left", tolerance, tolerance)
            for before, after in zip(kept, state, strict=True):
                identical(before, after, "`apply` changes what the constraint keeps")
            _within(constraint, moved)


def _within(constraint: Constraint, weight: Tensor) -> None:
    low, high = (pick(limit[side] for limit in constraint.limits) for side, pick in ((0, min), (1, max)))
    demand(bool((weight >= low).all() and (weight <= high).all()), "`apply` leaves weights outside of `limits`")


def initial_weights_obey(make: Make) -> None:
    """After `init` and `apply`, in every geometry, the same for the same seed; some weight is left to learn with."""
    for weight, axes in _weights(torch.float32):
        constraint, other = make(), weight.clone()
        state, same = (constraint.init(each, axes, seeded()) for each in (weight, other))
        identical(weight, other, "Two starts of the same seed move the weights in two ways")
        for one, two in zip(state, same, strict=True):
            identical(one, two, "Two starts of the same seed keep different things")
        constraint.apply(state, weight)
        demand(weight.any(), "No initial weight is left that is not 0")


def constraint_looks_at_no_value(make: Make) -> None:
    """Tensors without data tell."""
    for weight, axes in _weights(torch.float32):
        constraint = make()
        state = constraint.init(weight, axes, seeded())
        with no_values("constraint"):
            constraint.apply(type(state)(*(value.to("meta") for value in state)), weight.to("meta"))


CONSTRAINT_CHECKS: tuple[Check, ...] = (
    constraint_is_a_projection_in_place, initial_weights_obey, constraint_looks_at_no_value,
)  # fmt: skip


def check_constraint(make: Make) -> None:
    """Everything that the contract of a constraint promises; see `check_neuron`."""
    for check in CONSTRAINT_CHECKS:
        check(make)
