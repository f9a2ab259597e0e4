"""Rate neuron that forgets slowly, with noise of its own: the unit of recurrent rate networks."""

from dataclasses import field
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.filters import decay
from neurosbd.neurons.neuron import Activity, Flow
from neurosbd.neurons.rate import RateNeuron, Tanh
from neurosbd.noise import new_key, normal_by_place
from neurosbd.schema.constants import NotNegative, Seconds, constants


class LeakyRateState(NamedTuple):
    """The value so far, and the state of the noise."""

    h: Tensor  # [B, *size]
    key: Tensor  # of this run's noise, int64 []; 0 without noise
    steps: Tensor  # taken so far, int64 []


@constants
class LeakyRate:
    """Leaky rate: value[t] = kept value[t-1] + (1 - kept) (f(drive[t]) + noise xi[t]),  kept = exp(-dt / tau_mem).

        gain = (1 - kept) f'(drive),    d log p(value) / d drive = xi f'(drive) / noise,    xi ~ N(0, 1)

    The noise is a function of its key, the step and the unit, as all noise here.

    Args:
        tau_mem: time constant, s, > 0.
        noise: standard deviation of what is added to the rate f in every step, >= 0; 0: none.
        neuron: f, a rate neuron.
    Raises:
        ValueError: if a constant is out of range, or a run with noise has no generator.
    Source: Murray 2019, eLife 8:e43299, equation 1; noise and constants: Portes, Schmid, Murray 2022, NeurIPS.
    Differs: exp(-dt / tau_mem) is left after a step, where they have 1 - dt / tau_mem.
    """

    tau_mem: Seconds = 10e-3
    noise: NotNegative = 0.0
    neuron: RateNeuron = field(default_factory=Tanh)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> LeakyRateState:
        """At rest; the key of the noise is drawn from `generator`."""
        none = torch.zeros((), dtype=torch.int64, device=drive.device)
        key = new_key(generator, "a leaky rate neuron", drive.device) if self.noise else none
        return LeakyRateState(torch.zeros_like(drive), key, none)

    def step(self, state: LeakyRateState, drive: Tensor, dt: float) -> tuple[Activity, LeakyRateState]:
        """value, [B, *size]; its potential is f(drive)."""
        kept = decay(self.tau_mem, dt)
        rate = self.neuron.step((), drive, dt)[0].value
        xi = normal_by_place(state.key, state.steps, rate) if self.noise else None
        shaken = rate if xi is None else torch.add(rate, xi, alpha=self.noise)
        h = torch.add(kept * state.h, shaken, alpha=1 - kept)
        return Activity(h, rate, xi), LeakyRateState(h, state.key, state.steps + 1)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * (1 - kept) f'(drive)."""
        return self._sloped(activity, third_factor, dt) * (1 - decay(self.tau_mem, dt))

    def _sloped(self, activity: Activity, factor: Tensor, dt: float) -> Tensor:
        """factor * f'(drive)."""
        return self.neuron.gate(Activity(activity.potential, activity.potential), factor, dt)

    @property
    def draws(self) -> bool:
        """If there is noise."""
        return self.noise > 0

    def surprise(self, activity: Activity) -> Tensor:
        """d log p(value) / d drive of this step: xi f'(drive) / noise."""
        return self._sloped(activity, activity.cache, 0.0) / self.noise

    @property
    def factorises(self) -> bool:
        """No: the gain comes before the leak."""
        return False

    def filters(self, dt: float) -> None:
        """The leak comes behind f."""

    def flow(self, state: LeakyRateState, activity: Activity, dt: float) -> Flow:
        """Of the drive of this step, and of what is left in the value from before: value = kept value + gain drive."""
        kept = decay(self.tau_mem, dt)
        passed = kept * self.gate(activity, torch.ones_like(activity.potential), dt)
        return Flow(((0.0, 0.0), (passed, kept)), (1.0, 0.0), (1.0, 0.0), (0.0, 1.0))
