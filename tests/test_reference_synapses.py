"""Synapses with dynamics against Brian2 2.9.0 and NEST 3.10.0, whose figures are kept here; those of
benchmarks/brian2_synapses.py and benchmarks/nest_synapses.py."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.brian2_synapses import DT, SOURCES, STEPS, arrivals
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import INITIALISERS
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import LIF, HodgkinHuxley
from neurosbd.neurons.neuron import Neuron
from neurosbd.synapses import (
    NMDA,
    Alpha,
    Conductance,
    DoubleExponential,
    Exponential,
    Response,
    Synapse,
    TsodyksMarkram,
)

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


def spiking(neuron: Neuron, synapses: list[tuple[slice, float, Synapse]], given: Tensor, dt: float = DT) -> list[int]:
    """Steps in which one neuron spikes; sources, weight and dynamics of each connection onto it."""
    nothing = Dense(weight=INITIALISERS["zeros"]())
    connections = [Connection("input", "n", nothing, label=f"c{n}", synapse=each[2]) for n, each in enumerate(synapses)]
    populations = [Population("input", (SOURCES,), None), Population("n", (1,), neuron)]
    network, found = Network(populations, connections, torch.Generator(), dt).double(), []
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


NEST: dict[str, list[float]] = {  # ms, of python benchmarks/nest_synapses.py, those of the first 60 ms
    "alpha": [6.72, 17.303, 55.676], "double_exponential": [6.475, 15.842, 22.726, 41.13, 54.037],
    "nmda": [7.156, 17.267, 39.758, 54.185],
    "gated": [3.623, 16.396, 37.238, 50.372], "gated, under a current": [2.377, 19.649, 36.802, 53.954],
}  # fmt: skip
UNTIL = 600  # steps of DT
Onto = list[tuple[slice, float, Synapse]]  # sources, weight and dynamics of each connection


def opened(exciting: Response, inhibiting: Response) -> Onto:
    """Two kinds of conductances."""
    return [(slice(7), 0.6, Conductance(0.0, exciting)), (slice(7, 10), 0.8, Conductance(-75e-3, inhibiting))]


OPENED: dict[str, Onto] = {
    "alpha": opened(Alpha(2e-3), Alpha(5e-3)),
    "double_exponential": opened(DoubleExponential(1e-3, 5e-3), DoubleExponential(1e-3, 10e-3)),
    "nmda": [*opened(Exponential(5e-3), Exponential(10e-3)), (slice(7), 0.15, NMDA())],
}
NEST_CURRENTS = {  # steps; iaf_psc_exp and iaf_psc_alpha
    "exponential": [134, 249, 424, 540, 677, 864, 1077, 1205, 1437],
    "alpha": [94, 186, 375, 481, 591, 706, 901, 1097, 1209, 1344, 1491],
}


def late(name: str, finer: int) -> float:
    """Mean distance in ms of spikes from those of NEST, with steps of DT over `finer`."""
    dt = DT / finer
    given = torch.zeros(UNTIL * finer, SOURCES, dtype=torch.float64)
    given[::finer] = 0.0 if name == "gated, under a current" else SPIKES[:UNTIL]
    if name in OPENED:
        neuron: Neuron = replace(UNIT, r=1 - math.exp(-dt / 20e-3), refractory=2e-3 + dt)
        steps = spiking(neuron, OPENED[name], given, dt)
    else:
        current = 700e-12 / 30e-9 if name == "gated, under a current" else 0.0
        neuron = HodgkinHuxley(v_leak=-54.402e-3 + current)
        steps = spiking(neuron, [(slice(10), 450e-12 / 30e-9, Alpha(2e-3))], given, dt)
    assert len(steps) == len(NEST[name])
    return float(np.abs(np.array([(n + 1) * dt * 1e3 for n in steps]) - NEST[name]).mean())


@pytest.mark.parametrize("name", NEST_CURRENTS)
def test_currents_spike_as_in_nest(name: str) -> None:
    """Step for step; its weights are 275 pA for 250 pF and 20 ms, which are 22 mV.

    Must fail for the value at the beginning of each step (tried).
    """
    weight, synapse = CURRENTS[name]
    assert spiking(UNIT, [(slice(10), weight, synapse)], SPIKES) == NEST_CURRENTS[name]


@pytest.mark.parametrize("name", NEST)
def test_conductances_and_gates_come_near_to_nest_as_steps_become_shorter(name: str) -> None:
    """NEST in steps of 1 us: iaf_cond_alpha, iaf_cond_beta, iaf_bw_2001_exact, whose NMDA receptors do not saturate
    there, and hh_psc_alpha, which it counts on its way through 0 mV.

    A quarter of the step brings spikes to between a third and a sixth of their distance: the order is one. A current
    of I is a leak that pulls to v_leak + I / g_leak. Must fail when conductances are half as large, or
    magnesium blocks half as much (tried: both).
    """
    coarse, fine = late(name, 1), late(name, 4)
    assert 3 < coarse / fine < 6 and fine < (0.5 if "gated" in name else 0.05)
