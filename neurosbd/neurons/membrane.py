"""What spiking neurons share: threshold, reset, refractoriness, and the gate of their pseudo-derivative.

The reset of a spike takes effect in the next step, so a recorded potential is the one that spiked. It
is not differentiated (Bellec et al. 2020), in the gates as in the backprop reference.
"""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from neurosbd.filters import decay, leak
from neurosbd.neurons.neuron import Activity, Conductances
from neurosbd.neurons.scan import apart
from neurosbd.schema.constants import Constant
from neurosbd.surrogates import Surrogate, above, spike

QUIET = -1e30  # potential of a refractory unit as its threshold sees it: no spike, no gain

_MOST_VOLTS = 0.2  # beyond, no potential of a membrane is in volts

Reset = Literal["subtract", "to_value", "none"]
Refractoriness = Literal["integrating", "clamped"]


class Resetting(Protocol):
    """Constants of every neuron with a threshold and a reset.

    v_threshold: potential at which it spikes.
    v_reset: where a reset to a value leads.
    reset: what a spike does to the potential.
    """

    @property
    def v_threshold(self) -> Constant: ...
    @property
    def v_reset(self) -> Constant: ...
    @property
    def reset(self) -> Reset: ...


class Spiking(Resetting, Protocol):
    """Constants of a neuron whose threshold is hard.

    refractory: least time from one spike to the next, s.
    surrogate: its pseudo-derivative.
    unit: in which the surrogate measures the distance from threshold.
    """

    @property
    def refractory(self) -> float: ...
    @property
    def surrogate(self) -> Surrogate: ...
    @property
    def unit(self) -> float | Tensor: ...


class Clampable(Spiking, Protocol):
    """Constants of a neuron whose membrane may be clamped while it is refractory.

    refractoriness: what the membrane does meanwhile.
    """

    @property
    def refractoriness(self) -> Refractoriness: ...


def number(value: Constant) -> float | Tensor:
    """A constant that has been drawn: a number or a tensor [*size]."""
    if isinstance(value, float | int | Tensor):  # asking for the protocol takes 20 us, and this is in every step
        return value
    raise ValueError(f"{value} has not been drawn yet: a Network draws it, or `distributions.drawn`")


def is_number(value: Constant, wanted: float) -> bool:
    """Whether a constant is this number for all units."""
    return isinstance(value, float | int) and value == wanted


def times(value: Tensor, factor: float | Tensor) -> Tensor:
    """value * factor without a pass over memory where the factor is 1."""
    return value if is_number(factor, 1) else value * factor


def integrate(neuron: Resetting, v: Tensor, z: Tensor, factor: float | Tensor, drive: Tensor) -> Tensor:
    """Membrane after one step, the reset of the spike `z` included.

    subtract: factor v + drive - v_threshold z;  to_value: factor (v (1 - z) + v_reset z) + drive;  none: no reset.
    """
    z = z.detach()
    if neuron.reset == "subtract":
        threshold = number(neuron.v_threshold)
        after = leak(v, factor, drive)
        return after.sub_(z, alpha=threshold) if isinstance(threshold, float | int) else after - threshold * z
    if neuron.reset == "to_value":
        v = to_value(neuron, v, z)
    return leak(v, factor, drive)


def to_value(neuron: Resetting, v: Tensor, z: Tensor) -> Tensor:
    """The membrane, at v_reset where `z`, a spike or a wait, is above 0."""
    reset = number(neuron.v_reset)
    put = z.bool()  # a third of the time of z > 0
    return v.masked_fill(put, reset) if isinstance(reset, float | int) else torch.where(put, reset, v)


def after_reset(neuron: Resetting, v: Tensor, z: Tensor) -> Tensor:
    """The membrane at the beginning of a step, after the reset of the spike of the last one."""
    if neuron.reset == "to_value":
        return to_value(neuron, v, z)
    return v - number(neuron.v_threshold) * z.detach() if neuron.reset == "subtract" else v


def conduct(v: Tensor, alpha: float | Tensor, resting: Tensor, opened: Conductances) -> Tensor:
    """A leaky membrane one step later, with conductances open: it nears where all pull it, as fast as all do.

        G = 1 + sum g;    v_inf = (resting + sum g reversal) / G;    v = v_inf + (v - v_inf) alpha^G

    Args:
        v: at the beginning of the step, [B, *size].
        alpha: what is left of it after a step without conductances.
        resting: where it would end without them.
        opened: in units of the leak, held over the step.
    """
    whole = 1 + opened.total
    goal = (resting + opened.pull) / whole
    left = alpha**whole if isinstance(alpha, Tensor) else torch.exp(whole * math.log(alpha))
    return goal + (v - goal) * left


def check_volts(neuron: Resetting, v_leak: Constant) -> None:
    """Raise ValueError unless the potentials of a neuron are such as membranes have in volts."""
    for field, value in (("v_leak", v_leak), ("v_threshold", neuron.v_threshold), ("v_reset", neuron.v_reset)):
        if isinstance(value, float | int | Tensor) and (torch.as_tensor(value).abs() > _MOST_VOLTS).any():
            far = f"{value:g} V" if isinstance(value, float | int) else f"beyond {_MOST_VOLTS:g} V in some units"
            raise ValueError(
                f"conductances pull towards potentials in volts, but {type(neuron).__name__}.{field} is {far}; give "
                f"real ones, such as v_leak = '-70 mV', v_threshold = '-50 mV', v_reset = '-60 mV', reset = "
                f"'to_value', or take a current, such as synapse = 'exponential'"
            )


def held(neuron: Clampable, v: Tensor, refractory: Tensor | None) -> Tensor:
    """The membrane, at v_reset where it is clamped in this step.

    Args:
        neuron: its constants.
        v: as it has integrated, [B, *size].
        refractory: steps left to wait before this step, [B, *size]; None without refractoriness.
    """
    if refractory is None or neuron.refractoriness == "integrating":
        return v
    return to_value(neuron, v, refractory)


def resting(drive: Tensor, factor: float | Tensor, rest: float | Tensor) -> Tensor:
    """The drive with what draws the membrane to its resting potential, (1 - factor) rest."""
    return drive if isinstance(rest, float | int) and rest == 0 else drive + (1 - factor) * rest


def kept(neuron: Resetting, z: Tensor) -> float | Tensor:
    """How much of a small change of the membrane survives the reset of `z`."""
    return 1 - z if neuron.reset == "to_value" else 1.0


def survives(neuron: Clampable, z: Tensor, activity: Activity) -> float | Tensor:
    """The same where the membrane may have been clamped in the step of `activity`, in which nothing changes it."""
    left = kept(neuron, z)
    if neuron.refractory > 0 and neuron.refractoriness == "clamped":
        left = left * (activity.potential > QUIET)
    return left


def check(name: str, reset: Reset, refractoriness: Refractoriness, v_threshold: Constant, v_reset: Constant) -> None:
    """Raise ValueError of potentials and refractoriness that do not go together.

    Args:
        name: of the neuron, for messages.
        reset, refractoriness, v_threshold, v_reset: its constants.
    """
    if refractoriness == "clamped" and reset != "to_value":
        raise ValueError(
            f"{name}: refractoriness = 'clamped' holds the membrane at v_reset, so it needs reset = 'to_value', got "
            f"'{reset}'"
        )
    if not isinstance(v_threshold, float | int | Tensor) or not isinstance(v_reset, float | int | Tensor):
        return  # not drawn yet
    threshold = torch.as_tensor(v_threshold)
    if reset != "to_value" and not (threshold > 0).all():
        raise ValueError(
            f"{name}: reset = '{reset}' needs v_threshold > 0; for potentials in volts take reset = 'to_value' and a "
            f"v_reset"
        )
    if not (threshold > torch.as_tensor(v_reset)).all():
        raise ValueError(f"{name}: v_threshold must be above v_reset, got {v_threshold} and {v_reset}")


def unit(neuron: Spiking) -> float | Tensor:
    """In which a surrogate measures the distance from threshold: from the reset to the threshold."""
    threshold, reset = number(neuron.v_threshold), number(neuron.v_reset)
    return threshold if isinstance(reset, float | int) and reset == 0 else threshold - reset


def fire(neuron: Spiking, potential: Tensor, refractory: Tensor | None, dt: float) -> tuple[Activity, Tensor | None]:
    """Spikes of this step, and how many steps every unit still has to wait.

    A refractory unit integrates but cannot spike, and its gain is 0. A refractoriness of n steps makes the n-th step
    after a spike the first that can have another.

    Args:
        neuron: its constants.
        potential: membrane less whatever raises the threshold, [B, *size].
        refractory: steps left to wait before this step, [B, *size]; None without refractoriness.
        dt: step, s.
    """
    if refractory is not None:
        potential = potential.masked_fill(refractory.bool(), QUIET)
    threshold, unit = number(neuron.v_threshold), neuron.unit
    if not (torch.is_grad_enabled() and potential.requires_grad):
        value = above(potential, threshold)
    else:
        distance = potential - threshold
        value = spike(distance if isinstance(unit, float | int) and unit == 1 else distance / unit, neuron.surrogate)
    if refractory is not None:
        silent = max(round(neuron.refractory / dt) - 1, 0)  # steps between two spikes that are `refractory` apart
        refractory = (refractory - 1).clamp_(min=0).masked_fill_(value.detach().bool(), float(silent))
    return Activity(value, potential), refractory


def scan(
    neuron: Spiking, v: Tensor, z: Tensor, factor: float | Tensor, drives: Tensor, steps: int
) -> tuple[Tensor, Tensor] | None:
    """`integrate` and `fire` in as many steps as there are drives, in memory that is asked for once.

    Args:
        neuron: its constants.
        v: membrane before the first step, [B, *size].
        z: spike of that step.
        factor: what is left of the membrane after one step.
        drives: of K steps, step by step, [K B, *size]; written over with the membrane.
        steps: K.

    Returns:
        Potentials and spikes, [K B, *size]; None if constants differ between units, or need more than this.
    """
    threshold = number(neuron.v_threshold)
    if (
        neuron.refractory > 0
        or neuron.reset == "to_value"
        or (isinstance(threshold, Tensor) and neuron.reset == "subtract")
        or isinstance(factor, Tensor)
    ):
        return None
    spikes = torch.empty_like(drives)
    for drive, spike_of_step in zip(apart(drives, steps), apart(spikes, steps), strict=True):
        drive.add_(v, alpha=factor)
        v = drive if isinstance(threshold, Tensor) or neuron.reset == "none" else drive.sub_(z, alpha=threshold)
        z = torch.gt(v, threshold, out=spike_of_step)
    return drives, spikes


def first_wait(neuron: Spiking, drive: Tensor) -> Tensor | None:
    """Waiting times before the first step."""
    return torch.zeros_like(drive) if neuron.refractory > 0 else None


def psi(neuron: Spiking, activity: Activity) -> Tensor:
    """Pseudo-derivative d spike / d potential, fresh in memory: psi((potential - v_threshold) / unit) / unit."""
    threshold, unit = number(neuron.v_threshold), neuron.unit
    distance = activity.potential - threshold
    if isinstance(unit, float | int) and unit == 1:
        return neuron.surrogate.derivative(distance)
    return neuron.surrogate.derivative(distance.div_(unit)).div_(unit)


def gate(neuron: Spiking, activity: Activity, third_factor: Tensor, r: Constant = 1.0) -> Tensor:
    """third factor * psi * r, with r what a drive of 1 adds to the potential."""
    gated = psi(neuron, activity).mul_(third_factor)
    return gated if isinstance(r, float | int) and r == 1 else gated * number(r)


def uniform(*constants: Constant) -> bool:
    """Whether all units share these constants."""
    return all(isinstance(value, float | int) for value in constants)


def cascade(dt: float, *taus: Constant) -> tuple[float, ...] | None:
    """Decays per step of time constants, one after the other; None if one differs between units, since then no
    presynaptic filter serves them all."""
    found = tuple(decay(tau, dt) for tau in taus if isinstance(tau, float | int))
    return found if len(found) == len(taus) else None
