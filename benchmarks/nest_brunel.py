"""Brunel's four regimes here and in NEST: rate, CV of intervals, synchrony and global frequency, a few seeds each.

    python benchmarks/nest_brunel.py --peers PYTHON                      # an interpreter with nest (3.10.0) and numpy
    python benchmarks/nest_brunel.py --peers PYTHON --white-noise        # CVs under Poisson spikes of the same rates

The network of models/brunel-network.toml: 12,500 neurons, 1,000 and 250 synapses each of 0.1 and -0.1 g mV, delays of
1.5 ms, Poisson spikes of 0.1 mV, refractory for 2 ms (NEST's t_ref is a step less), steps of 0.1 ms. Both begin with
the step in which sources first reach a neuron. Synapses and Poisson spikes are every seed's own, so that figures agree
as those of two seeds of one simulator do. They are of 1,000 excitatory neurons, of a window that begins after 100 ms;
synchrony is that of counts in bins of 1 ms.

In the synchronous regular regime two groups of neurons spike in turn, each within a step or two every 3.0 ms, in both
simulators. Its rate is a whole number of spikes in the window, 66 or 67, by where that cuts, and its synchrony depends
on how the two groups share the neurons, both by the seed.

White noise: neurons which take no part hear independent Poisson spikes at the rates of NEST's network, which is what
theory takes for granted, and nobody hears them. Their CV beside that of the network, of windows of two lengths.
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from spike_statistics import Spikes, irregularity, oscillation, synchrony

DT, DELAY = 0.1, 1.5  # ms
SIZES, DEGREES = {"exc": 10_000, "inh": 2_500}, {"exc": 1_000, "inh": 250}
WEIGHT, THRESHOLD_RATE = 0.1, 10_000.0  # mV; Hz of all sources that just reach the threshold
NEURON = {
    "tau_m": 20.0, "C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "V_th": 20.0, "V_reset": 10.0, "t_ref": 2.0 - DT, "I_e": 0.0,
}  # fmt: skip
OBSERVED, SETTLED = 1_000, 100.0  # neurons; ms
SHORT = 500.0  # ms, end of the shorter window of white noise


class Regime(NamedTuple):
    """Inhibition by excitation, rate of the sources by that which just reaches the threshold, and s simulated."""

    g: float
    external: float
    seconds: float


def started(seed: int) -> Any:
    """A kernel of NEST, with nothing in it."""
    nest: Any = importlib.import_module("nest")
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.ResetKernel()
    nest.resolution, nest.local_num_threads, nest.rng_seed, nest.print_time = DT, 1, seed + 1, False  # 0 is none
    return nest


def observed(nest: Any, group: Any, seconds: float) -> Spikes:
    """Spikes of OBSERVED neurons as they run, [steps, OBSERVED], from the step in which sources first reach them."""
    recorder = nest.Create("spike_recorder")
    nest.Connect(group[:OBSERVED], recorder)
    nest.Simulate(seconds * 1e3 + DT)
    spikes = np.zeros((round(seconds * 1e3 / DT) + 1, OBSERVED), np.float32)
    steps = np.rint(recorder.events["times"] / DT).astype(int) - 1
    spikes[steps, recorder.events["senders"] - group[0].global_id] = 1
    return spikes[1:]


def in_nest(regime: Regime, seed: int) -> Spikes:
    """Spikes of the network."""
    nest = started(seed)
    groups = {name: nest.Create("iaf_psc_delta", size, NEURON) for name, size in SIZES.items()}
    weights = {"exc": WEIGHT, "inh": -WEIGHT * regime.g}
    outside = nest.Create("poisson_generator", params={"rate": regime.external * THRESHOLD_RATE})
    for post in groups.values():
        nest.Connect(outside, post, "all_to_all", {"weight": WEIGHT, "delay": DT})
        for pre, group in groups.items():
            rule = {"rule": "fixed_indegree", "indegree": DEGREES[pre], "allow_multapses": False}
            nest.Connect(group, post, rule, {"weight": weights[pre], "delay": DELAY})
    return observed(nest, groups["exc"], regime.seconds)


def under_white_noise(regime: Regime, rate: float, seed: int) -> Spikes:
    """Spikes of neurons under Poisson spikes that come as often as those of the network, of all their synapses."""
    nest = started(seed)
    group = nest.Create("iaf_psc_delta", OBSERVED, NEURON)
    for weight, heard in (
        (WEIGHT, regime.external * THRESHOLD_RATE + DEGREES["exc"] * rate),
        (-WEIGHT * regime.g, DEGREES["inh"] * rate),
    ):
        noise = nest.Create("poisson_generator", params={"rate": heard})
        nest.Connect(noise, group, "all_to_all", {"weight": weight, "delay": DT})
    return observed(nest, group, regime.seconds)


def here(regime: Regime, seed: int) -> Spikes:
    """Spikes of the network of this project."""
    import neurosbd

    settings: dict[str, object] = {"simulation.duration": regime.seconds, "simulation.report": regime.seconds}
    settings |= {f"connection.{n}.weight.value": -1e-3 * WEIGHT * regime.g for n in (2, 3)}
    settings |= {f"stimulus.{n}.rate": 10.0 * regime.external for n in (0, 1)}
    with tempfile.TemporaryDirectory() as folder:
        run = neurosbd.simulate("brunel-network", seed=seed, settings=settings, out=f"{folder}/run")
        return run.trace["exc.spikes"][:][:, 0]


def figures(spikes: Spikes) -> dict[str, float]:
    """Of the window that begins after SETTLED."""
    spikes = spikes[round(SETTLED / DT) :]
    found = {"rate": float(spikes.mean()) / DT * 1e3, "cv": irregularity(spikes)}
    return found | {"synchrony": synchrony(spikes, round(1 / DT)), "frequency": oscillation(spikes, DT * 1e-3)}


def theirs(peers: str, regime: Regime, seed: int, rate: float | None = None) -> tuple[Spikes, float]:
    """Spikes of NEST, in a process of its own, and the s that the processor spent; under white noise with a rate."""
    with tempfile.TemporaryDirectory() as folder:
        what = [*map(str, regime), str(seed), "network" if rate is None else str(rate), f"{folder}/spikes.npz"]
        ran = subprocess.run([peers, __file__, "--child", *what], capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(ran.stderr.strip().splitlines()[-1])
        found = np.load(f"{folder}/spikes.npz")
        return found["spikes"], float(found["cpu"])


def child(g: str, external: str, seconds: str, seed: str, rate: str, file: str) -> None:
    """In a process with NEST: leave spikes in a file."""
    regime = Regime(float(g), float(external), float(seconds))
    spikes = in_nest(regime, int(seed)) if rate == "network" else under_white_noise(regime, float(rate), int(seed))
    np.savez(file, spikes=spikes, cpu=time.process_time())


def beside(name: str, regime: Regime, peers: str, seeds: list[int]) -> None:
    """Print figures of all seeds of both, a line for each, and of both together."""
    both: dict[str, list[dict[str, float]]] = {"here": [], "nest": []}
    for seed in seeds:
        spent = -time.process_time()
        both["here"].append(figures(here(regime, seed)))
        spent += time.process_time()
        spikes, cpu = theirs(peers, regime, seed)
        both["nest"].append(figures(spikes))
        lines = {who: {key: round(value, 4) for key, value in each[-1].items()} for who, each in both.items()}
        print(json.dumps({"regime": name, "seed": seed, **lines, "cpu": [round(spent), round(cpu)]}), flush=True)
    for what in both["here"][0]:
        told = []
        for who, each in both.items():
            values = [figure[what] for figure in each]
            told.append(f"{who} {statistics.mean(values):.4g} ({min(values):.4g} to {max(values):.4g})")
        print(f"{name}: {what}: {', '.join(told)}", flush=True)


def white_noise(regime: Regime, peers: str, seed: int) -> None:
    """Print rate and CV of windows of two lengths, of the network in NEST and of neurons under white noise."""
    spikes, _ = theirs(peers, regime, seed)
    alone, _ = theirs(peers, regime, seed, figures(spikes)["rate"])
    for end in (SHORT, regime.seconds * 1e3):
        for what, each in (("network", spikes), ("white noise", alone)):
            found = figures(each[: round(end / DT)])
            print(f"{what}, until {end:g} ms: rate {found['rate']:.1f} Hz, CV {found['cv']:.3f}", flush=True)


def main() -> None:
    """All regimes that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="a Python interpreter that has nest")
    parser.add_argument("--regimes", nargs="+", help="letters of figure 8, as 8C; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--white-noise", action="store_true")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    from published import REGIMES

    for name, (g, external, seconds, *_) in REGIMES.items():
        if options.regimes and name[:2] not in options.regimes:
            continue
        if options.white_noise:
            white_noise(Regime(g, external, 4.1), options.peers, options.seeds[0])
        else:
            beside(name, Regime(g, external, seconds), options.peers, options.seeds)


if __name__ == "__main__":
    main()
