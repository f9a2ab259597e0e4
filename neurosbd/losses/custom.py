"""Losses of a user's own, known to model files and runs by name. Their code comes from the user only."""

import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.files.writing import legal_path
from neurosbd.losses.generic import PerExample, from_function
from neurosbd.losses.loss import Loss
from neurosbd.losses.targets import REALS, Targets

FUNCTION = "loss"  # what a file offers
_MOST_SAID = 300  # characters of an exception


@dataclass(frozen=True)
class CustomLoss:
    """A loss that was given to this process under a name.

    A run keeps the name alone: opening a run, or a model file, executes no code that lies beside it. Who trains,
    resumes or predicts gives the loss again, by `neurosbd.fit(..., loss=...)`, `--loss FILE.py` or `register`.

    Args:
        name: under which it was given.
    """

    name: str

    @property
    def targets(self) -> Targets:
        """Which targets are legal; real values unless the loss says something else."""
        return getattr(self._given(), "targets", REALS)

    @property
    def parameters(self) -> int:
        """Outputs per value of the target; 1 unless the loss says something else."""
        return getattr(self._given(), "parameters", 1)

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, [B]."""
        return self._called(self._given().per_example, output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]."""
        return self._called(self._given().score, output, target)

    def _given(self) -> Loss:
        if self.name not in _GIVEN:
            raise UsageError(
                f"loss '{self.name}' is one of a user's own and is not here; give it with --loss {self.name}.py, "
                f"or in Python with neurosbd.fit(..., loss=...) or neurosbd.losses.register('{self.name}', ...)"
            )
        return _GIVEN[self.name]

    def _called(self, function: PerExample, output: Tensor, target: Tensor) -> Tensor:
        try:
            return function(output, target)
        except UsageError:
            raise
        except Exception as problem:  # whatever a user's function may raise
            raise UsageError(
                f"loss '{self.name}' failed for an output {list(output.shape)} and a target {list(target.shape)} of "
                f"{target.dtype}: {type(problem).__name__}: {str(problem)[:_MOST_SAID]}"
            ) from problem


_GIVEN: dict[str, Loss] = {}


def register(name: str, loss: Loss | PerExample) -> dict[str, str]:
    """Make a loss of one's own known by name, in place of another one of that name.

    Args:
        name: any.
        loss: with per_example and score, and, if they are not real values and 1, `targets` and `parameters`; or just
            a function (output [B, C], target) -> loss of each example [B] of real values, see `from_function`.

    Returns:
        What a model file or a setting calls it: {"kind": "custom", "name": name}.
    Raises:
        UsageError: if it is neither.

    >>> import torch
    >>> register("cubic", lambda z, y: (z - y).abs().pow(3).sum(1))
    {'kind': 'custom', 'name': 'cubic'}
    >>> CustomLoss("cubic").score(torch.tensor([[2.0]]), torch.zeros(1, 1))
    tensor([[12.]])
    """
    _GIVEN[name] = as_loss(loss, f"loss '{name}'")
    return {"kind": "custom", "name": name}


def entry(loss: str | Path | Loss | PerExample) -> str | dict[str, str]:
    """What a model file calls a loss that is asked for by name, by a .py file or as it is; the last two are given.

    Raises:
        UsageError: if the file offers no loss, or it is none.
    """
    if isinstance(loss, str | Path):
        path = legal_path(loss)
        return register(path.stem, read(path)) if path.suffix == ".py" else str(loss)
    return register(str(getattr(loss, "__name__", type(loss).__name__)), loss)


def read(path: str | Path) -> Loss:
    """The loss of a Python file: what it calls `loss`, a function or a loss. The file is executed.

    Raises:
        UsageError: if it cannot be read or executed, or offers none.
    """
    path = legal_path(path)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; give a Python file with a function loss(output, target)")
    try:
        offered = runpy.run_path(str(path), run_name=path.stem)
    except Exception as problem:
        raise UsageError(f"{path}: {type(problem).__name__}: {str(problem)[:_MOST_SAID]}") from problem
    if FUNCTION not in offered:
        raise UsageError(f"{path}: has no '{FUNCTION}'; define loss(output, target) -> loss of each example [batch]")
    return as_loss(offered[FUNCTION], f"{path}: '{FUNCTION}'")


def as_loss(loss: object, where: str) -> Loss:
    """A loss, of a loss or of a function that gives the loss of each example.

    Raises:
        UsageError: if it is neither.
    """
    if isinstance(loss, type):
        raise UsageError(f"{where} is the class {loss.__name__} itself; give an instance, {loss.__name__}(...)")
    if callable(getattr(loss, "per_example", None)) and callable(getattr(loss, "score", None)):
        return cast(Loss, loss)
    if callable(getattr(loss, "build", None)):
        raise UsageError(f"{where} is how a model file writes it; give the loss itself, definition.build().loss")
    if callable(loss) and not isinstance(loss, type):
        return from_function(cast(PerExample, loss))
    raise UsageError(
        f"{where} is a {type(loss).__name__}; give a function (output, target) -> loss of each example [batch], "
        f"or an object with per_example and score, such as from_function makes"
    )
