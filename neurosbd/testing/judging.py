"""How a check says what is wrong: an AssertionError with a whole sentence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

DT = 1e-3  # s, of every check
Make = Callable[[], Any]
Check = Callable[[Make], None]


def demand(condition: object, sentence: str) -> None:
    """Raise AssertionError with the sentence unless the condition holds."""
    if not condition:
        raise AssertionError(sentence)


def close(one: Tensor, other: Tensor, sentence: str, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    """Raise AssertionError with the sentence, and by how much they differ, unless two tensors are equal in shape, dtype
    and, within tolerances, in value."""
    try:
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)
    except AssertionError as problem:
        told = " ".join(str(problem).split())
        raise AssertionError(f"{sentence}. {told}") from None


def identical(one: Tensor, other: Tensor, sentence: str) -> None:
    """Raise AssertionError with the sentence unless two tensors are the same bit for bit."""
    demand(torch.equal(one, other), sentence)


@contextmanager
def refusal(sentence: str, kind: type[Exception] = Exception) -> Iterator[None]:
    """Context that has to end in an exception of a kind; else AssertionError with the sentence."""
    try:
        yield
    except kind:
        return
    raise AssertionError(sentence)


@contextmanager
def no_values(part: str) -> Iterator[None]:
    """Context for a step of a part on tensors without data: AssertionError if it wants to see one of their values."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as problem:
        raise AssertionError(
            f"The {part} looks at the value of a tensor, for which every step would wait for the device "
            f"({type(problem).__name__}: {problem})"
        ) from None


def seeded(seed: int = 0) -> torch.Generator:
    """A generator whose draws are the same in every check."""
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same in every check."""
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)
