"""The one check that every constant passes: of the kind that its field declares, and finite.

Constants come from files, where the schema looks at them, and from Python, where nobody else does: integers, numpy
scalars, tensors, text and truth values all reach the same field.
"""

import dataclasses
import math
import numbers
import types
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from neurosbd.errors import nearest
from neurosbd.parsing import brief


def check_constants(owner: object, name: str | None = None) -> None:
    """Refuse every field that is not of its declared kind; whatever stands for a number becomes one.

    A float is a finite number or the field's own default (which may be infinite): int, float, numpy scalar, or a tensor
    or array without axes; it is kept as a Python float. An int is a whole number. Where the field takes a tensor, a
    list, tuple or array of finite numbers will do. Truth values and text are never numbers.

    Args:
        owner: a frozen dataclass; call this first in its `__post_init__`.
        name: what messages call it; none: its class.
    Raises:
        ValueError: with the field, what it takes and what was given.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Leak:
    ...     tau: float
    ...     def __post_init__(self) -> None:
    ...         check_constants(self)
    >>> Leak(np.int64(2)).tau
    2.0
    >>> Leak("20e-3")
    Traceback (most recent call last):
    ValueError: Leak.tau must be a finite number, got '20e-3' (text; leave out the quotes)
    """
    for field, hint in _hints(type(owner)).items():
        value = getattr(owner, field)
        if value is _default(type(owner), field):
            continue
        try:
            taken = _taken(value, hint)
        except ValueError as problem:
            raise ValueError(f"{name or type(owner).__name__}.{field} must be {problem}") from None
        if taken is not value:
            object.__setattr__(owner, field, taken)


def positive(value: object, name: str) -> float:
    """A number that is no constant of a record, such as a step, as a float.

    Raises:
        ValueError: unless it is a finite number above 0.
    """
    try:
        number = _taken(value, float)
    except ValueError as problem:
        raise ValueError(f"{name} must be {problem}") from None
    if not number > 0:
        raise ValueError(f"{name} must be positive, got {value}")
    return number


@lru_cache
def _hints(owner: type) -> dict[str, Any]:
    hints = get_type_hints(owner)
    return {field.name: hints[field.name] for field in dataclasses.fields(owner) if field.init}


@lru_cache
def _default(owner: type, name: str) -> Any:
    return next(field.default for field in dataclasses.fields(owner) if field.name == name)


def _taken(value: Any, hint: Any) -> Any:
    """The value as its field keeps it; ValueError of what it takes if there is no way."""
    parts = _parts(hint)
    if type(None) in parts and value is None:
        return None
    single = _scalar(value)
    if isinstance(single, numbers.Real) and not isinstance(single, bool):
        if float in parts and _is_float(single):
            return float(single)
        if int in parts and isinstance(single, numbers.Integral) and -(2**63) <= int(single) < 2**63:
            return int(single)
    elif isinstance(single, bool) and bool in parts:
        return single
    elif isinstance(value, str):
        return _word(value, parts)
    elif Tensor in parts and isinstance(value, Sequence | np.ndarray | Tensor):
        return _values(value)
    elif isinstance(value, Sequence):
        return _items(value, parts)
    elif value is not None and not isinstance(value, np.ndarray | Tensor | bool) and _objects(parts):
        return _object(value, parts)
    raise ValueError(_refusal(value, parts))


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _scalar(value: Any) -> Any:
    """A numpy scalar, or a tensor or array without axes, as the Python value in it."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 0):
        return value.item()
    return value


def _words(parts: tuple[Any, ...]) -> list[str]:
    return [word for part in parts if get_origin(part) is Literal for word in get_args(part)]


def _word(value: str, parts: tuple[Any, ...]) -> str:
    words = _words(parts)
    if str in parts or value in words:
        return value
    if words:
        raise ValueError(f"a legal name, got {_shown(value)}{nearest(value, words)}")
    raise ValueError(_refusal(value, parts))


def _values(value: Sequence[Any] | np.ndarray | Tensor) -> Any:
    """Finite numbers, one or more; an array becomes a tensor, all else stays as it is."""
    try:
        numbers_ = torch.as_tensor(value)
        if any(isinstance(item, bool | str) for item in _flat(value)):
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"numbers, one per unit, got {_shown(value)}") from None
    if numbers_.dtype == torch.bool or numbers_.is_complex() or not numbers_.numel():
        raise ValueError(f"one finite number per unit, got {_shown(value)}")
    if not torch.isfinite(numbers_).all():
        at = int((~torch.isfinite(numbers_)).flatten().nonzero()[0])
        raise ValueError(f"finite numbers, got {numbers_.flatten()[at].item()} as number {at} of {numbers_.numel()}")
    return numbers_ if isinstance(value, np.ndarray) else value


def _flat(value: Any) -> Sequence[Any]:
    """The items of nested lists; those of arrays and tensors are of one kind."""
    if isinstance(value, list | tuple):
        return [item for part in value for item in (_flat(part) if isinstance(part, list | tuple) else [part])]
    return ()


def _items(value: Sequence[Any], parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tuple whose items are of the kinds declared for it."""
    for part in parts:
        if get_origin(part) is not tuple:
            continue
        kinds = get_args(part)
        if kinds[1:] == (...,):
            kinds = (kinds[0],) * len(value)
        if len(kinds) != len(value):
            raise ValueError(f"{len(kinds)} values, got {value!r}")
        return tuple(_taken(item, kind) for item, kind in zip(value, kinds, strict=True))
    raise ValueError(_refusal(value, parts))


def _objects(parts: tuple[Any, ...]) -> list[type]:
    """The declared classes and protocols, besides numbers and the like."""
    plain = (float, int, bool, str, type(None), Tensor)
    return [part for part in parts if isinstance(part, type) and part not in plain and get_origin(part) is None]


def _object(value: Any, parts: tuple[Any, ...]) -> Any:
    for part in _objects(parts):
        if getattr(part, "_is_protocol", False):
            if not getattr(part, "_is_runtime_protocol", False) or isinstance(value, part):
                return value
        elif isinstance(value, part):
            return value
    raise ValueError(_refusal(value, parts))


def _refusal(value: Any, parts: tuple[Any, ...]) -> str:
    names = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text", type(None): "None"}
    wanted = [names[part] for part in parts if part in names and not (part is int and float in parts)]
    if Tensor in parts:
        wanted.append("numbers, one per unit")
    wanted += ["text of " + ", ".join(_words(parts))] if _words(parts) else []
    wanted += [f"a {part.__name__}" for part in _objects(parts)] + ["a list" for p in parts if get_origin(p) is tuple]
    hint = "; leave out the quotes" if isinstance(value, str) and float in parts and _is_number(value) else ""
    kind = {str: "text", bool: "a truth value"}.get(type(value), "")
    told = f" ({kind}{hint})" if kind else ""
    return f"{' or '.join(wanted) or 'of its declared kind'}, got {_shown(value)}{told}"


def _is_float(number: numbers.Real) -> bool:
    """Whether it is a finite float, or an integer that one can hold."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    """A value in a message."""
    try:
        return brief(repr(value))
    except ValueError:  # Python does not write out integers of more than 4,300 digits
        return "an integer of thousands of digits"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
