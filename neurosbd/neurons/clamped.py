"""Neurons whose membranes are held at a potential that is commanded, and the current that it takes."""

from collections import namedtuple
from typing import Any

import torch
from torch import Tensor

from neurosbd.neurons.neuron import Activity, Conductances, Conducting, Leaking, Neuron, NeuronState


class Clamped:
    """A neuron under voltage clamp; all else is its own.

        held:  v[t] = command[t],  clamp[t] = (command[t] - v_free[t]) / (d v / d drive),  z[t] = 0
        free:  v[t] = v_free[t],   clamp[t] = 0

    v_free is where the step would lead without the clamp. The membrane of every neuron here is linear in its drive
    within a step, so that one more step with a larger drive tells d v / d drive, and the current is exact. A unit that
    is held sends no spikes. What is refractory and clamped by itself takes no current.

    Args:
        neuron: whose state has a potential, v.
        command: potential at every step, [steps].
        held: whether a unit is held at it, 0 or 1, [*size].
        first: number of the first of these steps; before and after them nothing is held.
    Source: Hodgkin, Huxley, Katz 1952, J. Physiol. 116.
    """

    def __init__(self, neuron: Neuron[Any], command: Tensor, held: Tensor, first: int) -> None:
        self.neuron, self.command, self.held, self.first = neuron, command, held, first
        self.factorises = False
        self._kind: Any = tuple  # of the state of the neuron itself, once there is one
        if isinstance(neuron, Leaking):
            self.leak_time = neuron.leak_time

    def __getattr__(self, name: str) -> Any:
        """Constants of the neuron itself."""
        if name.startswith("__") or name == "neuron":
            raise AttributeError(name)
        return getattr(self.neuron, name)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> NeuronState:
        """As the neuron begins; `clamp` is the current, `done` counts steps."""
        state: Any = self.neuron.init(drive, generator)
        self._kind = type(state)
        kind = namedtuple(f"Clamped{type(state).__name__}", (*state._fields, "clamp", "done"))
        return kind(*state, torch.zeros_like(drive), torch.zeros((), dtype=torch.int64, device=drive.device))

    def step(self, state: Any, drive: Tensor, dt: float) -> tuple[Activity, NeuronState]:
        """Three steps of the neuron: free, with a larger drive, and with the current of the clamp."""
        return self._held(state, drive, lambda inner, given: self.neuron.step(inner, given, dt))

    def conduct(self, state: Any, drive: Tensor, opened: Conductances, dt: float) -> tuple[Activity, NeuronState]:
        """The same with conductances."""
        neuron = self.neuron
        assert isinstance(neuron, Conducting)
        return self._held(state, drive, lambda inner, given: neuron.conduct(inner, given, opened, dt))

    def _held(self, state: Any, drive: Tensor, step: Any) -> tuple[Activity, NeuronState]:
        inner, at = self._kind(*state[:-2]), state.done - self.first
        held = self.held * ((at >= 0) & (at < len(self.command)))
        command = self.command[at.clamp(0, len(self.command) - 1)]
        (_, free), (_, more) = step(inner, drive), step(inner, drive + 1)
        slope = more.v - free.v
        current = torch.where((held > 0) & (slope != 0), (command - free.v) / slope, 0.0)
        activity, after = step(inner, drive + current)
        value = torch.where(held > 0, 0.0, activity.value)
        after = after._replace(v=torch.where(held > 0, command, after.v))
        after = after._replace(spike=value) if "spike" in after._fields else after
        return activity._replace(value=value), type(state)(*after, current, state.done + 1)

    def check_volts(self) -> None:
        """Those of the neuron."""
        if not isinstance(self.neuron, Conducting):
            raise ValueError(f"nothing says that potentials of {type(self.neuron).__name__} neurons are in volts")
        self.neuron.check_volts()

    def membrane(self, state: Any) -> Tensor:
        """That of the neuron."""
        assert isinstance(self.neuron, Conducting)
        return self.neuron.membrane(self._kind(*state[:-2]))

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """That of the neuron, where it is free."""
        return self.neuron.gate(activity, third_factor, dt)

    def filters(self, dt: float) -> None:
        """What is held follows no drive."""

    def flow(self, state: Any, activity: Activity, dt: float) -> Any:
        """Nobody asks: plasticities with an eligibility are refused."""
        raise ValueError("a membrane that is held does not follow its drive")
