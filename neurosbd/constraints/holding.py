"""How the weight of a connection obeys all its constraints together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosbd.connections.geometry import WeightAxes
from neurosbd.constraints.constraint import Constraint, Held
from neurosbd.constraints.mask import Mask
from neurosbd.errors import UsageError, warn


def with_mask(constraints: Sequence[Constraint], present: Tensor | None) -> tuple[Constraint, ...]:
    """Constraints of a connection with the mask of its geometry, if that has one: first, and one with a given mask."""
    masks = [constraint for constraint in constraints if isinstance(constraint, Mask)]
    others = tuple(constraint for constraint in constraints if not isinstance(constraint, Mask))
    given = masks[0].present if masks else None
    if present is None or (given is not None and given.shape != present.shape):  # the second is refused by `hold`
        return (*masks, *others)
    return (Mask(present if given is None else present * given), *others)


def change_mask(mask: Tensor | None, present: Tensor, where: str) -> None:
    """Change which synapses a mask has, in its place.

    Args:
        mask: of a connection; None: it has none.
        present: 1 or True where there shall be a synapse.
        where: begins the message.
    Raises:
        UsageError: if there is no mask, or `present` does not fit; nothing has changed.
    """
    if mask is None:
        raise UsageError(f"{where} has no mask to prune; give it constraints = (neurosbd.constraints['mask'](),)")
    try:
        mask.copy_(Mask(present).like(mask))
    except ValueError as problem:
        raise UsageError(f"{where}: {problem}") from None


def buffer_name(connection: str, number: int, constraint: Constraint, field: str) -> str:
    """Name of what a constraint keeps. That of a mask is older than other constraints, and checkpoints know it."""
    return f"present:{connection}" if isinstance(constraint, Mask) else f"constraint:{connection}:{number}:{field}"


def hold(
    constraints: Sequence[Constraint], weight: Tensor, axes: WeightAxes, generator: torch.Generator, where: str
) -> list[Held]:
    """Let a new weight obey, in place; warns if it starts outside of what a constraint allows.

    Args:
        constraints: in their order, a mask first.
        weight: as drawn; keeps its place in memory.
        axes: which axes of the weight are whose.
        generator: source of whatever they draw.
        where: the connection, in messages.
    Raises:
        ValueError: if a constraint does not fit the weight.
    """
    held: list[Held] = []
    for constraint in constraints:
        try:
            held.append(Held(constraint, constraint.init(weight, axes, generator)))
        except ValueError as problem:
            raise ValueError(f"{where}: {problem}") from None
        before = weight.clone()
        obey(weight, held[-1:], _present(held))
        moved = int((~torch.isclose(weight, before)).sum())
        if moved and not isinstance(constraint, Mask):
            warn(
                f"{where}: {moved:,} of {weight.numel():,} initial weights were outside of what "
                f"{type(constraint).__name__} allows and start at its edge; choose an initialiser whose weights lie "
                f"within, or another constraint",
                stacklevel=6,
            )
    return held


def obey(weight: Tensor, constraints: Sequence[Held], present: Tensor | None) -> None:
    """Apply constraints one after the other, in place. What one of them makes of absent synapses is undone at once, so
    that the next does not count it.

    Args:
        weight: of a connection.
        constraints: its own, a mask among them, and others besides.
        present: 1 where there is a synapse, 0 where not; None: all are there.
    """
    for held in constraints:
        held.apply(weight)
        if present is not None and not isinstance(held.constraint, Mask):
            weight.mul_(present)


def _present(held: Sequence[Held]) -> Tensor | None:
    return next((h.state.present for h in held if isinstance(h.constraint, Mask)), None)
