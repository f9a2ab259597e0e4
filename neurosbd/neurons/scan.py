"""Neurons over a block of steps at once: what they showed at every step, and the state after each."""

from collections.abc import Sequence
from functools import cache
from typing import Generic, NamedTuple, Protocol, TypeGuard, TypeVar

import torch
from torch import Tensor

from neurosbd.neurons.neuron import Activity, NeuronState

S = TypeVar("S")  # the state of a neuron


class Scan(NamedTuple, Generic[S]):
    """K steps of one population.

    The first axis of `value` and `potential` counts steps times examples, step by step, so that whatever takes a batch
    takes a block as well.
    """

    value: Tensor  # [K B, *size]
    potential: Tensor  # [K B, *size]
    steps: Sequence[Activity]  # of every step, [B, *size]
    states: Sequence[S]  # after every step
    sent: Tensor | None = None  # share of the value that is sent, see `Activity`

    @property
    def activity(self) -> Activity:
        """All steps as one; without the cache, which is that of a step."""
        return Activity(self.value, self.potential, sent=self.sent)


class Scanning(Protocol[S]):
    """A neuron that knows a faster way through a block than one step after another."""

    def scan(self, state: S, drives: Tensor, steps: int, dt: float) -> Scan[S] | None:
        """`step` under K drives, one after another, outside of autograd.

        Args:
            state: before the first step.
            drives: of K steps, step by step, [K B, *size]; may be written over.
            steps: K.
            dt: s.
        Returns:
            What `step` would give, bit for bit; None if these constants have no faster way.
        """
        ...


def knows_scan(neuron: object) -> TypeGuard[Scanning[NeuronState]]:
    """Whether a neuron is Scanning, and its scan is that of its own step."""
    return _scans(type(neuron))


@cache
def _scans(kind: type) -> bool:
    """From the type alone: asking the protocol takes 20 us, and this is in every step. A neuron that inherits a scan
    and has a step of its own goes by its step."""
    order = [vars(base) for base in kind.__mro__]
    scan, step = (next((k for k, own in enumerate(order) if name in own), None) for name in ("scan", "step"))
    return scan is not None and (step is None or scan <= step)


def scan_of(steps: Sequence[Activity], states: Sequence[S]) -> Scan[S]:
    """The scan that these steps are."""
    value = together([activity.value for activity in steps])
    same = all(activity.potential is activity.value for activity in steps)
    potential = value if same else together([activity.potential for activity in steps])
    share = steps[0].sent
    return Scan(value, potential, steps, states, None if share is None else together([share] * len(steps)))


def together(parts: Sequence[Tensor]) -> Tensor:
    """[B, ..] of every step as [K B, ..], laid out in memory as they are."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def apart(block: Tensor, steps: int) -> Sequence[Tensor]:
    """[K B, ..] as K views [B, ..]."""
    return (block,) if steps == 1 else block.unflatten(0, (steps, -1)).unbind()
