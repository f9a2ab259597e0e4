"""Voltage clamp: the potential that membranes are held at over time."""

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from neurosbd.schema.constants import NotNegativeSeconds, Range, Whole, constants
from neurosbd.stimuli.stimulus import StepsDone, check_steps, shown, stepped


@constants(called="voltage_clamp")
class VoltageClamp:
    """The membranes of units are held: from times[n] on at values[n], whatever reaches them.

    The current that it takes is recorded as `clamp` of the population, in A where the neuron knows its g_leak, else in
    the unit of its drive: what the held membrane needs in a step besides what its synapses and other stimuli give it.
    Up to times[0] nothing is held.

    Args:
        times: s, >= 0, ascending, in whole steps.
        values: potentials, as many: V, or thresholds of neurons that count in them.
        units: that are held: 0, 1, 2, ...; none: all.
    Raises:
        ValueError: if there are more of one than of the other, or a time is not after the one before.
    Source: Hodgkin, Huxley, Katz 1952, J. Physiol. 116; the ideal clamp, without a series resistance.
    """

    fires: ClassVar[bool] = False
    times: tuple[NotNegativeSeconds, ...] = (0.0,)
    values: tuple[Annotated[float, Range(unit="V")], ...] = (-20e-3,)
    units: tuple[Whole, ...] = ()

    def __post_init__(self) -> None:
        check_steps(self.times, self.values, "voltage_clamp")

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """Units that are there."""
        count = torch.Size(size).numel()
        if self.units and max(self.units) >= count:
            raise ValueError(
                f"voltage_clamp.units: unit {max(self.units)} is not there; the population has {count}, 0..{count - 1}"
            )

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> StepsDone:
        """Its beginning."""
        return StepsDone(0)

    def block(self, state: StepsDone, like: Tensor, steps: int, dt: float) -> tuple[Tensor, StepsDone]:
        """What it commands at every step, [steps, B, *size]; 0 where nothing is held."""
        command = self.command(state.done, steps, dt, like.device).view(steps, *(1 for _ in like.shape))
        return shown(command * self.held(like), like), StepsDone(state.done + steps)

    def command(self, done: int, steps: int, dt: float, device: torch.device) -> Tensor:
        """Potential that is commanded at the next steps, [steps], float64; 0 before times[0]."""
        return stepped(self.times, self.values, done, steps, dt, device)

    def held(self, like: Tensor) -> Tensor:
        """1 for units that are held, 0 for the others, [*size]."""
        size = like.shape[1:]
        if not self.units:
            return like.new_ones(size)
        at = torch.tensor(self.units, device=like.device)
        return like.new_zeros(size.numel()).index_fill_(0, at, 1.0).view(size)
