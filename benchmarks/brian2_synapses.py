"""What Brian2 makes of synapses with dynamics: the figures that tests/test_reference_synapses.py keeps.

    python benchmarks/brian2_synapses.py        # with brian2 (2.9.0 made the figures) and numpy

Ten sources with given spikes onto one neuron, in steps of 0.1 ms: currents that jump, rise and fall; conductances of
AMPA, GABA and NMDA receptors; short-term plasticity. Printed are the steps in which the neuron spikes, as ours are
counted: a spike of its step n + 1 is one of our step n, see brian2_plasticity.py.
"""

import importlib
import json
from typing import Any

import numpy as np

DT, STEPS, SOURCES = 1e-4, 1500, 10

LIF = "dv/dt = (-65*mV - v + {current}) / (20*ms) : volt (unless refractory)\n"
CURRENTS = {
    "exponential": ("dc/dt = -c / (5*ms) : volt", "c_post += w", 22.0),
    "alpha": ("dc/dt = (a - c) / (2*ms) : volt\nda/dt = -a / (2*ms) : volt", "a_post += exp(1) * w", 22.0),
    "double_exponential": (
        "c = s - f : volt\nds/dt = -s / (6*ms) : volt\ndf/dt = -f / (1*ms) : volt",
        "s_post += {norm} * w; f_post += {norm} * w",
        16.0,
    ),
}  # equations, effect of a spike, weight in mV


def arrivals() -> np.ndarray:
    """Spikes of the sources, [STEPS, SOURCES], 0 or 1."""
    random = np.random.default_rng(3)
    return (random.random((STEPS, SOURCES)) < 30 * DT).astype(float)


def norm(rise: float, decay: float) -> float:
    """Makes the peak of a difference of exponentials 1."""
    peak = rise * decay / (decay - rise) * np.log(decay / rise)
    return float(1 / (np.exp(-peak / decay) - np.exp(-peak / rise)))


def sources(b2: Any) -> Any:
    """Those spikes as Brian2 takes them."""
    steps, units = np.nonzero(arrivals())
    return b2.SpikeGeneratorGroup(SOURCES, units, steps * DT * b2.second)


def spikes(b2: Any, group: Any, *parts: Any) -> list[int]:
    """Steps of a run in which the neuron spikes, as ours are counted."""
    monitor = b2.SpikeMonitor(group)
    network = b2.Network(group, monitor, *parts)
    network.run(STEPS * DT * b2.second)
    return [round(float(t) / DT) - 1 for t in monitor.t / b2.second]


def currents(b2: Any) -> dict[str, list[int]]:
    """A leaky neuron under each kind of current."""
    found = {}
    for name, (equations, effect, weight) in CURRENTS.items():
        equations = LIF.format(current="c") + equations
        group = b2.NeuronGroup(
            1, equations, threshold="v > -50*mV", reset="v = -70*mV", refractory=2 * b2.ms, method="exact"
        )
        group.v = -65 * b2.mV
        given = sources(b2)
        synapses = b2.Synapses(given, group, "w : volt", on_pre=effect.format(norm=norm(1.0, 6.0)))
        synapses.connect()
        synapses.w = weight * b2.mV
        found[name] = spikes(b2, group, given, synapses)
    return found


def conductances(b2: Any) -> list[int]:
    """A leaky neuron under AMPA, NMDA (block of the beginning of the step) and GABA; two connections of one source."""
    equations = """
    dv/dt = (-65*mV - v - (g_a + g_n * b) * v + g_g * (-75*mV - v)) / (20*ms) : volt (unless refractory)
    b = 1 / (1 + 1 / 3.57 * exp(-0.062 * v / mV)) : 1 (constant over dt)
    g_n = s - f : 1
    dg_a/dt = -g_a / (5*ms) : 1
    dg_g/dt = -g_g / (10*ms) : 1
    ds/dt = -s / (100*ms) : 1
    df/dt = -f / (2*ms) : 1
    """
    group = b2.NeuronGroup(
        1, equations, threshold="v > -50*mV", reset="v = -70*mV", refractory=2 * b2.ms, method="exponential_euler"
    )
    group.v = -65 * b2.mV
    given = sources(b2)
    scale = norm(2.0, 100.0)
    excitatory = b2.Synapses(
        given, group, on_pre=f"g_a_post += 0.6; s_post += {scale} * 0.15; f_post += {scale} * 0.15"
    )
    excitatory.connect("i < 7")
    inhibitory = b2.Synapses(given, group, on_pre="g_g_post += 0.8")
    inhibitory.connect("i >= 7")
    return spikes(b2, group, given, excitatory, inhibitory)


def short_term(b2: Any) -> dict[str, list[float]]:
    """What the first twelve spikes of each of three kinds of synapse send."""
    found = {}
    for name, (u_0, rec, facil) in {"depressing": (0.5, 800, 1e-3), "facilitating": (0.15, 130, 530)}.items():
        given = sources(b2)
        group = b2.NeuronGroup(SOURCES, "got : 1")
        synapses = b2.Synapses(
            given,
            group,
            f"du/dt = -u / ({facil}*ms) : 1 (event-driven)\ndx/dt = (1 - x) / ({rec}*ms) : 1 (event-driven)",
            on_pre=f"u += {u_0} * (1 - u); got_post = u * x; x -= u * x",
        )
        synapses.connect(j="i")
        synapses.x = 1
        monitor = b2.StateMonitor(group, "got", record=True, when="end")
        b2.Network(group, given, synapses, monitor).run(STEPS * DT * b2.second)
        steps, units = np.nonzero(arrivals())
        found[name] = [float(monitor.got[unit][step]) for step, unit in zip(steps, units, strict=True)][-12:]
    return found


def main() -> None:
    """Print all figures."""
    b2 = importlib.import_module("brian2")
    b2.prefs.codegen.target = "numpy"
    b2.defaultclock.dt = DT * b2.second
    figures = {
        "currents": currents(b2), "conductances": conductances(b2), "short_term": short_term(b2),
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
