"""A rate neuron whose drive has mean 0 and variance 1 over the examples it learns from."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import per_unit, sum_per_unit, values_per_unit
from neurosbd.neurons.neuron import Activity, Total
from neurosbd.neurons.rate import RateNeuron, ReLU, forgetful, stateless, unfiltered
from neurosbd.schema.constants import Fraction, Positive, constants

_aten = torch.ops.aten


class Moments(NamedTuple):
    """What a standardised neuron remembers of its drives."""

    mean: Tensor  # [units] or [channels]
    variance: Tensor  # like mean


class Measured(NamedTuple):
    """What the gate of a standardised neuron needs."""

    drive: Tensor  # [B, *size]
    mean: Tensor  # over the batch (and the positions of a map), [units] or [channels]
    factor: Tensor  # 1 / sqrt(variance + epsilon), like mean
    cache: object  # of the neuron within
    n: Tensor | int  # values of a unit, of which this is the mean; a tensor [] where other processes have some of them


@constants
class Standardised:
    """value = f(n), n = (u - mean u) / sqrt(var u + epsilon), over the batch and, in a map, over the positions.

    While the network learns, mean and variance are those of the batch, and each unit remembers them:

        mean <- mean + rate (mean u - mean),   variance <- variance + rate (var u - variance)

    When it does not (`network.eval()`), it uses what it remembers, and examples have nothing to do with each other.
    A change of one drive moves the mean and variance of all, so `gate` is the transpose of that derivative,

        gate(s) = (g - mean(g) - n mean(g n)) / sqrt(var u + epsilon),   g = f'(n) s

    with the means taken like those of u. It asks nothing of other units: each removes from its own third factor
    what its own threshold and its own gain would undo anyway. Without those two terms sbd learns maps worse
    than without any normalisation (python benchmarks/normalisation.py).

    Args:
        neuron: f, a rate neuron.
        rate: of the running moments, per batch, 0..1.
        epsilon: added to the variance, in units of drive^2, > 0.
    Raises:
        ValueError: if `neuron` is no rate neuron, or a constant is out of range.
    Source: Ioffe, Szegedy 2015, ICML (batch normalisation); as adaptation of threshold and gain of a unit, intrinsic
        plasticity: Triesch 2007, Neural Comput. 19.
    Differs: no learned gain and offset; the variance that is remembered is that of the batch, divided by the number
        of its values, not by one less.
    """

    neuron: RateNeuron = field(default_factory=ReLU)
    rate: Fraction = 0.1
    epsilon: Positive = 1e-5

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = f(n), [B, *size]."""
        normal, mean, factor = _aten.native_batch_norm(drive, None, None, None, None, True, 0.0, self.epsilon)
        inner, _ = self.neuron.step((), normal, dt)
        measured = Measured(drive, mean, factor, inner.cache, values_per_unit(drive))
        return Activity(inner.value, inner.potential, measured), state

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """(g - mean(g) - n mean(g n)) / sqrt(var u + epsilon), with g = f'(n) signal."""
        drive, mean, factor, cache, _ = activity.cache
        g = self.neuron.gate(Activity(activity.value, activity.potential, cache), third_factor, dt)
        return _aten.native_batch_norm_backward(
            g, drive, None, None, None, mean, factor, True, self.epsilon, [True, False, False]
        )[0]

    def init_moments(self, size: tuple[int, ...]) -> Moments:
        """Before anything was seen: mean 0, variance 1."""
        return Moments(torch.zeros(size[0]), torch.ones(size[0]))

    def statistics(self, activity: Activity) -> tuple[Tensor, Tensor, Tensor | int]:
        """Mean and variance, [units] or [channels], and of how many values of a unit they are."""
        measured: Measured = activity.cache
        return measured.mean.detach(), measured.factor.detach().square().reciprocal() - self.epsilon, measured.n

    def update(self, moments: Moments, measured: tuple[Tensor, ...], share: float) -> Moments:
        """The moments after a step that stands for `share` of a batch; a single value of a unit has no variance."""
        mean, variance, count = measured
        several = count > 1
        rate = (1 - (1 - self.rate) ** share) * (several.to(mean) if isinstance(several, Tensor) else several)
        return Moments(torch.lerp(moments.mean, mean, rate), torch.lerp(moments.variance, variance, rate))

    def with_moments(self, moments: Moments) -> "AtRest":
        """The neuron that goes on with what this one remembers."""
        return AtRest(self, *moments)

    def learning(self, moments: Moments, total: Total | None) -> "Standardised | Together":
        """The neuron whose mean and variance are those of the batch, of the examples of all processes."""
        return self if total is None else Together(self, total)

    @property
    def coupled(self) -> str:
        """What makes examples depend on each other."""
        return "the mean and variance of their drives over the batch"

    @property
    def factorises(self) -> bool:
        """Gate x pre is the whole derivative."""
        return True


@dataclass(frozen=True)
class Together:
    """A standardised neuron where several processes share a batch: mean and variance are those of all its examples.

    Every process takes the same steps and gates in the same order, one that has no example as well. The variance is
    measured about the mean, by a second sum.

    Args:
        learning: the neuron of one process.
        total: sums over all processes.
    Source: Zhang et al. 2018, CVPR (cross-process batch normalisation).
    """

    learning: Standardised
    total: Total

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = f(n), [B, *size]."""
        normal, mean, factor, count = _SharedBatch.apply(drive, self.total, self.learning.epsilon)
        inner, _ = self.learning.neuron.step((), normal, dt)
        return Activity(inner.value, inner.potential, Measured(drive, mean, factor, inner.cache, count)), state

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """As `Standardised.gate`, with means over the examples of all processes."""
        drive, mean, factor, cache, count = activity.cache
        g = self.learning.neuron.gate(Activity(activity.value, activity.potential, cache), third_factor, dt)
        normal = (drive - per_unit(mean, drive)) * per_unit(factor, drive)
        return _back(g, normal, factor, count, self.total)

    @property
    def coupled(self) -> str:
        """What makes examples depend on each other."""
        return self.learning.coupled

    @property
    def factorises(self) -> bool:
        """Gate x pre is the whole derivative."""
        return True


class _SharedBatch(torch.autograd.Function):
    """n, mean, 1 / sqrt(variance + epsilon) and the number of values of a unit, over all processes; for backprop."""

    @staticmethod
    def forward(ctx: Any, drive: Tensor, total: Total, epsilon: float) -> tuple[Tensor, ...]:
        count, summed = total(drive.new_tensor(values_per_unit(drive)), sum_per_unit(drive))
        mean = summed / count
        centred = drive - per_unit(mean, drive)
        (squares,) = total(sum_per_unit(centred.square()))
        factor = torch.rsqrt(squares / count + epsilon)
        normal = centred * per_unit(factor, drive)
        ctx.save_for_backward(normal, factor, count)
        ctx.total = total
        ctx.mark_non_differentiable(mean, factor, count)
        return normal, mean, factor, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        normal, factor, count = ctx.saved_tensors
        return _back(gradients[0], normal, factor, count, ctx.total), None, None


def _back(g: Tensor, normal: Tensor, factor: Tensor, count: Tensor, total: Total) -> Tensor:
    """(g - mean(g) - n mean(g n)) factor, with means over all processes."""
    plain, along = (per_unit(each / count, g) for each in total(sum_per_unit(g), sum_per_unit(g * normal)))
    return (g - plain - normal * along) * per_unit(factor, g)


@dataclass(frozen=True)
class AtRest:
    """A standardised neuron of a network that does not learn: value = f((u - mean) / sqrt(variance + epsilon)).

    Args:
        learning: the neuron while it learns.
        mean: remembered, [units] or [channels].
        variance: remembered, like `mean`.
    Source: Ioffe, Szegedy 2015, ICML, algorithm 2.
    """

    learning: Standardised
    mean: Tensor
    variance: Tensor

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = f(n), [B, *size]."""
        normal, _, _ = _aten.native_batch_norm(
            drive, None, None, self.mean, self.variance, False, 0.0, self.learning.epsilon
        )
        return self.learning.neuron.step((), normal, dt)[0], state

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """f'(n) third factor / sqrt(variance + epsilon)."""
        factor = torch.rsqrt(self.variance + self.learning.epsilon)
        return self.learning.neuron.gate(activity, third_factor, dt) * per_unit(factor, third_factor)

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True
