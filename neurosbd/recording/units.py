"""In which unit a signal is recorded, and what the numbers of the network are multiplied by to be in it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from neurosbd.network.network import Network
from neurosbd.neurons.membrane import number
from neurosbd.neurons.units import leak_conductance, lifted, units_of
from neurosbd.recording.signals import SignalKind, StepView, felt_by


class Unit(NamedTuple):
    """A unit as the file names it."""

    name: str
    scale: float | Tensor = 1.0  # what a 1 of the network is in it, [*size] where the units of a population differ


def unit_of(what: str, kind: SignalKind, where: str, network: Network) -> Unit:
    """The unit of a signal, by the constants of the neuron that feels it:

        v               that of its potentials: V, mV or threshold
        drive           that of its drives: V, or 1
        current, clamp  A, of a neuron with a g_leak: I = g_leak drive, times how far a steady drive of 1 lifts its
                        membrane (of a conductance g (reversal - v), which lifts it by 1); else that of its drives
        conductance     S, g = g_leak leaks, of a neuron with a g_leak; else leak

    and of anything else that of its kind.
    """
    neuron = network.populations[felt_by(where, kind, network)].neuron if what in (*_CURRENTS, *_OF_NEURONS) else None
    if what in _CURRENTS:
        leak, connection = leak_conductance(neuron), network.connections.get(where)
        if leak is None:
            return _drive(neuron)
        direct = connection is not None and connection.transmission.conducts
        return Unit("A", number(leak) * (1.0 if direct else lifted(neuron, network.dt)))
    return _OF_NEURONS[what](neuron) if what in _OF_NEURONS else Unit(kind.unit)


def reading(what: str, kind: SignalKind, where: str, network: Network) -> Callable[[StepView, str], Tensor] | None:
    """How a signal is read off a step, in its unit; None: it comes from the learning, or from between two batches."""
    read, scale = kind.read, unit_of(what, kind, where, network).scale
    if read is None or (isinstance(scale, float) and scale == 1):
        return read
    return lambda view, where: read(view, where) * scale


def _potential(neuron: object) -> Unit:
    return Unit(units_of(neuron).potential)


def _drive(neuron: object) -> Unit:
    return Unit(units_of(neuron).drive)


def _conductance(neuron: object) -> Unit:
    leak = leak_conductance(neuron)
    return Unit("leak") if leak is None else Unit("S", number(leak))


_CURRENTS = ("current", "clamp")
_OF_NEURONS: Mapping[str, Callable[[object], Unit]] = {"v": _potential, "drive": _drive, "conductance": _conductance}
