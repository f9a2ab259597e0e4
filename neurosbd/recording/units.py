"""In which unit a signal is recorded, and what the numbers of the network are multiplied by to be in it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from neurosbd.network.network import Network
from neurosbd.neurons.membrane import number
from neurosbd.neurons.units import leak_conductance, units_of
from neurosbd.recording.signals import SignalKind, StepView, felt_by


class Unit(NamedTuple):
    """A unit as the file names it."""

    name: str
    scale: float | Tensor = 1.0  # what a 1 of the network is in it, [*size] where the units of a population differ


def unit_of(what: str, kind: SignalKind, where: str, network: Network) -> Unit:
    """The unit of a signal, by the constants of the neuron that feels it:

        v               that of its potentials: V, mV or threshold
        drive           that of its drives: V, or 1
        current, clamp  A, I = g_leak drive, of a neuron with a g_leak; else that of its drives
        conductance     S, g = g_leak leaks, of a neuron with a g_leak; else leak

    and of anything else that of its kind.
    """
    measured = _OF_NEURONS.get(what)
    return Unit(kind.unit) if measured is None else measured(network.populations[felt_by(where, kind, network)].neuron)


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


def _current(neuron: object) -> Unit:
    leak = leak_conductance(neuron)
    return _drive(neuron) if leak is None else Unit("A", number(leak))


def _conductance(neuron: object) -> Unit:
    leak = leak_conductance(neuron)
    return Unit("leak") if leak is None else Unit("S", number(leak))


_OF_NEURONS: Mapping[str, Callable[[object], Unit]] = {
    "v": _potential, "drive": _drive, "current": _current, "clamp": _current, "conductance": _conductance,
}  # fmt: skip
