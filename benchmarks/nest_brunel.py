"""Brunel's asynchronous irregular state in NEST: rate and CV of intervals, beside those of the shipped model.

    python benchmarks/nest_brunel.py --seconds 2.1        # with nest (3.10.0 made the figures) and numpy; 5 minutes

The network of models/brunel-network.toml: 12,500 neurons, 1,000 and 250 synapses each of 0.1 and -0.5 mV, delays of
1.5 ms, Poisson spikes of 0.1 mV at 20 kHz, refractory for 2 ms (NEST's t_ref is a step less), steps of 0.1 ms.
CVs are means over 1,000 excitatory neurons, as in benchmarks/published.py, of windows that begin after 100 ms: the same
trains seen for longer. The last column is that of neurons which take no part: they hear independent Poisson spikes at
the rates of the network, which is what theory under white noise takes for granted, and nobody hears them.
"""

import argparse
import importlib
import json
from typing import Any

import numpy as np

DT, DELAY = 0.1, 1.5  # ms
SIZES, DEGREES = {"exc": 10_000, "inh": 2_500}, {"exc": 1_000, "inh": 250}
WEIGHTS = {"exc": 0.1, "inh": -0.5}  # mV
OUTSIDE = 20_000.0  # Hz
NEURON = {
    "tau_m": 20.0, "C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "V_th": 20.0, "V_reset": 10.0, "t_ref": 2.0 - DT, "I_e": 0.0,
}  # fmt: skip
OBSERVED, SETTLED = 1_000, 100.0  # neurons; ms
ALONE = 1_000  # neurons under Poisson spikes


def irregularity(times: np.ndarray, senders: np.ndarray, end: float) -> tuple[float, float]:
    """(rate in Hz, mean CV of the intervals of trains with five or more) of a window, ms."""
    inside = (times > SETTLED) & (times <= end)
    times, senders = times[inside], senders[inside]
    trains = [np.diff(np.sort(times[senders == one])) for one in np.unique(senders)]
    cvs = [train.std() / train.mean() for train in trains if len(train) >= 5]
    return len(times) / OBSERVED / (end - SETTLED) * 1e3, float(np.mean(cvs))


def simulated(seconds: float, threads: int, seed: int) -> dict[str, Any]:
    """A run: figures of windows that end at different times, and of neurons that hear white noise."""
    nest: Any = importlib.import_module("nest")
    nest.set_verbosity("M_ERROR")
    nest.ResetKernel()
    nest.resolution, nest.local_num_threads, nest.rng_seed, nest.print_time = DT, threads, seed, False
    groups = {name: nest.Create("iaf_psc_delta", size, NEURON) for name, size in SIZES.items()}
    outside = nest.Create("poisson_generator", params={"rate": OUTSIDE})
    for post in groups.values():
        nest.Connect(outside, post, "all_to_all", {"weight": WEIGHTS["exc"], "delay": DELAY})
        for pre, group in groups.items():
            rule = {"rule": "fixed_indegree", "indegree": DEGREES[pre], "allow_multapses": False}
            nest.Connect(group, post, rule, {"weight": WEIGHTS[pre], "delay": DELAY})
    recorder = nest.Create("spike_recorder")
    nest.Connect(groups["exc"][:OBSERVED], recorder)
    nest.Simulate(seconds * 1e3)
    events = recorder.events
    ends = sorted({500.0, seconds * 1e3} & set(np.arange(0.0, seconds * 1e3 + 1, 100.0)))
    found = {f"{end:g} ms": irregularity(events["times"], events["senders"], end) for end in ends}
    return {"network": found, "white noise": alone(nest, found[f"{ends[-1]:g} ms"][0], seconds, seed)}


def alone(nest: Any, rate: float, seconds: float, seed: int) -> dict[str, tuple[float, float]]:
    """Neurons under Poisson spikes that come as often as those of the network, of all their synapses."""
    nest.ResetKernel()
    nest.resolution, nest.rng_seed, nest.print_time = DT, seed, False
    group, recorder = nest.Create("iaf_psc_delta", ALONE, NEURON), nest.Create("spike_recorder")
    for name, own in (("exc", OUTSIDE), ("inh", 0.0)):
        noise = nest.Create("poisson_generator", params={"rate": own + DEGREES[name] * rate})
        nest.Connect(noise, group, "all_to_all", {"weight": WEIGHTS[name], "delay": DELAY})
    nest.Connect(group, recorder)
    nest.Simulate(seconds * 1e3)
    events = recorder.events
    ends = {500.0, seconds * 1e3}
    return {f"{end:g} ms": irregularity(events["times"], events["senders"], end) for end in sorted(ends)}


def main() -> None:
    """Run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(simulated(options.seconds, options.threads, options.seed)))


if __name__ == "__main__":
    main()
