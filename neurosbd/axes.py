"""The axes of a population: the first numbers its units (of a map: channels), the others what each of them has several
of, positions or components.

An activity is a tensor [B, *size]. This is the only module that asks one for its number of axes.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

AxisName = Literal["units", "components", "channels", "height", "width"]
UNITS: tuple[AxisName, ...] = ("units",)
VECTORS: tuple[AxisName, ...] = ("units", "components")
MAP: tuple[AxisName, ...] = ("channels", "height", "width")
VECTOR_MAP: tuple[AxisName, ...] = ("channels", "components", "height", "width")
LEGAL = (UNITS, VECTORS, MAP, VECTOR_MAP)
DEFAULTS: dict[int, tuple[AxisName, ...]] = {1: UNITS, 3: MAP}  # by the length of a size


class Axes(NamedTuple):
    """The axes of one population, in their order behind that of the batch."""

    names: tuple[AxisName, ...]
    size: tuple[int, ...]

    @property
    def units(self) -> int:
        """How many units there are; of a map, channels: a norm, a threshold or a kernel belongs to one of them."""
        return self.size[0]

    @property
    def places(self) -> int:
        """How many positions or components each unit has; 1: it is a single value."""
        return math.prod(self.size[1:])

    @property
    def neurons(self) -> int:
        """How many neurons there are: a channel has one at every position, a vector is the value of one."""
        return math.prod(self.size) // (self.size[1] if self.is_vectors else 1)

    @property
    def is_map(self) -> bool:
        """Whether units are channels, which have a value at every position."""
        return self.names == MAP

    @property
    def is_vectors(self) -> bool:
        """Whether the value of a unit is a vector; of a map of vectors, at every position."""
        return "components" in self.names

    def silence(self, like: Tensor, rows: int) -> Tensor:
        """Zeros [rows, *size] of the kind of `like`; of a map channels-last in memory, as convolutions drive it."""
        if not self.is_map:
            return like.new_zeros((rows, *self.size))
        channels, height, width = self.size
        return like.new_zeros((rows, height, width, channels)).permute(0, 3, 1, 2)

    def __str__(self) -> str:
        return " x ".join(f"{length} {name}" for name, length in zip(self.names, self.size, strict=True))


def named(size: tuple[int, ...], names: Sequence[str] | None = None) -> Axes:
    """The axes of a population.

    Args:
        size: length of each.
        names: one of LEGAL; None: those of a size so long.
    Raises:
        ValueError: if these are no axes of a population, or are not as many as the size is long.

    >>> str(named((3, 8, 8)))
    '3 channels x 8 height x 8 width'
    >>> named((100, 10), ["units", "components"]).places
    10
    """
    legal = " or ".join(str(list(names)) for names in LEGAL)
    if names is None:
        if len(size) not in DEFAULTS:
            vectors = {2: VECTORS, 4: VECTOR_MAP}.get(len(size))
            quoted = ", ".join(f'"{name}"' for name in vectors or ())
            hint = f"name them if they are vectors, axes = [{quoted}]" if vectors else "reshape them"
            raise ValueError(
                f"a size of {len(size)} numbers, {list(size)}, says nothing of what they count; legal are [units] and "
                f"[channels, height, width]; {hint}"
            )
        return Axes(DEFAULTS[len(size)], size)
    found = next((axes for axes in LEGAL if axes == tuple(names)), None)
    if found is None:
        raise ValueError(f"its axes must be {legal}, got {list(names)}")
    if len(found) != len(size):
        raise ValueError(f"its axes are {list(names)}, but its size has {len(size)} numbers: {list(size)}")
    return Axes(found, size)


def is_map(value: Tensor) -> bool:
    """Whether an activity [B, *size] is that of a map."""
    return value.dim() == 1 + len(MAP)


def components(value: Tensor) -> tuple[int, ...]:
    """The axis of an activity [B, *size] that numbers the components of a unit, if it has any."""
    return (2,) if value.dim() in (1 + len(VECTORS), 1 + len(VECTOR_MAP)) else ()


def per_component(values: Tensor, like: Tensor) -> Tensor:
    """One value per example and component, [B, components], as every unit of `like` [B, *size] has it; a view."""
    return values.view(len(values), 1, -1, *(1,) * (like.dim() - 3)).expand(like.shape)


def inner(value: Tensor) -> tuple[int, ...]:
    """Axes of an activity [B, *size] that number the positions or components of a unit."""
    return tuple(range(2, value.dim()))


def whole(value: Tensor) -> tuple[int, ...]:
    """Axes of an activity [B, *size] that number all values of an example."""
    return tuple(range(1, value.dim()))


def per_unit(values: Tensor, like: Tensor) -> Tensor:
    """One value per unit, [units], so that it goes with every position and component of `like` [B, *size]."""
    return values.view(-1, *(1,) * (like.dim() - 2))


def sum_per_unit(value: Tensor) -> Tensor:
    """Over the examples of an activity [B, *size] and over what each unit has several of, [units]."""
    return value.sum((0, *inner(value)))


def values_per_unit(value: Tensor) -> int:
    """How many values that is: B, times the positions or components."""
    return value.numel() // value.shape[1]


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """One value per example, [B] or [B, 1], so that it goes with every unit of `like` [B, *size]."""
    return values.view(-1, *(1,) * (like.dim() - 1))
