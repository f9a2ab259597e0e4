"""Steps of neurons with many variables as one pass over memory, compiled.

Written out in tensors, a step is a pass over memory, and a launch, for each of its operations: three for LIF, dozens
for AdEx and for gates of ion channels. torch.compile makes one kernel of them, in C++ on a CPU and in Triton on a GPU,
which takes seconds the first time; kernels are kept in the cache folder for other processes. A call of one costs about
as much as ten small operations, so that shorter methods, as all gates are, stay as they were written.
"""

import copy
import os
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neurosbd.errors import warn
from neurosbd.files.writing import cache_folder
from neurosbd.neurons.neuron import Adaptive, Compartmental, Neuron
from neurosbd.noise import noting

MANY = 15  # operations of a step, from which on a kernel is faster
DT = 1e-4  # of the step that is counted, s
_METHODS = ("step", "conduct")
_KEPT = "TORCHINDUCTOR_CACHE_DIR"  # where torch keeps its kernels

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound=Neuron[Any])


class Fused(Generic[P, R]):
    """A method of a neuron in one kernel; the method itself where autograd follows.

    What cannot be compiled is said once and goes on as it was written.

    Args:
        method: bound to its neuron, pure.
        whose: for the message.
    """

    def __init__(self, method: Callable[P, R], whose: str) -> None:
        self.method, self.whose = method, whose
        os.environ.setdefault(_KEPT, str(cache_folder() / "compiled"))
        self._kernel: Callable[P, R] | None = torch.compile(_alone(method), fullgraph=True)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the method gives, up to rounding."""
        if self._kernel is None or torch.is_grad_enabled():
            return self.method(*args, **kwargs)
        try:
            return self._kernel(*args, **kwargs)
        except Exception as problem:  # of whatever kind compilers and their libraries have; the method's own come again
            found = self.method(*args, **kwargs)
            self._kernel = None
            warn(f"{self.whose} goes on as it was written, which is slower: it cannot be compiled ({_said(problem)})")
            return found

    def __reduce__(self) -> tuple[object, ...]:
        return Fused, (self.method, self.whose)


def fused(neuron: N, name: str, silent: Tensor) -> N:
    """The same neuron, whose steps are `Fused` if that gains.

    One that measures its batch is another with every batch, and one with compartments takes its drives by name: these
    stay as they are. So does one that draws: its counters are int64, of which the kernels of torch 2.13 write past the
    end where their number is no multiple of a vector.

    Args:
        neuron: with its constants drawn.
        name: of its population.
        silent: a drive of one example, [1, *size].
    """
    if is_fused(neuron) or isinstance(neuron, Adaptive | Compartmental):
        return neuron
    generator = noting(torch.Generator())
    state = neuron.init(silent, generator)
    if generator.asked or not state or _operations(neuron, state, silent) < MANY:
        return neuron
    found = copy.copy(neuron)
    for method in _METHODS:
        if hasattr(neuron, method):
            own = Fused(getattr(neuron, method), f"population '{name}': {type(neuron).__name__}.{method}")
            object.__setattr__(found, method, own)  # past the lock of frozen constants, of which it is none
    return found


def is_fused(neuron: Neuron[Any]) -> bool:
    """Whether its steps are compiled."""
    return isinstance(neuron.step, Fused)


class _Counting(TorchDispatchMode):
    """Counts operations.

    number: so far.
    """

    number: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _operations(neuron: Neuron[Any], state: Any, silent: Tensor) -> int:
    with _Counting() as counted:
        neuron.step(state, silent, DT)
    return counted.number


def _alone(method: Callable[P, R]) -> Callable[P, R]:
    """The method behind a code object of its own: torch counts compilations by code, and gives up after eight."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(*args, **kwargs)

    call.__code__ = call.__code__.replace()
    return call


def _said(problem: Exception) -> str:
    """The first line of what a compiler says, which may be pages."""
    return f"{type(problem).__name__}: {next(iter(str(problem).strip().splitlines()), '')}"[:200]
