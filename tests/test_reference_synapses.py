"""Synapses with dynamics against Brian2 2.9.0; its figures are kept here, benchmarks/brian2_synapses.py makes them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.brian2_synapses import DT, SOURCES, STEPS, arrivals
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import INITIALISERS
from neurosbd.learning.simulation import unroll
from neurosbd.network import Connection, Network, Population
from neurosbd.neurons import LIF
from neurosbd.neurons.neuron import Neuron
from neurosbd.synapses import NMDA, Alpha, Conductance, DoubleExponential, Exponential, Synapse, TsodyksMarkram

THEIRS: dict[str, Any] = {
    "conductances": [71, 172, 396, 541, 629, 1156, 1464],
    "currents": {
        "alpha": [94, 186, 375, 481, 591, 706, 901, 1097, 1209, 1344, 1491],
        "double_exponential": [118, 202, 358, 465, 558, 668, 754, 910, 1086, 1204, 1306, 1472],
        "exponential": [134, 249, 424, 540, 677, 864, 1077, 1205, 1437],
    },
    "short_term": {
        "depressing": [
            0.14227636672789246,
            0.0850998060707352,
            0.04294999680366118,
            0.02471090455431163,
            0.07004457297803474,
            0.027655562711889237,
            0.08278667073008517,
            0.04280295140632606,
            0.02226178243117022,
            0.0511027740864487,
            0.06823010457808765,
            0.04561588760118951,
        ],
        "facilitating": [
            0.2561125725848291,
            0.24421444863857736,
            0.16257763078447007,
            0.16403245888901044,
            0.2588594493283034,
            0.12452555258778213,
            0.2413054820133823,
            0.18841214185266916,
            0.11477962108698625,
            0.23092754305578383,
            0.2545543033600864,
            0.17597755707145102,
        ],
    },
}
UNIT = LIF(
    20e-3, v_leak=-65e-3, v_threshold=-50e-3, v_reset=-70e-3, reset="to_value", refractory=2e-3,
    refractoriness="clamped", r=1 - math.exp(-DT / 20e-3),
)  # fmt: skip


def spiking(neuron: Neuron, synapses: list[tuple[slice, float, Synapse]], given: Tensor) -> list[int]:
    """Steps in which one neuron spikes; sources, weight and dynamics of each connection onto it."""
    nothing = Dense(weight=INITIALISERS["zeros"]())
    connections = [Connection("input", "n", nothing, label=f"c{n}", synapse=each[2]) for n, each in enumerate(synapses)]
    populations = [Population("input", (SOURCES,), None), Population("n", (1,), neuron)]
    network, found = Network(populations, connections, torch.Generator(), DT).double(), []
    with torch.no_grad():
        for weights, (sources, weight, _) in zip(network.weights.values(), synapses, strict=True):
            weights[0, sources] = weight

    def look(t: int, frame: Any) -> None:
        if frame.activity["n"].value.any():
            found.append(t)

    unroll(network, given[:, None], (look,))
    return found


SPIKES = torch.from_numpy(arrivals())
CURRENTS = {
    "exponential": (22e-3, Exponential(5e-3)),
    "alpha": (22e-3, Alpha(2e-3)),
    "double_exponential": (16e-3, DoubleExponential(1e-3, 6e-3)),
}


@pytest.mark.parametrize("name", CURRENTS)
def test_currents_spike_as_in_brian2(name: str) -> None:
    """Brian2 solves membrane and current together, exactly. Must fail for the value at the beginning of each
    step."""
    weight, synapse = CURRENTS[name]
    assert spiking(UNIT, [(slice(SOURCES), weight, synapse)], SPIKES) == THEIRS["currents"][name]


def test_conductances_spike_as_in_brian2() -> None:
    """Exponential Euler; AMPA and NMDA of the same sources, GABA of others. Must fail for a block of the potential
    after the step, and without it."""
    synapses: list[tuple[slice, float, Synapse]] = [
        (slice(7), 0.6, Conductance()),
        (slice(7), 0.15, NMDA()),
        (slice(7, 10), 0.8, Conductance(-75e-3, Exponential(10e-3))),
    ]
    assert spiking(UNIT, synapses, SPIKES) == THEIRS["conductances"]


@pytest.mark.parametrize(
    ("name", "short"),
    [("depressing", TsodyksMarkram(0.5, 0.8, 1e-6)), ("facilitating", TsodyksMarkram(0.15, 0.13, 0.53))],
)
def test_short_term_plasticity_is_that_of_brian2(name: str, short: TsodyksMarkram) -> None:
    """What the last 12 spikes send, to 1e-12. Must fail when x recovers from its value before the spike."""
    state, sent = short.init(SPIKES[:1]), []
    for arriving in SPIKES[:, None]:
        passed, state = short.step(state, arriving, DT)
        sent.append(passed[0])
    steps, units = np.nonzero(arrivals())
    found = torch.stack(sent)[torch.from_numpy(steps), torch.from_numpy(units)][-12:]
    torch.testing.assert_close(found.tolist(), THEIRS["short_term"][name], rtol=1e-12, atol=0)
    assert len(steps) > 30 and len(SPIKES) == STEPS
