"""Targets: which kinds there are, and what a loss makes of them.

Shapes are checked always, values only on the CPU: looking at them on an accelerator would make it wait.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from neurosbd.errors import UsageError


@dataclass(frozen=True)
class Targets:
    """What the targets of a loss may be.

    name: of the kind.
    legal: in words, for messages.
    allows: elementwise, which values are legal.
    support: (k, generator) -> some possible targets of k values (of k classes), [m] or [m, k]; float64 if not labels.
    continuous: the support stands for a density, so no single one of its targets has weight of its own.
    """

    name: str
    legal: str
    allows: Callable[[Tensor], Tensor]
    support: Callable[[int, torch.Generator], Tensor]
    continuous: bool = False

    def check(self, values: Tensor) -> None:
        """Raise UsageError unless all values are legal. On an accelerator nothing is looked at."""
        if values.device.type == "cpu" and not bool(self.allows(values).all()):
            wrong = values[~self.allows(values)][0].item()
            raise UsageError(f"a target is {wrong:g}; legal are {self.legal}")


ATOMS = 1024  # of a support that stands for a density


def _labels(k: int, generator: torch.Generator) -> Tensor:
    return torch.arange(k)


def _corners(k: int, generator: torch.Generator) -> Tensor:
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * k).reshape(-1, k)


def _counts(k: int, generator: torch.Generator) -> Tensor:
    rate = torch.exp(torch.randn(k, dtype=torch.float64, generator=generator))
    return torch.poisson(rate.expand(32, k), generator=generator)


def _reals(k: int, generator: torch.Generator) -> Tensor:
    """Two bumps of different width, around a random place."""
    place, shift = (torch.randn(1, k, dtype=torch.float64, generator=generator) for _ in range(2))
    noise = torch.randn(ATOMS, k, dtype=torch.float64, generator=generator)
    narrow = torch.rand(ATOMS, 1, dtype=torch.float64, generator=generator) < 0.4
    return 1.5 * place + torch.where(narrow, shift + 0.3 * noise, noise)


def _positive(k: int, generator: torch.Generator) -> Tensor:
    return torch.exp(0.5 * _reals(k, generator))


CLASSES = Targets(
    "classes", "integer labels [batch] in 0..classes-1, or probabilities [batch, classes]", torch.isfinite, _labels
)
BINARY = Targets(
    "binary", "values from 0 to 1 [batch, k], or integer labels [batch]", lambda y: (y >= 0) & (y <= 1), _corners
)
COUNTS = Targets("counts", "finite counts >= 0 [batch, k]", lambda y: (y >= 0) & (y < torch.inf), _counts)
POSITIVE = Targets("positive", "finite values > 0 [batch, k]", lambda y: (y > 0) & (y < torch.inf), _positive, True)
REALS = Targets("reals", "finite real values [batch, k]", torch.isfinite, _reals, True)
TARGETS = {kind.name: kind for kind in (CLASSES, BINARY, COUNTS, POSITIVE, REALS)}


def as_vector(target: Tensor, like: Tensor) -> Tensor:
    """Class labels [B] become one-hot rows [B, C]; a target that is [B, C] already is passed on.

    Raises:
        UsageError: if the target is neither, with both shapes; if a label is not one of the classes (on the CPU).
    """
    if target.shape == like.shape:
        return target.to(like.dtype)
    if target.ndim == 1 and like.ndim == 2 and len(target) == len(like) and not target.is_floating_point():
        try:
            return torch.zeros_like(like).scatter_(1, target[:, None].long(), 1.0)
        except RuntimeError:  # scatter_ has looked at the labels already, so that this costs nothing
            raise UsageError(
                f"labels go from {target.min().item()} to {target.max().item()}, but the output has "
                f"{like.shape[1]} classes; legal are integers in 0..{like.shape[1] - 1}"
            ) from None
    raise UsageError(
        f"target has shape {list(target.shape)} ({target.dtype}), output [batch, k] is {list(like.shape)}; "
        f"give integer labels [batch] or a target [batch, k]"
    )


def as_values(target: Tensor, output: Tensor, kind: Targets, blocks: tuple[str, ...] = ("outputs",)) -> Tensor:
    """Values [B, k] in the dtype of the output, which has one block of k columns per parameter.

    Args:
        target: values, any real dtype.
        output: [B, len(blocks) k].
        kind: of legal values.
        blocks: what the columns of the output are, block by block.

    Raises:
        UsageError: if the shapes do not fit, with both; if a value is not legal (on the CPU).
    """
    parts = len(blocks)
    if output.ndim != 2 or output.shape[1] % parts or target.shape != (len(output), output.shape[1] // parts):
        layout = f"{parts} k] ({', then '.join(blocks)}, k columns each)" if parts > 1 else "k]"
        raise UsageError(
            f"target has shape {list(target.shape)} ({target.dtype}), output is {list(output.shape)}; "
            f"targets must be {kind.legal}, for outputs [batch, {layout}"
        )
    values = target.to(output.dtype)
    kind.check(values)
    return values


def row(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Constants [k] in the dtype and on the device of a tensor, sent there only once."""
    return _row(values, like.dtype, like.device)


@cache
def _row(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
