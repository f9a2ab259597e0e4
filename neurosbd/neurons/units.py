"""What the numbers of a neuron count: its potentials, its drives, and the leak that currents are measured by."""

from typing import NamedTuple

from neurosbd.neurons.neuron import Conducting
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
    """g_leak, S, where the constants of a neuron say it: its drive is a current over g_leak, a conductance g is one of
    g / g_leak. None: nothing says how many siemens a leak is."""
    return getattr(neuron, "g_leak", None)
