"""A rate neuron whose population sends the direction of its activity alone, and keeps its strength to itself."""

from dataclasses import field
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import whole
from neurosbd.neurons.neuron import Activity
from neurosbd.neurons.rate import RateNeuron, ReLU, forgetful, stateless, unfiltered
from neurosbd.schema.constants import Positive, constants


class Direction(NamedTuple):
    """What the gate of such a neuron needs."""

    within: Activity  # of the neuron within, before the division
    factor: Tensor  # 1 / root of its mean square, [B] with ones for the axes that share it


@constants
class UnitPower:
    """value = y / sqrt(mean y^2 + epsilon), y = f(drive), with the mean over the population, example by example.

    What the next population hears has a mean square of 1, whatever the strength of y, so that nothing can be read off
    it that was already told by the strength. `gate` is the transpose of the derivative times the third factor, exactly:

        gate(s) = f'(drive) (s - value mean(value s)) / sqrt(mean y^2 + epsilon)

    Args:
        neuron: f, a rate neuron.
        epsilon: added under the root, > 0.
    Source: Hinton 2022, arXiv 2212.13345 (Forward-Forward: the length of a layer is taken out before the next; in his
        code so that the squares of a layer average 1).
    Differs: from `normalised`, which divides the drive, before f.
    """

    neuron: RateNeuron = field(default_factory=ReLU)
    epsilon: Positive = 1e-8

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """The direction, [B, *size]."""
        within, _ = self.neuron.step((), drive, dt)
        factor = torch.rsqrt(within.value.square().mean(whole(drive), keepdim=True) + self.epsilon)
        value = within.value * factor
        return Activity(value, value, Direction(within, factor)), state

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """f'(drive) (third factor - value mean(value third factor)) / sqrt(mean y^2 + epsilon)."""
        within, factor = activity.cache
        value = activity.potential
        along = (value * third_factor).mean(whole(value), keepdim=True)
        return self.neuron.gate(within, torch.addcmul(third_factor, value, along, value=-1) * factor, dt)

    def strength_gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """f'(drive) third factor: of y itself, before the division."""
        return self.neuron.gate(activity.cache.within, third_factor, dt)

    @property
    def coupled(self) -> str:
        """What they are divided by."""
        return "the power of their values"

    @property
    def factorises(self) -> bool:
        """Gate x pre is the whole derivative."""
        return True
