"""Firing patterns of two papers, with the currents of benchmarks/brian2_neurons.py, spike for spike with Brian2."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurosbd.neurons import AdEx, Izhikevich
from neurosbd.neurons.neuron import Neuron
from tests.synthetic import loaded

# brian2 2.9.0, `python benchmarks/brian2_neurons.py`: how many spikes, and the steps of the first twelve
QUADRATIC: dict[str, tuple[int, list[int]]] = {
    "tonic spiking": (5, [52, 68, 123, 233, 342]),
    "phasic spiking": (1, [174]),
    "tonic bursting": (29, [100, 106, 113, 120, 128, 136, 145, 155, 166, 180, 199, 336]),
    "phasic bursting": (7, [194, 213, 233, 255, 280, 309, 348]),
    "mixed mode": (6, [80, 91, 108, 262, 390, 518]),
    "spike frequency adaptation": (6, [41, 49, 60, 79, 167, 282]),
    "class 1": (10, [338, 501, 624, 727, 817, 898, 972, 1041, 1105, 1166]),
    "class 2": (16, [420, 500, 572, 637, 696, 751, 805, 857, 903, 948, 993, 1038]),
    "spike latency": (1, [114]),
    "subthreshold oscillations": (1, [106]),
    "resonator": (1, [1345]),
    "integrator": (1, [80]),
    "rebound spike": (1, [308]),
    "rebound burst": (11, [308, 322, 337, 353, 370, 388, 408, 430, 455, 485, 531]),
    "threshold variability": (1, [372]),
    "bistability": (7, [180, 335, 490, 645, 800, 901, 1056]),
    "depolarising after-potential": (4, [113, 159, 233, 305]),
    "accommodation": (1, [623]),
    "inhibition-induced spiking": (4, [189, 312, 436, 515]),
    "inhibition-induced bursting": (388, [173, 177, 181, 185, 189, 193, 197, 201, 205, 209, 213, 217]),
}  # fmt: skip
EXPONENTIAL: dict[str, tuple[int, list[int]]] = {
    "tonic": (30, [287, 469, 655, 843, 1033, 1225, 1418, 1612, 1806, 2001, 2196, 2391]),
    "adapting": (8, [301, 530, 822, 1218, 1810, 2768, 4123, 5620]),
    "initial burst": (7, [112, 184, 335, 1433, 2718, 3999, 5280]),
    "regular bursting": (6, [326, 389, 496, 3133, 3245, 5910]),
    "delayed accelerating": (18, [674, 1090, 1475, 1837, 2180, 2508, 2824, 3130, 3427, 3716, 3998, 4274]),
    "delayed bursting": (16, [1147, 1215, 1305, 1450, 2544, 2614, 2708, 2870, 3986, 4056, 4149, 4306]),
    "transient": (1, [608]),
}  # fmt: skip


@pytest.fixture(scope="module")
def patterns() -> Any:
    """Constants and currents, as the script has them."""
    return loaded("benchmarks/brian2_neurons.py")


def spikes(neuron: Neuron, drives: Tensor, dt: float) -> list[list[int]]:
    """Numbers of the steps in which each unit spikes, driven by [steps, units]."""
    state, train = neuron.init(drives[:1]), []
    for drive in drives:
        activity, state = neuron.step(state, drive[None], dt)
        train.append(activity.value)
    return [unit.nonzero().flatten().tolist() for unit in torch.cat(train).T]


@torch.no_grad()
@pytest.mark.parametrize("name", QUADRATIC)
def test_izhikevichs_patterns_are_those_of_brian2(patterns: Any, name: str) -> None:
    """Step for step. His script updates v before u, which shifts spikes; two of the twenty are seen under that order
    alone, whatever the step: one spike with a depolarised potential after it, where the equations spike on, and bursts
    under inhibition, where they never stop.

    Must fail when v starts at c, recovery rests at 0 or leaks for the accommodating neuron, and when class 1 has the
    polynomial of the others (tried: all).
    """
    one = patterns.IZHIKEVICH[name]
    constants = {
        key: one._asdict()[key] for key in ("a", "b", "c", "d", "v_start", "slope", "offset", "v_recovery", "leak")
    }
    t = np.arange(round(one.duration / one.dt)) * one.dt
    (found,) = spikes(Izhikevich(**constants), torch.from_numpy(one.current(t))[:, None], one.dt * 1e-3)
    assert (len(found), found[:12]) == QUADRATIC[name]


@torch.no_grad()
def test_patterns_of_adex_are_those_of_brian2(patterns: Any) -> None:
    """Step for step, potentials in mV; every unit of a population is another pattern. Must fail when the adaptation
    does not jump, or all reset to one potential (tried)."""
    dt, cases = patterns.ADEX_DT, [patterns.ADEX[name] for name in EXPONENTIAL]
    capacitance, leak, v_leak, a, tau_adapt, b, v_reset, current = torch.tensor(cases, dtype=torch.float64).T
    neuron = AdEx(
        capacitance / leak * 1e-3, tau_adapt * 1e-3, a / leak, b / leak, v_leak, -50.0, 2.0, 0.0, v_reset,
    )  # fmt: skip
    drive = (current / leak).expand(round(patterns.ADEX_DURATION / dt), -1)
    for name, found in zip(EXPONENTIAL, spikes(neuron, drive, dt * 1e-3), strict=True):
        assert (len(found), found[:12]) == EXPONENTIAL[name], name
