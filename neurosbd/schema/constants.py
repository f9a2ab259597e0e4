"""Records of constants that check themselves: each is of the kind and in the range that its field declares.

Constants come from files, where the schema reads the same declarations, and from Python, where nobody else looks:
integers, numpy scalars, tensors, text and truth values all reach the same field.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Protocol, TypeVar, dataclass_transform, get_type_hints, overload, runtime_checkable

import torch
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from torch import Tensor

from neurosbd.schema.kinds import Hint, Mark, taken, violation
from neurosbd.schema.units import quantity

T = TypeVar("T")


@runtime_checkable
class Distribution(Protocol):
    """Something that a per-neuron constant can be drawn from."""

    @property
    def least(self) -> float:
        """No draw is below it."""
        ...

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Values of `shape`, float32, from `generator` alone."""
        ...


Constant = float | Tensor | Distribution  # one number, one per unit, or what they are drawn from


@dataclass(frozen=True)
class Legal:
    """What a constant must be besides of its kind: `Annotated[int, Legal("odd", lambda n: n % 2 == 1)]`.

    Args:
        text: ends 'must be ...', in messages and in `neurosbd show`.
        admits: whether a value of the declared kind is legal. None and 'auto', say, are never asked for.
        hint: ends the message.
    """

    text: str
    admits: Callable[[Any], bool]
    hint: str = ""

    def read(self, value: object, /) -> object:
        """As it is: what a text means, its type says."""
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _schema_of(self, handler(source))


@dataclass(frozen=True)
class Range:
    """Which numbers a constant may be, and its unit: `rate: Annotated[float, Range(above=0, unit="Hz")]`.

    A tensor or list is legal if all its numbers are, a distribution if whatever it draws is.

    Args:
        above, least: lower bound, itself excluded or included.
        below, most: upper bound, likewise.
        unit: 's', 'Hz', 'V', ...; '' for none.
        hint: ends the message.

    >>> Range(above=0, unit="s").text, Range(least=0, most=1).text, Range(least=0, below=1).text
    ('a positive time in s', 'in 0..1', 'at least 0 and below 1')
    """

    above: float = -math.inf
    least: float = -math.inf
    below: float = math.inf
    most: float = math.inf
    unit: str = ""
    hint: str = ""

    def admits(self, value: object, /) -> bool:
        """Whether a number, all numbers of a tensor or list, or all draws of a distribution are in it."""
        if isinstance(value, str):
            return True  # another kind, which the type allows or not
        low, high = _extremes(value)
        return (
            (self.above < low or math.isinf(self.above))
            and self.least <= low
            and (high < self.below or math.isinf(self.below))
            and high <= self.most
        )

    def read(self, value: object, /) -> object:
        """A text with a unit as the number in the unit of the constant, also those in a list or a distribution.

        Raises:
            ValueError: if the unit is unknown, or of another dimension.

        >>> Range(unit="s").read("20 ms"), Range(unit="s").read(["1 ms", 2])
        (0.02, [0.001, 2])
        """
        if isinstance(value, str):
            number = quantity(value, self.unit)
            return value if number is None else number
        if isinstance(value, list | tuple) and any(isinstance(item, str) for item in value):
            return type(value)(self.read(item) for item in value)
        if isinstance(value, Mapping):
            return {key: item if key == "kind" else self.read(item) for key, item in value.items()}
        return value

    @property
    def text(self) -> str:
        """What the constant must be."""
        noun = _NOUNS.get(self.unit) or f"value in {self.unit}"
        bounds = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
        finite = {name: _figure(bound) for name, bound in bounds.items() if math.isfinite(bound)}
        if finite in ({}, {"above": "0"}, {"at least": "0"}):
            return f"a positive {noun}" if self.above == 0 else f"a {noun}" + " >= 0" * len(finite)
        unit = f" {self.unit}" if self.unit else ""
        if list(finite) == ["at least", "at most"]:
            return f"in {finite['at least']}..{finite['at most']}{unit}"
        return " and ".join(f"{name} {bound}{unit}" for name, bound in finite.items())

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _schema_of(self, handler(source))


_NOUNS = {"": "number", "s": "time in s", "Hz": "rate in Hz", "steps": "number of steps"}
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(least=0)]
Fraction = Annotated[float, Range(least=0, most=1)]
Share = Annotated[float, Range(least=0, below=1)]
Seconds = Annotated[float, Range(above=0, unit="s")]
NotNegativeSeconds = Annotated[float, Range(least=0, unit="s")]
Hertz = Annotated[float, Range(above=0, unit="Hz")]
NotNegativeHertz = Annotated[float, Range(least=0, unit="Hz")]
PositiveConstant = Annotated[Constant, Range(above=0)]
TimeConstant = Annotated[Constant, Range(above=0, unit="s")]
Potential = Annotated[Constant, Range(unit="V")]  # or thresholds, of a bare number
Volts = Annotated[float, Range(unit="V")]
Conductance = Annotated[Constant, Range(above=0, unit="S")]
Count = Annotated[int, Range(least=1)]
Whole = Annotated[int, Range(least=0)]


def _figure(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:.10g}"


def _extremes(value: object) -> tuple[float, float]:
    """Smallest and largest number of a constant; of a distribution, which has no largest, the smallest twice."""
    if isinstance(value, float | int):
        return value, value
    if isinstance(value, Distribution):
        return value.least, value.least
    numbers_ = torch.as_tensor(value, dtype=torch.float64)
    return numbers_.min().item(), numbers_.max().item()


def _schema_of(mark: Mark, inner: CoreSchema) -> CoreSchema:
    """How a configuration file reads what is marked: as `inner`, and then like the dataclass."""

    def legal(value: T) -> T:
        if problem := violation(value, mark):
            raise ValueError(f"must be {problem}")
        return value

    checked = core_schema.no_info_after_validator_function(legal, inner)
    return core_schema.no_info_before_validator_function(mark.read, checked)


@overload
def constants(made: type[T], /) -> type[T]: ...
@overload
def constants(*, called: str) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def constants(made: type[T] | None = None, /, *, called: str = "") -> type[T] | Callable[[type[T]], type[T]]:
    """A frozen dataclass whose constants check themselves when it is made, before its `__post_init__`.

    A float is a finite number or the field's own default (which may be infinite): int, float, numpy scalar, or a tensor
    or array without axes; it is kept as a Python float. An int is a whole number. Where the field takes a tensor, a
    list, tuple or array of finite numbers will do. Truth values and text are never numbers. Ranges are declared with
    the type: `tau: Seconds`, `c50: Annotated[float, Range(above=0, most=1)]`. What is illegal is a ValueError with the
    field, what it takes and what was given. `__post_init__` is left to what relates two constants.

    Args:
        made: the class.
        called: what messages call it; '' for its name.

    >>> @constants(called="leak")
    ... class Leak:
    ...     tau: Seconds
    ...     shares: tuple[Fraction, ...] = ()
    >>> Leak(torch.tensor(2)).tau
    2.0
    >>> Leak("20e-3")
    Traceback (most recent call last):
    ValueError: leak.tau must be a finite number, got '20e-3' (text; leave out the quotes)
    >>> Leak(0)
    Traceback (most recent call last):
    ValueError: leak.tau must be a positive time in s, got 0.0
    >>> Leak(1, [0.5, 2])
    Traceback (most recent call last):
    ValueError: leak.shares[1] must be in 0..1, got 2.0
    """

    def checking(cls: type[T]) -> type[T]:
        relations = getattr(cls, "__post_init__", None)
        name = called or cls.__name__

        def check(owner: T) -> None:
            _check(owner, name)
            if relations is not None:
                relations(owner)

        cls.__post_init__ = check  # type: ignore[attr-defined]
        return dataclass(frozen=True)(cls)

    return checking if made is None else checking(made)


def positive(value: object, name: str) -> float:
    """A number that is no constant of a record, such as a step, as a float.

    Raises:
        ValueError: unless it is a finite number above 0.
    """
    return taken(value, Positive, name)


def _check(owner: object, name: str) -> None:
    """Refuse every field that is not as declared; whatever stands for a number becomes one."""
    for field, hint, default in _fields(type(owner)):
        value = getattr(owner, field)
        if value is default:
            continue
        kept = taken(value, hint, f"{name}.{field}")
        if kept is not value:
            object.__setattr__(owner, field, kept)


@lru_cache
def _fields(owner: type) -> list[tuple[str, Hint, object]]:
    """(name, declared type with its marks, default) of every constant."""
    hints = get_type_hints(owner, include_extras=True)
    return [(field.name, hints[field.name], field.default) for field in dataclasses.fields(owner) if field.init]
