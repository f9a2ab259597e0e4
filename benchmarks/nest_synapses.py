"""What NEST makes of synapses and of Hodgkin's and Huxley's neuron, for tests/test_reference_synapses.py.

    python benchmarks/nest_synapses.py        # with nest (3.10.0 made the figures) and numpy

The ten sources of brian2_synapses.py onto one neuron. Currents in steps of 0.1 ms: numbers of the steps that spike, as
ours are counted. Conductances in steps of 1 us, where what NEST does within a step no longer matters: times in ms.
Hodgkin's and Huxley's neuron, under a current and under alpha synapses: when it passes 0 mV on its way up, in steps of
1 us; NEST counts a spike at its peak.

NMDA receptors are those of iaf_bw_2001_exact, beside AMPA and GABA: their gate follows ds/dt = -s / tau_decay + alpha x
(1 - s), where x jumps by 1 and decays with tau_rise, so that it saturates. Ours does not. For a small alpha 1 - s is 1,
and alpha x a difference of exponentials, of which a weight of 1 is alpha tau_rise tau_decay / (tau_decay - tau_rise).
The block by magnesium is the same. Weights are those of brian2_synapses.py.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from brian2_synapses import DT, SOURCES, STEPS, arrivals, norm

FINE = 1e-3  # ms
LEAKY = {"tau_m": 20.0, "C_m": 250.0, "E_L": -65.0, "V_m": -65.0, "V_th": -50.0, "V_reset": -70.0, "t_ref": 1.9}
CURRENTS = {  # model: constants besides, weight in pA; 250 pA are 20 mV
    "iaf_psc_exp": ({"tau_syn_ex": 5.0}, 275.0),
    "iaf_psc_alpha": ({"tau_syn_ex": 2.0}, 275.0),
}
CONDUCTING = {key: value for key, value in LEAKY.items() if key not in ("tau_m", "t_ref")} | {
    "g_L": 12.5, "t_ref": 2.0, "E_ex": 0.0, "E_in": -75.0,
}  # fmt: skip
CONDUCTANCES = {
    "iaf_cond_exp": {"tau_syn_ex": 5.0, "tau_syn_in": 10.0},
    "iaf_cond_alpha": {"tau_syn_ex": 2.0, "tau_syn_in": 5.0},
    "iaf_cond_beta": {"tau_rise_ex": 1.0, "tau_decay_ex": 5.0, "tau_rise_in": 1.0, "tau_decay_in": 10.0},
}
EXCITING, INHIBITING, EXCITATORY = 7.5, 10.0, 7  # nS; sources
ALPHA, RISE, FALL = 1e-7, 2.0, 100.0  # 1 / ms, ms, ms
GATES = {"alpha": ALPHA, "tau_AMPA": 5.0, "tau_GABA": 10.0, "tau_rise_NMDA": RISE, "tau_decay_NMDA": FALL}
NMDA = 0.15 * 12.5 * norm(RISE, FALL) * (FALL - RISE) / (RISE * FALL * ALPHA)  # nS, by what a weight of 1 is
GATED, CURRENT, WEIGHT = {"tau_syn_ex": 2.0}, 700.0, 450.0  # pA


def started(nest: Any, dt: float) -> None:
    """A kernel with steps of so many ms."""
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.ResetKernel()
    nest.resolution, nest.print_time = dt, False


def given(nest: Any, cell: Any, weights: list[float], dt: float, receptors: list[str] | None = None) -> None:
    """The sources, two steps late, since nothing can arrive in the first; a weight of 0 is no synapse.

    `receptors` names where each arrives, of neurons that tell them apart.
    """
    ports = [{"receptor_type": cell.receptor_types[name]} for name in receptors] if receptors else [{}] * SOURCES
    for train, weight, port in zip(arrivals().T, weights, ports, strict=True):
        times = np.flatnonzero(train) * DT * 1e3 + dt
        if weight:
            source = nest.Create("spike_generator", params={"spike_times": np.round(times, 9)})
            nest.Connect(source, cell, syn_spec={"weight": weight, "delay": dt, **port})


def fired(nest: Any, cell: Any, dt: float) -> np.ndarray:
    """Times of the spikes in ms, without those two steps."""
    recorder = nest.Create("spike_recorder")
    nest.Connect(cell, recorder)
    nest.Simulate(STEPS * DT * 1e3 + 2 * dt)
    return recorder.events["times"] - 2 * dt


def currents(nest: Any) -> dict[str, list[int]]:
    """Steps of 0.1 ms that spike."""
    found, dt = {}, DT * 1e3
    for name, (constants, weight) in CURRENTS.items():
        started(nest, dt)
        cell = nest.Create(name, params={**LEAKY, **constants})
        given(nest, cell, [weight] * SOURCES, dt)
        found[name] = [round(time / dt) - 1 for time in fired(nest, cell, dt)]
    return found


def conductances(nest: Any) -> dict[str, list[float]]:
    """Times of spikes, ms."""
    found = {}
    for name, constants in CONDUCTANCES.items():
        started(nest, FINE)
        cell = nest.Create(name, params={**CONDUCTING, **constants})
        given(nest, cell, [EXCITING] * EXCITATORY + [-INHIBITING] * (SOURCES - EXCITATORY), FINE)
        found[name] = [round(float(time), 3) for time in fired(nest, cell, FINE)]
    return found


def unblocked(nest: Any) -> list[float]:
    """Times of spikes under AMPA, NMDA and GABA, ms."""
    started(nest, FINE)
    cell, others = nest.Create("iaf_bw_2001_exact", params={**CONDUCTING, **GATES}), SOURCES - EXCITATORY
    given(nest, cell, [EXCITING] * EXCITATORY + [INHIBITING] * others, FINE, ["AMPA"] * EXCITATORY + ["GABA"] * others)
    given(nest, cell, [NMDA] * EXCITATORY + [0.0] * others, FINE, ["NMDA"] * SOURCES)
    return [round(float(time), 3) for time in fired(nest, cell, FINE)]


def gated(nest: Any, driven: bool) -> list[float]:
    """When the membrane passes 0 mV on its way up, ms."""
    started(nest, FINE)
    cell = nest.Create("hh_psc_alpha", params={**GATED, "I_e": 0.0 if driven else CURRENT})
    if driven:
        given(nest, cell, [WEIGHT] * SOURCES, FINE)
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": FINE})
    nest.Connect(meter, cell)
    nest.Simulate(100.0)
    v, times = meter.events["V_m"], meter.events["times"]
    up = np.flatnonzero((v[:-1] <= 0) & (v[1:] > 0)) + 1
    return [round(float(time) - (2 * FINE if driven else 0), 3) for time in times[up]]


def main() -> None:
    """Print all figures."""
    nest = importlib.import_module("nest")
    figures = {"currents": currents(nest), "conductances": conductances(nest)}
    figures |= {"nmda": unblocked(nest)}
    figures |= {"under a current": gated(nest, False), "under synapses": gated(nest, True)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
