"""What a constant is, by its type: the kind it is taken for, and the marks that narrow it."""

import math
import numbers
import types
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from neurosbd.errors import nearest
from neurosbd.files.parsing import brief

Hint = Any  # a type, as an annotation writes it


@runtime_checkable
class Mark(Protocol):
    """What narrows a type: `Annotated[float, mark]`."""

    @property
    def text(self) -> str:
        """Ends 'must be ...'."""
        ...

    @property
    def hint(self) -> str:
        """Ends the message; '' for none."""
        ...

    def admits(self, value: object, /) -> bool:
        """Whether a value of the kind is legal."""
        ...

    def read(self, value: object, /) -> object:
        """What a value means that is written in another way, such as a text with a unit.

        Raises:
            ValueError: if it means nothing here.
        """
        ...


def declared(hint: object) -> tuple[tuple[Hint, ...], tuple[Mark, ...]]:
    """The types of a union, and the marks on any of them.

    >>> from neurosbd.schema.constants import Seconds
    >>> kinds, marks = declared(Seconds | None)
    >>> kinds, [mark.text for mark in marks]
    ((<class 'float'>, <class 'NoneType'>), ['a positive time in s'])
    """
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        types_, within = declared(inner)
        return types_, (*within, *(mark for mark in marks if isinstance(mark, Mark)))
    if get_origin(hint) in (Union, types.UnionType):
        each = [declared(part) for part in get_args(hint)]
        return tuple(t for types_, _ in each for t in types_), tuple(mark for _, marks in each for mark in marks)
    return (hint,), ()


_declared = lru_cache(declared)


def taken(value: object, hint: object, name: str) -> Any:
    """A value as a field of this type keeps it.

    Raises:
        ValueError: with `name`, what it must be and what was given, if there is no way.
    """
    types_, marks = _declared(hint)
    try:
        for mark in marks:
            value = mark.read(value)
    except ValueError as problem:
        raise ValueError(f"{name} {problem}") from None
    kept = _of_kind(value, types_, name)
    for mark in marks:
        if problem := violation(kept, mark):
            raise ValueError(f"{name} must be {problem}")
    return kept


def _of_kind(value: object, parts: tuple[object, ...], name: str) -> object:
    if value is None and type(None) in parts:
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
        return _word(value, parts, name)
    elif Tensor in parts and isinstance(value, Sequence | np.ndarray | Tensor):
        return _values(value, name) if float in parts else _tensor(value, name)
    elif isinstance(value, Sequence):
        return _items(value, parts, name)
    elif (
        isinstance(value, np.ndarray | Tensor) and value.ndim == 1 and any(get_origin(part) is tuple for part in parts)
    ):
        return _items(value.tolist(), parts, name)
    elif isinstance(value, PurePath) and str in parts:
        return str(value)
    elif value is not None and not isinstance(value, np.ndarray | Tensor | bool) and _objects(parts):
        return _object(value, parts, name)
    raise ValueError(f"{name} must be {_refusal(value, parts)}")


def _scalar(value: object) -> object:
    """A numpy scalar, or a tensor or array without axes, as the Python value in it."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 0):
        return value.item()
    return value


def _words(parts: tuple[object, ...]) -> list[str]:
    return [word for part in parts if get_origin(part) is Literal for word in get_args(part)]


def _word(value: str, parts: tuple[object, ...], name: str) -> str:
    words = _words(parts)
    if str in parts or value in words:
        return value
    if words:
        raise ValueError(f"{name} must be a legal name, got {shown(value)}{nearest(value, words)}")
    raise ValueError(f"{name} must be {_refusal(value, parts)}")


def _values(value: Sequence[object] | np.ndarray | Tensor, name: str) -> Sequence[object] | Tensor:
    """Finite numbers, one or more; an array becomes a tensor, all else stays as it is."""
    try:
        numbers_ = torch.as_tensor(value)
        if any(isinstance(item, bool | str) for item in _flat(value)):
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be numbers, one per unit, got {shown(value)}") from None
    if numbers_.dtype == torch.bool or numbers_.is_complex() or not numbers_.numel():
        raise ValueError(f"{name} must be one finite number per unit, got {shown(value)}")
    if not torch.isfinite(numbers_).all():
        at = int((~torch.isfinite(numbers_)).flatten().nonzero()[0])
        given = f"{numbers_.flatten()[at].item()} as number {at} of {numbers_.numel()}"
        raise ValueError(f"{name} must be finite numbers, got {given}")
    return numbers_ if isinstance(value, np.ndarray) else value


def _tensor(value: Sequence[object] | np.ndarray | Tensor, name: str) -> Tensor:
    """Where nothing but a tensor is meant, truth values stand for 1 and 0."""
    if isinstance(value, np.ndarray | Tensor) and torch.as_tensor(value).dtype == torch.bool:
        value = torch.as_tensor(value).float()
    return torch.as_tensor(_values(value, name))


def _flat(value: object) -> Sequence[object]:
    """The items of nested lists; those of arrays and tensors are of one kind."""
    if isinstance(value, list | tuple):
        return [item for part in value for item in (_flat(part) if isinstance(part, list | tuple) else [part])]
    return ()


def _items(value: Sequence[object], parts: tuple[object, ...], name: str) -> tuple[object, ...]:
    """A tuple whose items are of the kinds declared for it."""
    for part in parts:
        if get_origin(part) is not tuple:
            continue
        kinds = get_args(part)
        if kinds[1:] == (...,):
            kinds = (kinds[0],) * len(value)
        if len(kinds) != len(value):
            raise ValueError(f"{name} must be {len(kinds)} values, got {shown(value)}")
        pairs = zip(value, kinds, strict=True)
        return tuple(taken(item, kind, f"{name}[{i}]") for i, (item, kind) in enumerate(pairs))
    raise ValueError(f"{name} must be {_refusal(value, parts)}")


def _objects(parts: tuple[object, ...]) -> list[type]:
    """The declared classes and protocols, besides numbers and the like."""
    plain = (float, int, bool, str, type(None), Tensor)
    return [part for part in parts if isinstance(part, type) and part not in plain and get_origin(part) is None]


def _object(value: object, parts: tuple[object, ...], name: str) -> object:
    if isinstance(value, Mapping | type):  # a protocol that nobody can ask at run time would take anything
        what = "a table, as of a model file" if isinstance(value, Mapping) else "a class"
        raise ValueError(f"{name} must be {_refusal(value, parts)}: {what}; give the object that is made of it")
    for part in _objects(parts):
        if getattr(part, "_is_protocol", False):
            if not getattr(part, "_is_runtime_protocol", False) or isinstance(value, part):
                return value
        elif isinstance(value, part):
            return value
    raise ValueError(f"{name} must be {_refusal(value, parts)}")


def legal(hint: object) -> str:
    """What a field of this type takes, in words.

    >>> from neurosbd.schema.constants import Fraction, TimeConstant
    >>> legal(TimeConstant), legal(Fraction | None), legal(tuple[Fraction, ...])
    ('a positive time in s, numbers, one per unit, or a Distribution', 'in 0..1 or None', 'a list, each in 0..1')
    """
    types_, marks = _declared(hint)
    texts = [mark.text for mark in marks]
    wanted = _wanted(types_)
    if marks and not _NUMBERS.keys().isdisjoint(types_):
        wanted = [" and ".join(texts) if words in _NUMBERS.values() else words for words in wanted]
        texts = []
    for part in types_:
        if get_origin(part) is tuple:
            wanted[wanted.index("a list")] = "; ".join([f"a list, each {legal(get_args(part)[0])}", *texts])
            texts = []
    wanted = [
        words.removeprefix("text of ").replace(", ", " | ") if words[:8] == "text of " else words for words in wanted
    ]
    several = len(wanted) > 2 or any(", " in words for words in wanted)
    told = [", ".join(wanted[:-1]), wanted[-1]] if len(wanted) > 1 else wanted
    return "; ".join([(", or " if several else " or ").join(told), *texts])


_NUMBERS = {float: "a finite number", int: "a whole number"}
_PLAIN = {bool: "true or false", str: "text"}


def _wanted(parts: tuple[object, ...]) -> list[str]:
    """Words for each type of a union."""
    wanted = [_NUMBERS[part] for part in parts if part in _NUMBERS and not (part is int and float in parts)]
    wanted += [_PLAIN[part] for part in parts if part in _PLAIN]
    wanted += ["numbers, one per unit"] if Tensor in parts else []
    wanted += ["text of " + ", ".join(_words(parts))] if _words(parts) else []
    wanted += [_a(part.__name__) for part in _objects(parts)]
    wanted += ["a list" for part in parts if get_origin(part) is tuple]
    return wanted + ["None"] * (type(None) in parts)


def _refusal(value: object, parts: tuple[object, ...]) -> str:
    hint = "; leave out the quotes" if isinstance(value, str) and float in parts and _is_number(value) else ""
    kind = {str: "text", bool: "a truth value"}.get(type(value), "")
    told = f" ({kind}{hint})" if kind else ""
    return f"{' or '.join(_wanted(parts)) or 'of its declared kind'}, got {shown(value)}{told}"


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOU" else f"a {noun}"


def _is_float(number: numbers.Real) -> bool:
    """Whether it is a finite float, or an integer that one can hold."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def shown(value: object) -> str:
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


def violation(value: object, mark: Mark) -> str:
    """What a value of the declared kind must be and is not; '' if it is legal. None is a kind of its own."""
    if value is None or mark.admits(value):
        return ""
    return f"{mark.text}, got {shown(value)}" + (f"; {mark.hint}" if mark.hint else "")
