"""What a stimulus must offer, and where and when it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from neurosbd.errors import warn
from neurosbd.filters import COUNTED
from neurosbd.schema.constants import NotNegativeSeconds, Seconds, constants

S = TypeVar("S")  # its state: a NamedTuple of tensors and numbers


class Stimulus(Protocol[S]):
    """What reaches a population from outside the network: spikes, or a current; added to its drive at every step.

    Time is counted from its beginning in steps of dt. Blocks of any length, one after another, give what a single one
    does, bit for bit, so that a run that was stopped goes on as it would have.

    One that gives a current declares `fires = False`; what any other gives is taken for spikes, see `fires`.
    """

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """Raise ValueError unless a population of this size can be given it in steps of dt, s."""
        ...

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> S:
        """Before the first step.

        Args:
            like: a drive of the population, [B, *size].
            dt: s.
            generator: source of whatever is random.
        """
        ...

    def block(self, state: S, like: Tensor, steps: int, dt: float) -> tuple[Tensor, S]:
        """The drive at the next steps, [steps, B, *size] in the type and on the device of `like`, and what follows."""
        ...


@runtime_checkable
class ReadFromFile(Protocol):
    """A stimulus that is read from a file, which may have changed when a run goes on."""

    def content(self, dt: float) -> str:
        """A hash of what was read; '' if nothing was."""
        ...


@runtime_checkable
class Dated(Protocol):
    """What happens at given times, some of which a run may be too short for."""

    def moments(self, dt: float) -> np.ndarray:
        """The steps at which something happens, counted from its beginning."""
        ...


@runtime_checkable
class Itemised(Protocol):
    """What is shown item after item, the last of which a run may cut short."""

    def cut(self, steps: int, dt: float) -> int:
        """Steps for which the last item of so many steps was shown, if that is not all of it; else 0."""
        ...


class StepsDone(NamedTuple):
    """State of a stimulus that is a function of time alone."""

    done: int  # steps


class KeyedStepsDone(NamedTuple):
    """State of a stimulus that draws at every step anew."""

    key: Tensor  # int64 []
    done: int  # steps


def times(done: int, steps: int, dt: float, like: Tensor) -> Tensor:
    """Of the next steps, s, float64 [steps, 1, ..], so that they meet [B, *size]."""
    moments = torch.arange(done, done + steps, dtype=torch.float64, device=like.device) * dt
    return moments.view(steps, *(1 for _ in like.shape))


def shown(values: Tensor, like: Tensor) -> Tensor:
    """Values of every step, of every example alike or not, as [steps, B, *size] in the type of `like`."""
    return values.to(like.dtype).expand(len(values), *like.shape).contiguous()


@constants(called="stimulation")
class Stimulation:
    """A stimulus at a population, for a time.

    Args:
        population: name of the one that it drives.
        stimulus: an entry of STIMULI, or one of your own.
        start: s, >= 0, in whole steps of dt.
        stop: s, > start; None: to the end.
    Raises:
        ValueError: if it would stop before it starts.
    """

    population: str
    stimulus: Stimulus
    start: NotNegativeSeconds = 0.0
    stop: Seconds | None = None

    def __post_init__(self) -> None:
        check_span(self.start, self.stop)


def fires(stimulus: Stimulus) -> bool:
    """Whether what it gives is spikes, which is so unless it says otherwise; what a relay sends on of them has a rate
    in Hz."""
    return getattr(stimulus, "fires", True)


def check_span(start: float, stop: float | None) -> None:
    """Raise ValueError unless a stimulus stops after it starts."""
    if stop is not None and not stop > start:
        raise ValueError(f"a stimulus needs start < stop, got start = {start:g} s and stop = {stop:g} s")


@dataclass(frozen=True)
class Span:
    """From which step to which; None: to the end."""

    first: int
    last: int | None

    def within(self, begin: int, end: int) -> tuple[int, int]:
        """The part of begin..end that is in it; empty if none is."""
        last = end if self.last is None else min(self.last, end)
        low = max(self.first, begin)
        return low, max(low, last)


def warn_of_late(where: str, given: object, span: Span, steps: int, dt: float) -> None:
    """Say what would come after the end of a run, which nobody would miss.

    Args:
        where: what is given, for the message.
        given: a stimulus, or what earns a reward.
        span: in which it is given.
        steps: of the run.
        dt: s.
    """
    first, last = span.within(0, steps)
    cut = given.cut(last - first, dt) if isinstance(given, Itemised) else 0
    if cut:
        warn(f"{where} ends within an item, of which {cut * dt:g} s are shown; let it end after one")
    if first == last:
        warn(f"{where} begins at {span.first * dt:g} s, but the run is over at {steps * dt:g} s; it is never given")
    elif isinstance(given, Dated) and last == steps:
        moments = given.moments(dt) + float(first)
        late = int((moments >= steps).sum())
        if late:
            warn(
                f"{where}: {late:,} of {len(moments):,} times, up to {moments.max() * dt:g} s, come after the end of "
                f"the run at {steps * dt:g} s and are left out; is it too short, or are the times not in s?"
            )


def steps_at(times: Sequence[float], dt: float) -> np.ndarray:
    """The steps nearest to some times, s; beyond what can be counted they are the last that can."""
    return np.round(np.minimum(times, COUNTED * dt) / dt).astype(np.int64)


def check_steps(times: Sequence[float], values: Sequence[float], name: str) -> None:
    """Raise ValueError unless there is a value for every time, and the times ascend; `name` begins the message."""
    if len(times) != len(values) or not times:
        raise ValueError(f"{name} needs a value for every time, got {len(times)} times and {len(values)} values")
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError(f"{name}.times must ascend, got {list(times)}")


def stepped(
    times: Sequence[float], values: Sequence[float], done: int, steps: int, dt: float, device: torch.device
) -> Tensor:
    """values[n] from times[n], s, on and 0 before the first of them, at the `steps` steps after `done`: float64."""
    jumps = torch.from_numpy(steps_at(times, dt)).to(device)
    levels = torch.tensor([0.0, *values], dtype=torch.float64, device=device)
    now = torch.arange(done, done + steps, device=device)
    return levels[torch.searchsorted(jumps, now, right=True)]
