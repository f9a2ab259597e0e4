"""What the numbers of a neuron count: its potentials, its drives, and the leak that currents are measured by."""

from typing import NamedTuple

from torch import Tensor

from neurosbd.filters import decay
from neurosbd.neurons.membrane import number
from neurosbd.neurons.neuron import Conducting, Leaking
from neurosbd.schema.constants import Constant


class Units(NamedTuple):
    """Units of a neuron; one whose are neither volts nor thresholds has them as its attribute `units`."""

    potential: str
    drive: str  # of a drive of 1; '1' where potentials are in thresholds


THRESHOLDS, VOLTS = Units("threshold", "1"), Units("V", "V")


def units_of(neuron: object) -> Units:
    """Those it names; volts where its potentials are such; else thresholds."""
    named = getattr(neuron, "units", None)  # a neuron under clamp passes on what it holds, which no protocol sees
    return named if isinstance(named, Units) else VOLTS if in_volts(neuron) else THRESHOLDS


def in_volts(neuron: object) -> bool:
    """Whether the potentials of a neuron are such as membranes have in volts."""
    if not isinstance(neuron, Conducting):
        return False
    try:
        neuron.check_volts()
    except ValueError:
        return False
    return True


def leak_conductance(neuron: object) -> Constant | None:
    """g_leak, S, where the constants of a neuron say it: a conductance g is one of g / g_leak. None: nothing says how
    many siemens a leak is."""
    return getattr(neuron, "g_leak", None)


def lifted(neuron: object, dt: float) -> float | Tensor:
    """How far a steady drive of 1 lifts a membrane from rest: r / (1 - alpha) where every step leaks and then adds r
    times the drive, else 1. A steady current I lifts it by I / g_leak, so that its drive is I / (g_leak lifted)."""
    if not isinstance(neuron, Leaking):
        return 1.0
    return number(getattr(neuron, "r", 1.0)) / (1 - decay(number(neuron.leak_time), dt))
