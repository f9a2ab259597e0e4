"""The one shape of everything that changes in time, and the records that pass between processes.

A *process* is a frozen dataclass of constants with two pure functions:

    init(example)          -> state
    step(state, input, dt) -> (output, state)

State is a NamedTuple of tensors and is handed back to the caller, so saving, resetting, copying and
moving it are the caller's plain operations. Neurons, neuromodulators and rules are processes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Activity(NamedTuple):
    """What a population shows after one step."""

    value: Tensor  # what its axons send, rate or spike, [B, *size]
    potential: Tensor  # where the gain is read: for rate neurons the value itself, [B, *size]


class Synapses(NamedTuple):
    """The plastic quantities of one connection, or anything of their shape (a gradient, a trace)."""

    weight: Tensor  # [post, pre]; conv [out, in, kh, kw]
    bias: Tensor | None  # [post]; conv [out]


class Heard(NamedTuple):
    """What a neuromodulator hears at one population."""

    value: Tensor  # activity of the population, [B, *size]
    score: Tensor  # d mean-loss / d output, so each row carries its 1/B, [B, C]
    progress: float  # how much of the training is done, 0..1; drives schedules


class Local(NamedTuple):
    """Everything a synapse may use to learn. What is not in here is not local."""

    pre: Tensor  # what arrived at the synapses, after pooling, [B, *arriving]
    post: Activity  # activity of the postsynaptic population
    signal: Tensor  # third factor of the postsynaptic population, [B, *size]
    synapses: Synapses  # own weight and bias
    gate: Callable[[Tensor], Tensor]  # factor -> factor * postsynaptic gain
    outer: Callable[[Tensor, Tensor], Synapses]  # (post factor, pre factor) -> like synapses


class Neuron(Protocol):
    """Turns a drive into an activity; knows the gain of that step, d value / d drive."""

    def init(self, drive: Tensor) -> Any:
        """State at rest for a drive of this shape [B, *size], dtype and device."""
        ...

    def step(self, state: Any, drive: Tensor, dt: float) -> tuple[Activity, Any]:
        """Advance by `dt` seconds under `drive` [B, *size]."""
        ...

    def gate(self, activity: Activity, signal: Tensor) -> Tensor:
        """`signal * gain`, in one pass over memory; shape of `signal`."""
        ...


class Neuromodulator(Protocol):
    """Turns the broadcast score into one signal per unit of a population.

    Its state lives as long as the experiment and is checkpointed with it.
    """

    def init(self, heard: Heard, generator: torch.Generator) -> Any:
        """State before any learning; random parts are drawn from `generator`."""
        ...

    def step(self, state: Any, heard: Heard, dt: float) -> tuple[Tensor, Any]:
        """Signal [B, *size] for the population that `heard` describes."""
        ...


class Plasticity(Protocol):
    """Turns local quantities into a loss-gradient-shaped change. No learning rate in here."""

    def init(self, local: Local) -> Any:
        """Eligibility at the start of a run."""
        ...

    def step(self, state: Any, local: Local, dt: float) -> tuple[Synapses, Any]:
        """Gradient to be descended, summed over the batch, like `local.synapses`."""
        ...


def gain(neuron: Neuron, activity: Activity) -> Tensor:
    """d value / d drive of every unit at this step, [B, *size]."""
    return neuron.gate(activity, torch.ones_like(activity.value))
