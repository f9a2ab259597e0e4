"""The state of a run that goes on (membranes, traces, what is on its way) as a checkpoint can hold it.

A state is nested NamedTuples, tuples, lists, dictionaries and tensors. A checkpoint holds tensors and plain containers,
and what is read back takes its form from a state of the same run, never from the file.
"""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

from torch import Tensor

from neurosbd.errors import UsageError

T = TypeVar("T")  # a state, or a part of one
_PLAIN = (int, float, bool, str, type(None))


def as_plain(state: object) -> object:
    """A state as tensors and lists.

    Raises:
        TypeError: if it holds anything that a checkpoint cannot.
    """
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, Mapping):
        return [as_plain(state[key]) for key in sorted(state)]
    if isinstance(state, tuple | list | deque):
        return [as_plain(part) for part in state]
    if isinstance(state, _PLAIN):
        return state
    raise TypeError(f"a state of {type(state).__name__} cannot be kept in a checkpoint")


def as_state(plain: object, like: T, path: Path, where: str) -> T:
    """The state that `as_plain` was made of.

    Args:
        plain: as read; of unknown origin.
        like: a state of the same run at another time.
        path: of the checkpoint, for messages.
        where: in the checkpoint.
    Raises:
        UsageError: naming the place, if it is no state of this run.
    """
    if isinstance(like, Tensor):
        fits = isinstance(plain, Tensor) and plain.dtype == like.dtype and bool(plain.shape) == bool(like.shape)
        if isinstance(plain, Tensor) and fits and plain.shape[1:] == like.shape[1:]:  # the first may count what waits
            return cast(T, plain.to(like.device))
        raise _refused(path, where, plain, f"{like.dtype} {list(like.shape)}")
    if isinstance(like, Mapping):
        pairs = zip(sorted(like), _list(plain, len(like), path, where), strict=True)
        return cast(T, {key: as_state(part, like[key], path, f"{where}.{key}") for key, part in pairs})
    if isinstance(like, tuple | list | deque):
        pairs = zip(_list(plain, len(like), path, where), like, strict=True)
        parts = [as_state(part, one, path, f"{where}.{n}") for n, (part, one) in enumerate(pairs)]
        return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)  # type: ignore[arg-type]
    if type(plain) is not type(like) or plain != plain:
        raise _refused(path, where, plain, type(like).__name__)
    return cast(T, plain)


def _list(plain: object, length: int, path: Path, where: str) -> list[object]:
    if not isinstance(plain, list) or len(plain) != length:
        raise _refused(path, where, plain, f"{length} parts")
    return plain


def _refused(path: Path, where: str, given: object, legal: str) -> UsageError:
    told = f"{given.dtype} {list(given.shape)}" if isinstance(given, Tensor) else str(given)[:60]
    return UsageError(
        f"{path}: the checkpoint does not belong to this model and rule, or was changed: {where} is {told}; here it "
        f"can only be {legal}"
    )
