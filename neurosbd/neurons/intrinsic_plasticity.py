"""A sigmoid rate neuron that learns its own slope and offset, so that its rates are sparse whatever drives it."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import per_unit, sum_per_unit, values_per_unit
from neurosbd.neurons.neuron import Activity, Total
from neurosbd.neurons.rate import forgetful, stateless, unfiltered
from neurosbd.schema.constants import NotNegative, Positive, constants

_aten = torch.ops.aten


class Excitability(NamedTuple):
    """What such a neuron has learned of itself."""

    slope: Tensor  # per unit of drive, > 0, [units] or [channels]
    offset: Tensor  # like slope


class Driven(NamedTuple):
    """What the gate of such a neuron and its plasticity need."""

    drive: Tensor  # [B, *size]
    slope: Tensor  # that it met, [units] or [channels]
    sums: tuple[Tensor, ...] | None  # over the examples of all processes; None: there is one process, not yet summed


@constants
class IntrinsicPlasticity:
    """value = 1 / (1 + exp(-(slope u + offset))), with a slope and an offset that each unit learns by itself:

        error = 1 - (2 + 1 / mean) value + value^2 / mean
        slope <- slope + rate <1 / slope + u error>,    offset <- offset + rate <error>

    with means over the batch and, in a map, over the positions of a channel. It is the descent of the divergence
    between the distribution of the unit's values and the exponential one of this mean, which of all that are positive
    and have this mean carries most information: D = E[value] / mean - E[log(slope value (1 - value))] + constant. So a
    unit is silent most of the time and strong at times, whether its drives are Gaussian, uniform or skewed, near the
    exponential as far as a slope and an offset can bring it.

    Units learn while the network does (`network.train()`), after every batch, under any rule, of the drives they meet;
    an update of a free run is a batch, and the steps of a trial share the rate. At rest they stay as they are. The
    third factor knows the slope, gate = slope value (1 - value), and nothing of its plasticity.

    Args:
        mean: of the exponential distribution, > 0. A sigmoid ends at 1, so the mean of the values is near it up to
            about 0.2 and stays below it beyond; the larger, the nearer the values are to uniform (Bell, Sejnowski).
        rate: of the plasticity, per batch, >= 0; 0: none.
        slope: where it starts, > 0.
        offset: where it starts.
    Raises:
        ValueError: if a constant is out of range.
    Source: Triesch 2007, Neural Comput. 19:885 (his gain a is `slope`, his bias b is `offset`); Triesch 2005, ICANN,
        LNCS 3696:65; the limit of a large mean: Bell, Sejnowski 1995, Neural Comput. 7:1129.
    Differs: a step after a batch, along its mean, in place of one after every example; no step takes more than half of
        a slope, which would lose its sign where drives are large beside 1 / rate.
    """

    mean: Positive = 0.1
    rate: NotNegative = 1e-3
    slope: Positive = 1.0
    offset: float = 0.0

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value of a neuron that has learned nothing yet, [B, *size]."""
        begun = (drive.new_full(drive.shape[1:2], constant) for constant in (self.slope, self.offset))
        return self.with_moments(Excitability(*begun)).step(state, drive, dt)

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * slope * value * (1 - value)."""
        slope = per_unit(activity.cache.slope, third_factor)
        return _aten.sigmoid_backward(third_factor, activity.potential) * slope

    def init_moments(self, size: tuple[int, ...]) -> Excitability:
        """Every unit as the constants say."""
        return Excitability(torch.full(size[:1], self.slope), torch.full(size[:1], self.offset))

    def statistics(self, activity: Activity) -> tuple[Tensor, ...]:
        """Sums of 1 / slope + u error and of error, [units] or [channels], and of how many values of a unit."""
        drive, slope, sums = activity.cache
        return self.sums(drive, slope, activity.potential) if sums is None else sums

    @torch.no_grad()
    def sums(self, drive: Tensor, slope: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of drives and values [B, *size]."""
        error = 1 + value * (value / self.mean - (2 + 1 / self.mean))
        count = values_per_unit(drive)
        along = sum_per_unit(error * drive) + count / slope
        return along, sum_per_unit(error), drive.new_full((), float(count))

    def update(self, moments: Excitability, measured: tuple[Tensor, ...], share: float) -> Excitability:
        """Slope and offset after a step that stands for `share` of a batch."""
        along, error, count = measured
        rate = self.rate * share / count.clamp(min=1)
        slope = torch.maximum(moments.slope + rate * along, moments.slope / 2)
        return Excitability(slope, moments.offset + rate * error)

    def learning(self, moments: Excitability, total: Total | None) -> "Excitable":
        """The neuron with the slopes and offsets it has now."""
        return Excitable(self, moments, total)

    def with_moments(self, moments: Excitability) -> "Excitable":
        """The same, of which nothing is measured."""
        return Excitable(self, moments, None)

    @property
    def factorises(self) -> bool:
        """Gate x pre is the whole derivative."""
        return True


@dataclass(frozen=True)
class Excitable:
    """A neuron with intrinsic plasticity and the slopes and offsets that it has learned so far.

    Args:
        plasticity: by which they change.
        moments: slope and offset of every unit.
        total: sums over the processes that share a batch; None: nothing is summed.
    Source: see `IntrinsicPlasticity`.
    """

    plasticity: IntrinsicPlasticity
    moments: Excitability
    total: Total | None

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value, [B, *size]."""
        slope, offset = (per_unit(each, drive) for each in self.moments)
        value = torch.sigmoid(torch.addcmul(offset, slope, drive))
        there = self.moments.slope
        sums = None if self.total is None else self.total(*self.plasticity.sums(drive, there, value))
        return Activity(value, value, Driven(drive, there, sums)), state

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * slope * value * (1 - value)."""
        return self.plasticity.gate(activity, third_factor, dt)

    @property
    def factorises(self) -> bool:
        """Gate x pre is the whole derivative."""
        return True
