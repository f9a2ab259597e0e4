"""The network of networks.py, the very same synapses and outside spikes, in other simulators: do conventions matter?

    python benchmarks/same_network.py --neurons 1000 --peers PYTHON PYTHON     # that have brian2, nest or bindsnet

Synapses are fixed, as drawn by numpy, and every neuron hears the same spikes of its own. A delta acts before the leak
of its step or behind it: Brian2 looks at thresholds before synapses, so that what arrives leaks for a step before it
counts, 5 % of all weights at 1 ms; "synapses first" is Brian2 with that order exchanged, which is the one of NEST and
of this project. NEST holds a membrane for t_ref and one step more; "t_ref" takes that step off. Printed, as JSON: rates
in Hz, how many spikes there are, and how many before the first that differs from ours.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from in_bindsnet import Neurons, built
from networks import DT, INHIBITION, OUTSIDE, REFRACTORY, TAU, net_of

Spikes = np.ndarray  # [spikes, 2]: step and neuron, excitatory ones first, sorted


def drawn(neurons: int, duration: float, seed: int, folder: Path) -> None:
    """Synapses and outside spikes, for all simulators."""
    net, random = net_of(neurons), np.random.default_rng(seed)
    signs = np.repeat([1.0, -INHIBITION], list(net.sizes.values()))
    joined = random.random((neurons, neurons)) < net.density
    outside = random.poisson(OUTSIDE["rate"] * DT, (round(duration / DT), neurons))
    np.savez(folder / "net.npz", weight=joined * signs * net.weight, joined=joined, outside=outside.astype(np.uint8))


def ours(given: Any, sizes: dict[str, int], folder: Path) -> Spikes:
    """This project, float64."""
    import torch

    import neurosbd

    dense, lif, bounds = neurosbd.connections["dense"], neurosbd.neurons["lif"], _bounds(sizes)
    populations = [
        neurosbd.Population(
            name, (size,), lif(tau_mem=TAU, refractory=REFRACTORY[name], refractoriness="clamped", reset="to_value")
        )
        for name, size in sizes.items()
    ]
    connections, stimuli = [], []
    for post in sizes:
        for pre in sizes:
            place = bounds[post], bounds[pre]
            files = {}
            for what in ("weight", "joined"):
                files[what] = str(folder / f"{pre}{post}{what}.npy")
                np.save(files[what], given[what][place])
            geometry = dense(
                weight=neurosbd.initialisers["file"](files["weight"]), storage="sparse",
                wiring=neurosbd.wirings["file"](files["joined"]),
            )  # fmt: skip
            connections.append(neurosbd.Connection(pre, post, geometry, plastic=False, delay=1))
        steps, units = np.nonzero(given["outside"][:, bounds[post]])
        counts = given["outside"][:, bounds[post]][steps, units]
        file = folder / f"outside{post}.npz"
        np.savez(file, times=np.repeat(steps, counts) * DT, units=np.repeat(units, counts))
        spikes = neurosbd.stimuli["spikes"](file=str(file), amplitude=OUTSIDE["weight"])
        stimuli.append(neurosbd.Stimulation(post, spikes))
    network = neurosbd.Network(populations, connections, torch.Generator().manual_seed(0), DT).double()
    run = neurosbd.run(
        network, len(given["outside"]) * DT, stimuli, record=["*.spikes"], loggers=[], out=str(folder / "run"),
        report=len(given["outside"]) * DT,
    )  # fmt: skip
    found = []
    for name, place in bounds.items():
        steps, units = np.nonzero(run.trace[f"{name}.spikes"][:][:, 0])
        found.append(np.stack([steps, units + place.start], 1))
    return _sorted(np.concatenate(found))


def nest(given: Any, sizes: dict[str, int], less: float) -> Spikes:
    """NEST, whose spikes of the step that ends at t have the time t; `less` is taken off t_ref."""
    n: Any = importlib.import_module("nest")
    n.set_verbosity("M_ERROR")
    n.ResetKernel()
    n.resolution, n.print_time = DT * 1e3, False
    constants = {"tau_m": TAU * 1e3, "E_L": 0.0, "V_th": 1.0, "V_reset": 0.0, "V_m": 0.0}
    cells = n.Create("iaf_psc_delta", sum(sizes.values()), constants)
    for name, place in _bounds(sizes).items():
        cells[place].set(t_ref=(REFRACTORY[name] - less) * 1e3)
    post, pre = np.nonzero(given["joined"])
    spec = {"weight": given["weight"][post, pre], "delay": np.full(len(post), DT * 1e3)}
    ids = np.array(cells.tolist())
    n.Connect(ids[pre], ids[post], "one_to_one", spec)
    trains = []
    for each in given["outside"].T:
        steps = np.flatnonzero(each)
        trains.append({"spike_times": (steps + 1) * DT * 1e3, "spike_multiplicities": each[steps]})
    sources = n.Create("spike_generator", len(trains), trains)
    n.Connect(sources, cells, "one_to_one", {"weight": OUTSIDE["weight"], "delay": DT * 1e3})
    recorder = n.Create("spike_recorder")
    n.Connect(cells, recorder)
    n.Simulate((len(given["outside"]) + 1) * DT * 1e3)  # nothing can arrive in its first step
    steps = np.rint(recorder.events["times"] / (DT * 1e3)).astype(int) - 2
    return _sorted(np.stack([steps, recorder.events["senders"] - ids[0]], 1))


def brian2(given: Any, sizes: dict[str, int], first: bool) -> Spikes:
    """Brian2, synapses before thresholds or after them, as it does by itself; outside spikes come with the synapses."""
    b: Any = importlib.import_module("brian2")
    b.start_scope()
    b.prefs.codegen.target = "numpy"
    b.defaultclock.dt = DT * b.second
    group = b.NeuronGroup(
        sum(sizes.values()), "dv/dt = -v / (20*ms) : 1 (unless refractory)\nlasts : second", threshold="v > 1",
        reset="v = 0", refractory="lasts", method="exact",
        namespace={"outside": b.TimedArray(given["outside"] * OUTSIDE["weight"], dt=DT * b.second)},
    )  # fmt: skip
    for name, place in _bounds(sizes).items():
        group.lasts[place] = REFRACTORY[name] * b.second
    group.run_regularly("v += outside(t, i) * int(not_refractory)", when="synapses")
    synapses = b.Synapses(group, group, "w : 1", on_pre="v_post += w")
    post, pre = np.nonzero(given["joined"])
    synapses.connect(i=pre, j=post)
    synapses.w = given["weight"][post, pre]
    monitor = b.SpikeMonitor(group)
    network = b.Network(group, synapses, monitor)
    if first:
        network.schedule = ["start", "groups", "synapses", "thresholds", "resets", "end"]
    network.run(len(given["outside"]) * DT * b.second)
    return _sorted(np.stack([np.rint(np.asarray(monitor.t / b.second) / DT).astype(int), np.asarray(monitor.i)], 1))


def bindsnet(given: Any, sizes: dict[str, int]) -> Spikes:
    """BindsNET, float32."""
    import torch

    torch.set_grad_enabled(False)
    bounds = _bounds(sizes)
    weights = {
        (pre, post): torch.from_numpy(given["weight"][bounds[post], bounds[pre]].T.copy()).float()
        for pre in sizes for post in sizes
    }  # fmt: skip
    neurons = {name: Neurons(size, TAU, REFRACTORY[name]) for name, size in sizes.items()}
    whole, spikes = built(neurons, weights, {}, DT, each=True)
    outside = torch.from_numpy(given["outside"] * OUTSIDE["weight"]).float()
    drives = {name: outside[:, None, place] for name, place in bounds.items()}
    whole.run(drives, time=len(outside) * DT * 1e3)
    return _sorted(np.array([(step, unit + bounds[name].start) for step, name, unit in spikes.found]))


PEERS = {
    "bindsnet": bindsnet,
    "nest": lambda given, sizes: nest(given, sizes, 0.0),
    "nest, t_ref": lambda given, sizes: nest(given, sizes, DT),
    "brian2": lambda given, sizes: brian2(given, sizes, False),
    "brian2, synapses first": lambda given, sizes: brian2(given, sizes, True),
}


def _bounds(sizes: dict[str, int]) -> dict[str, slice]:
    return {"exc": slice(0, sizes["exc"]), "inh": slice(sizes["exc"], sizes["exc"] + sizes["inh"])}


def _sorted(spikes: np.ndarray) -> Spikes:
    return spikes[np.lexsort((spikes[:, 1], spikes[:, 0]))]


def told(found: Spikes, reference: Spikes, sizes: dict[str, int], duration: float) -> dict[str, Any]:
    """Rates, and spikes in common from the beginning on."""
    rates = {
        name: round(float(((found[:, 1] >= at.start) & (found[:, 1] < at.stop)).sum() / sizes[name] / duration), 3)
        for name, at in _bounds(sizes).items()
    }
    short = min(len(found), len(reference))
    other = np.flatnonzero((found[:short] != reference[:short]).any(1))
    return {"rates": rates, "same": int(other[0]) if len(other) else short, "spikes": len(found)}


def main() -> None:
    """Draw, run each in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=1000)
    parser.add_argument("--duration", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", nargs="+", default=[sys.executable], help="interpreters; the first that has it runs")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = net_of(options.neurons).sizes
    if options.child:
        folder = Path(options.child[1])
        np.save(folder / "theirs.npy", PEERS[options.child[0]](np.load(folder / "net.npz"), sizes))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        drawn(options.neurons, options.duration, options.seed, folder)
        reference = ours(np.load(folder / "net.npz"), sizes, folder)
        found = {"neurosbd": told(reference, reference, sizes, options.duration)}
        for name in PEERS:
            found[name] = {"problem": "no interpreter has it"}
            for python in options.peers:
                again = [python, __file__, "--neurons", str(options.neurons), "--child", name, place]
                ran = subprocess.run(again, capture_output=True, text=True)
                if not ran.returncode:
                    found[name] = told(np.load(folder / "theirs.npy"), reference, sizes, options.duration)
                    break
                if "No module named" not in ran.stderr:
                    found[name] = {"problem": ran.stderr.strip().splitlines()[-1]}
                    break
    print(json.dumps(found))


if __name__ == "__main__":
    main()
