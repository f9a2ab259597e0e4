"""Rate neurons: the value is a function of the drive of the same step, so there is no state.

Every gain here is a function of the *value*, so nothing but the value has to be kept until the
third factor arrives. `gate` uses torch's fused kernels: one pass, no gain tensor in memory.
At a kink the gain is torch's: 0 for relu at 0 and for hard_sigmoid at both ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.neurons.neuron import Activity, Flow, Neuron
from neurosbd.neurons.scan import Scan, apart
from neurosbd.schema.constants import Legal, Range, constants

_aten = torch.ops.aten


def stateless(_: Neuron, drive: Tensor, generator: torch.Generator | None = None) -> tuple[()]:
    """Nothing to remember: the value depends on the present drive only."""
    return ()


def unfiltered(_: Neuron, dt: float) -> tuple[()]:
    """No filter between drive and value."""
    return ()


def forgetful(_: Neuron, state: tuple[()], activity: Activity, dt: float) -> Flow:
    """Nothing of this step reaches the next."""
    return Flow(((0.0,),), (1.0,), (1.0,))


def written_over(values: Tensor, steps: int) -> Scan[tuple[()]]:
    """K steps whose values [K B, *size] stand where their drives were: no memory that is new, half the time."""
    return Scan(values, values, [Activity(value, value) for value in apart(values, steps)], [()] * steps)


@dataclass(frozen=True)
class Identity:
    """Linear neuron: value = drive, gain = 1. The usual readout: a loss wants free outputs.

    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558, output layer.
    """

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = drive, [B, *size]."""
        return Activity(drive, drive), state

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * 1."""
        return third_factor


@dataclass(frozen=True)
class ReLU:
    """Rectified linear rate: value = max(drive, 0), gain = 1 where value > 0, else 0.

    Source: Nair, Hinton 2010, ICML.
    """

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = max(drive, 0), [B, *size]."""
        value = torch.relu(drive)
        return Activity(value, value), state

    def scan(self, state: tuple[()], drives: Tensor, steps: int, dt: float) -> Scan[tuple[()]]:
        """All steps in the memory of their drives."""
        return written_over(drives.relu_(), steps)

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor where value > 0."""
        return _aten.threshold_backward(third_factor, activity.potential, 0)


@constants
class LeakyReLU:
    """value = drive if drive > 0 else slope * drive; gain = 1 or slope.

    Args:
        slope: gain below zero, > 0 (so that the sign of the value tells the side).
    Raises:
        ValueError: if `slope` is not positive and finite.
    Source: Maas, Hannun, Ng 2013, ICML.
    """

    slope: Annotated[float, Range(above=0, hint="for slope 0 use 'relu'")] = 0.01

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = drive, or slope * drive below zero, [B, *size]."""
        value = functional.leaky_relu(drive, self.slope)
        return Activity(value, value), state

    def scan(self, state: tuple[()], drives: Tensor, steps: int, dt: float) -> Scan[tuple[()]]:
        """All steps in the memory of their drives."""
        return written_over(functional.leaky_relu_(drives, self.slope), steps)

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor, times slope where value <= 0."""
        return _aten.leaky_relu_backward(third_factor, activity.potential, self.slope, True)


@dataclass(frozen=True)
class Tanh:
    """value = tanh(drive), gain = 1 - value^2.

    Source: LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 4.4.
    """

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = tanh(drive), [B, *size]."""
        value = torch.tanh(drive)
        return Activity(value, value), state

    def scan(self, state: tuple[()], drives: Tensor, steps: int, dt: float) -> Scan[tuple[()]]:
        """All steps in the memory of their drives."""
        return written_over(drives.tanh_(), steps)

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * (1 - value^2)."""
        return _aten.tanh_backward(third_factor, activity.potential)


@dataclass(frozen=True)
class Sigmoid:
    """value = 1 / (1 + exp(-drive)), gain = value (1 - value).

    Source: Wilson, Cowan 1972, Biophys. J. 12 (sigmoid response function).
    """

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = sigmoid(drive), [B, *size]."""
        value = torch.sigmoid(drive)
        return Activity(value, value), state

    def scan(self, state: tuple[()], drives: Tensor, steps: int, dt: float) -> Scan[tuple[()]]:
        """All steps in the memory of their drives."""
        return written_over(drives.sigmoid_(), steps)

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * value * (1 - value)."""
        return _aten.sigmoid_backward(third_factor, activity.potential)


@dataclass(frozen=True)
class Softplus:
    """value = log(1 + exp(drive)), gain = 1 - exp(-value) = sigmoid(drive).

    Source: Dugas et al. 2001, NIPS 13.
    Differs: none; above drive = 20 torch returns the drive itself (relative error below 1e-9).
    """

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = log(1 + exp(drive)), [B, *size]."""
        value = functional.softplus(drive)
        return Activity(value, value), state

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * (1 - exp(-value))."""
        return third_factor * -torch.expm1(-activity.potential)


@dataclass(frozen=True)
class HardSigmoid:
    """value = drive clipped to 0..1, gain = 1 strictly between, else 0.

    Source: Bozkurt, Pehlevan, Erdogan 2023 (CorInfoMax), NeurIPS: the rate of its units.
    Differs: slope 1 through 0..1, not the slope 0.2 that some libraries call hard sigmoid.
    """

    init, filters, flow = stateless, unfiltered, forgetful

    def step(self, state: tuple[()], drive: Tensor, dt: float) -> tuple[Activity, tuple[()]]:
        """value = min(max(drive, 0), 1), [B, *size]."""
        value = functional.hardtanh(drive, 0.0, 1.0)
        return Activity(value, value), state

    def scan(self, state: tuple[()], drives: Tensor, steps: int, dt: float) -> Scan[tuple[()]]:
        """All steps in the memory of their drives."""
        return written_over(drives.clamp_(0.0, 1.0), steps)

    @property
    def factorises(self) -> bool:
        """Gain x pre is the whole derivative."""
        return True

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor where 0 < value < 1."""
        return _aten.hardtanh_backward(third_factor, activity.potential, 0.0, 1.0)


RATES: dict[str, Callable[..., Neuron]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "softplus": Softplus,
    "hard_sigmoid": HardSigmoid,
    "identity": Identity,
}
RateNeuron = Annotated[
    Neuron, Legal(f"one of {', '.join(RATES)}", lambda neuron: any(type(neuron) is rate for rate in RATES.values()))
]
