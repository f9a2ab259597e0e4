"""Stimuli: what reaches a population from outside the network over time, spikes or currents."""

from collections.abc import Callable

from neurosbd.schema.namespace import is_table
from neurosbd.stimuli.currents import Current, CurrentSteps, NoiseCurrent, Ramp, Sine
from neurosbd.stimuli.dataset import Items
from neurosbd.stimuli.poisson import Poisson
from neurosbd.stimuli.regular import Regular
from neurosbd.stimuli.spikes import SpikeTrains
from neurosbd.stimuli.stimulator import Stimulator
from neurosbd.stimuli.stimulus import Stimulation, Stimulus, check_span, fires
from neurosbd.stimuli.voltage_clamp import VoltageClamp

STIMULI: dict[str, Callable[..., Stimulus]] = {
    "poisson": Poisson,
    "regular": Regular,
    "spikes": SpikeTrains,
    "dataset": Items,
    "current": Current,
    "current_steps": CurrentSteps,
    "ramp": Ramp,
    "sine": Sine,
    "noise_current": NoiseCurrent,
    "voltage_clamp": VoltageClamp,
}
is_table(__name__, STIMULI)


__all__ = [
    "STIMULI", "Current", "CurrentSteps", "Items", "NoiseCurrent", "Poisson", "Ramp", "Regular", "Sine", "SpikeTrains",
    "Stimulation", "Stimulator", "Stimulus", "VoltageClamp", "check_span", "fires",
]  # fmt: skip
