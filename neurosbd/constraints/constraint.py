"""What a constraint is."""

from collections.abc import Sequence
from itertools import combinations, product
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from neurosbd.connections.geometry import WeightAxes

S = TypeVar("S")  # its state


class Constraint(Protocol[S]):
    """A set that the weights of a connection stay in. It belongs to the connection; biases are free.

    `Network.constrain` applies it in place once after every step of the optimizer, whatever filled the gradients, and
    once when the network is made. So `apply` projects onto the set: a second time it moves nothing (but by rounding),
    it leaves alone what is within, and it looks at no value, since that would make a GPU wait. Constraints of a
    connection are applied in the order in which they are given; where two cannot be met at once, the last one holds.
    """

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Between which a weight is; one pair for every kind of synapse, infinite where there is no limit."""
        ...

    def init(self, weight: Tensor, axes: WeightAxes, generator: torch.Generator) -> S:
        """What it keeps beside the constants, a NamedTuple of tensors that the network holds and a checkpoint has.

        Args:
            weight: as the initialiser drew it, on the CPU; may be moved in place to a better start than `apply` makes
                of it: a sign is flipped, for instance, where `apply` cuts off.
            axes: which axes of the weight are whose.
            generator: source of whatever is drawn.
        Raises:
            ValueError: if it does not fit this weight.
        """
        ...

    def apply(self, state: S, weight: Tensor) -> None:
        """Bring a weight back into the set, in place. Called without autograd."""
        ...


class Nothing(NamedTuple):
    """What is kept where the constants say it all."""


class Held(NamedTuple, Generic[S]):
    """A constraint and what it keeps of one weight."""

    constraint: Constraint[S]
    state: S

    def apply(self, weight: Tensor) -> None:
        """Bring that weight back into the set, in place."""
        self.constraint.apply(self.state, weight)


def check_together(constraints: Sequence[Constraint]) -> None:
    """Refuse constraints of one connection that leave some synapse no more than one weight, and two of one kind.

    Raises:
        ValueError: with the two, and what to change.
    """
    kinds = [type(constraint).__name__ for constraint in constraints]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise ValueError(f"two constraints are {twice}; leave one of them out")
    for one, other in combinations(constraints, 2):
        for a, b in product(one.limits, other.limits):
            if max(a[0], b[0]) >= min(a[1], b[1]):
                raise ValueError(
                    f"{type(one).__name__} keeps weights in {a[0]:g}..{a[1]:g} and {type(other).__name__} in "
                    f"{b[0]:g}..{b[1]:g}, which leaves them no room to learn in; move bounds, or leave one out"
                )
