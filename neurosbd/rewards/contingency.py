"""What a contingency must offer: what earns a reward, and the record of a reward that is given for it."""

import math
from collections.abc import Mapping
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from neurosbd.errors import nearest
from neurosbd.schema.constants import NotNegativeSeconds, Seconds, constants
from neurosbd.stimuli.stimulus import check_span

S = TypeVar("S")  # its state: a NamedTuple of tensors and numbers


class Contingency(Protocol[S]):
    """When a reward is earned, of every example by itself: at times, or by what the network does."""

    def check(self, sizes: Mapping[str, tuple[int, ...]], dt: float) -> None:
        """Raise ValueError unless it can be met by populations of these sizes in steps of dt, s."""
        ...

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> S:
        """Before the first step.

        Args:
            like: a reward, [B].
            dt: s.
            generator: source of whatever is random.
        """
        ...

    def step(self, state: S, activity: Mapping[str, Tensor], dt: float) -> tuple[Tensor, S]:
        """How many rewards have been earned, [B], by the activity of a step, {population: [B, *size]}."""
        ...


@constants(called="reward")
class Reinforcement:
    """A reward that is given whenever its contingency is met, as dopamine: it arrives late and fades.

        level <- exp(-dt / tau) level + amplitude (rewards that arrive in this step)

    The level, summed over all reinforcements, is the reward of a step that rules hear.

    Args:
        contingency: what earns it, an entry of REWARDS or one of your own.
        amplitude: of a reward; below 0 a punishment.
        delay: s, >= 0, from what earns it to its arrival.
        longest: s, >= delay: every delay is drawn uniformly between the two; None: all are `delay`.
        tau: s, >= 0, with which the level decays; 0: it is there in the step of its arrival alone.
        start, stop: s; only what is done in this time earns rewards; stop None: to the end.
    Raises:
        ValueError: if a constant is out of range.
    Source: Izhikevich 2007, Cereb. Cortex 17 (extracellular dopamine: pulses that decay with 0.2 s).
    """

    contingency: Contingency
    amplitude: float = 1.0
    delay: NotNegativeSeconds = 0.0
    longest: NotNegativeSeconds | None = None
    tau: NotNegativeSeconds = 0.0
    start: NotNegativeSeconds = 0.0
    stop: Seconds | None = None

    def __post_init__(self) -> None:
        check_delay(self.delay, self.longest)
        check_span(self.start, self.stop)

    @property
    def latest(self) -> float:
        """The longest delay that may be drawn, s."""
        return self.delay if self.longest is None else self.longest


def check_delay(delay: float, longest: float | None) -> None:
    """Raise ValueError unless the longest delay is not the shorter one."""
    if longest is not None and longest < delay:
        raise ValueError(f"a reward needs delay <= longest, got delay = {delay:g} s and longest = {longest:g} s")


def check_unit(population: str, unit: int, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless a population of that name has that unit, counted through."""
    if population not in sizes:
        raise ValueError(f"there is no population '{population}'{nearest(population, sizes)}")
    count = math.prod(sizes[population])
    if unit >= count:
        raise ValueError(f"unit {unit} of '{population}' is not there; it has {count}, 0..{count - 1}")


def fired(activity: Mapping[str, Tensor], population: str, unit: int) -> Tensor:
    """Whether a unit has spiked, [B]."""
    return activity[population].flatten(1)[:, unit] > 0
