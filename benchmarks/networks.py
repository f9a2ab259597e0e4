"""Seconds per simulated second of a plastic network, and memory, beside other simulators.

    python benchmarks/networks.py                                              # 1,000, 4,000 and 20,000 neurons
    python benchmarks/networks.py --sizes 1000 --json --peers PYTHON PYTHON    # that have brian2, nest or bindsnet

The network: 80 % excitatory and 20 % inhibitory neurons (leaky integrate-and-fire, tau 20 ms, refractory 5 and 2 ms),
each pair joined with a probability of 10 % (at 20,000 neurons 2 %), delta synapses one step late, weights that shrink
with the root of the indegree, inhibition 5 times as strong; excitatory synapses onto excitatory neurons follow
additive pair STDP, all to all, and are clamped at every spike; every neuron hears Poisson spikes at 550 Hz in all.
Steps of 1 ms, one thread. Each simulator runs the same equations with its own random numbers; that the rates are
alike is checked. Brian2 looks at thresholds before synapses by itself, so that what arrives leaks for a step before it
counts, and NEST holds a membrane for a step more than t_ref: both are told otherwise (same_network.py shows that spikes
are then the very same).

Each is measured in a process of its own: the time of the run without building and compiling, the processor time of it,
and the largest memory of the process. A peer that is not there is left out, with the reason. BindsNET keeps all pairs
of neurons, joined or not, and those that are not have 0 for their largest weight; it is measured to 4,000 neurons. It
pairs spikes as they are sent, so that those of one step weaken and strengthen a synapse at once.
"""

import argparse
import importlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from in_bindsnet import Neurons, Pairing, built
from turns import wall_and_cpu_seconds

DT = 1e-3
TAU, TAU_STDP = 20e-3, 20e-3
REFRACTORY = {"exc": 5e-3, "inh": 2e-3}
OUTSIDE = {"rate": 550.0, "weight": 0.1}  # Hz of all sources together
INHIBITION = 5.0
ALIKE = 0.15  # rates may differ by so much of the mean
SIMULATED = {1000: 2.0, 4000: 1.0, 20000: 0.3}  # s


class Net(NamedTuple):
    """A network of so many neurons, and how long it runs."""

    neurons: int
    density: float
    duration: float

    @property
    def sizes(self) -> dict[str, int]:
        """Neurons of each population."""
        return {"exc": round(0.8 * self.neurons), "inh": self.neurons - round(0.8 * self.neurons)}

    @property
    def weight(self) -> float:
        """Of an excitatory synapse at the start."""
        return 0.04 * math.sqrt(80 / (self.density * self.sizes["exc"]))

    @property
    def learning(self) -> dict[str, float]:
        """Sizes of potentiation and depression, and the largest weight."""
        return {"plus": 0.01 * self.weight, "minus": 0.0105 * self.weight, "most": 2 * self.weight}


def net_of(neurons: int, density: float | None = None, duration: float | None = None) -> Net:
    """The network of that size."""
    share = (0.02 if neurons > 10_000 else 0.1) if density is None else density
    return Net(neurons, share, SIMULATED.get(neurons, 1.0) if duration is None else duration)


class Ran(NamedTuple):
    """What a simulator made of a network."""

    seconds: float  # of the run
    cpu: float | None  # s that the processor spent on it, which other programs do not change much; None: not known
    rates: dict[str, float]  # Hz
    weight: float  # mean of those that learn at the end, in units of the mean at the start


def mean(values: Any) -> float:
    """Of a sequence of numbers."""
    return float(sum(values)) / len(values)


def network_of(net: Net) -> Any:
    """The network of this project; synapses among excitatory neurons are plastic."""
    import torch

    import neurosbd

    dense, constant, rest = neurosbd.connections["dense"], neurosbd.initialisers["constant"], 1 - net.density
    lif = neurosbd.neurons["lif"]
    populations = [
        neurosbd.Population(
            name, (size,), lif(tau_mem=TAU, refractory=REFRACTORY[name], refractoriness="clamped", reset="to_value")
        )
        for name, size in net.sizes.items()
    ]
    stronger = {"exc": 1.0, "inh": -INHIBITION}
    connections = [
        neurosbd.Connection(
            pre, post, dense(sparsity=rest, weight=constant(net.weight * stronger[pre]), storage="sparse"),
            plastic=pre == post == "exc", delay=1,
        )
        for pre in net.sizes for post in net.sizes
    ]  # fmt: skip
    return neurosbd.Network(populations, connections, torch.Generator().manual_seed(0), DT)


def neurosbd_(net: Net) -> Ran:
    """This project, one thread."""
    import torch

    import neurosbd
    from neurosbd.runs.loggers import NullLogger

    torch.set_num_threads(1)
    network = network_of(net)
    rate, weight = OUTSIDE["rate"], OUTSIDE["weight"]
    poisson = neurosbd.stimuli["poisson"](rate=rate / 100, amplitude=weight, sources=100)
    stimuli = [neurosbd.Stimulation(name, poisson) for name in net.sizes]
    learning = net.learning
    window = {"a_plus": learning["plus"], "a_minus": learning["minus"], "tau_plus": TAU_STDP, "tau_minus": TAU_STDP}
    window |= {"w_min": 0.0, "w_max": learning["most"]}
    rule: Any = {"kind": "stdp", "plasticity": {"window": window}}

    class Cpu(NullLogger):
        """Processor time from the start of the loop to its last report."""

        def on_start(self, event: Any) -> None:
            """As the loop begins."""
            self.begun = time.process_time()

        def on_epoch(self, event: Any) -> None:
            """After a report."""
            self.spent = time.process_time() - self.begun

    cpu = Cpu()
    with tempfile.TemporaryDirectory() as folder:
        where = {"out": folder + "/run", "report": net.duration}
        run = neurosbd.run(network, net.duration, stimuli, rule, loggers=[cpu], **where)
        line = run.metrics[-1]
    rates = {name: line[f"{name}.rate"] for name in net.sizes}
    return Ran(line["seconds"], cpu.spent, rates, line["exc->exc.weight"] / net.weight)


def brian2(net: Net, target: str) -> Ran:
    """Brian2 with a target for its code: 'numpy' or 'cpp_standalone'."""
    b: Any = importlib.import_module("brian2")
    if target == "cpp_standalone":
        b.set_device("cpp_standalone", build_on_run=False)
    else:
        b.prefs.codegen.target = target
    b.defaultclock.dt = DT * b.second
    b.seed(1)
    groups, monitors = {}, {}
    for name, size in net.sizes.items():
        groups[name] = b.NeuronGroup(
            size, "dv/dt = -v / (20*ms) : 1 (unless refractory)", threshold="v > 1", reset="v = 0",
            refractory=REFRACTORY[name] * b.second, method="exact",
        )  # fmt: skip
        monitors[name] = b.SpikeMonitor(groups[name], record=False)
    outside = [
        b.PoissonInput(group, "v", 100, OUTSIDE["rate"] / 100 * b.Hz, weight=OUTSIDE["weight"])
        for group in groups.values()
    ]
    synapses = {(pre, post): joined(b, net, groups, pre, post) for pre in net.sizes for post in net.sizes}
    network = b.Network(*groups.values(), *monitors.values(), *outside, *synapses.values())
    network.schedule = ["start", "groups", "synapses", "thresholds", "resets", "end"]
    if target == "cpp_standalone":
        network.run(net.duration * b.second)
        with tempfile.TemporaryDirectory() as folder:
            b.device.build(directory=folder, run=True, compile=True)
            weights = synapses["exc", "exc"].w[:]
            counted = {name: float(monitor.num_spikes) for name, monitor in monitors.items()}
        seconds, cpu = b.device._last_run_time, None
    else:
        network.run(2 * DT * b.second)  # what is made on the first run
        seconds, cpu = wall_and_cpu_seconds(lambda: network.run(net.duration * b.second))
        weights = synapses["exc", "exc"].w[:]
        counted = {name: float(monitor.num_spikes) for name, monitor in monitors.items()}
    rates = {name: counted[name] / size / net.duration for name, size in net.sizes.items()}
    return Ran(float(seconds), cpu, rates, mean(weights) / net.weight)


def joined(b: Any, net: Net, groups: dict[str, Any], pre: str, post: str) -> Any:
    """Synapses of Brian2 between two groups; those among excitatory neurons learn."""
    names = {"plus": net.learning["plus"], "minus": net.learning["minus"], "most": net.learning["most"]}
    names |= {"inhibition": -INHIBITION * net.weight, "excitation": net.weight}
    if not pre == post == "exc":
        on_pre = f"v_post += {'excitation' if pre == 'exc' else 'inhibition'}"
        fixed = b.Synapses(groups[pre], groups[post], on_pre=on_pre, namespace=names)
        fixed.connect(p=net.density)
        return fixed
    learning = b.Synapses(
        groups[pre], groups[post],
        "w : 1\ndx/dt = -x / (20*ms) : 1 (event-driven)\ndy/dt = -y / (20*ms) : 1 (event-driven)",
        on_pre="v_post += w\nx += 1\nw = clip(w - minus * y, 0, most)",
        on_post="y += 1\nw = clip(w + plus * x, 0, most)", namespace=names,
    )  # fmt: skip
    learning.connect(p=net.density)
    learning.w = net.weight
    return learning


def nest(net: Net) -> Ran:
    """NEST, one thread; a pair at lag 0 is none for it, and a synapse learns when its pre neuron spikes."""
    n: Any = importlib.import_module("nest")
    n.set_verbosity("M_ERROR")
    n.ResetKernel()
    n.resolution, n.local_num_threads, n.rng_seed, n.print_time = DT * 1e3, 1, 1, False
    groups, recorders = {}, {}
    for name, size in net.sizes.items():
        constants = {"tau_m": TAU * 1e3, "E_L": 0.0, "V_th": 1.0, "V_reset": 0.0, "V_m": 0.0, "tau_minus": 20.0}
        groups[name] = n.Create("iaf_psc_delta", size, {**constants, "t_ref": (REFRACTORY[name] - DT) * 1e3})
        recorders[name] = n.Create("spike_recorder", params={"record_to": "memory"})
        n.Connect(groups[name], recorders[name])
        outside = n.Create("poisson_generator", params={"rate": OUTSIDE["rate"]})
        n.Connect(outside, groups[name], "all_to_all", {"weight": OUTSIDE["weight"], "delay": DT * 1e3})
    most, w = net.learning["most"], net.weight
    n.CopyModel("stdp_synapse", "learns", {
        "tau_plus": TAU_STDP * 1e3, "Wmax": most, "lambda": net.learning["plus"] / most,
        "alpha": net.learning["minus"] / net.learning["plus"], "mu_plus": 0.0, "mu_minus": 0.0,
    })  # fmt: skip
    for pre in net.sizes:
        for post in net.sizes:
            kind = "learns" if pre == post == "exc" else "static_synapse"
            how = {"synapse_model": kind, "weight": w if pre == "exc" else -INHIBITION * w, "delay": DT * 1e3}
            n.Connect(groups[pre], groups[post], {"rule": "pairwise_bernoulli", "p": net.density}, how)
    n.Prepare()
    seconds, cpu = wall_and_cpu_seconds(lambda: n.Run(net.duration * 1e3))
    n.Cleanup()
    rates = {name: recorders[name].n_events / size / net.duration for name, size in net.sizes.items()}
    some = n.GetConnections(source=groups["exc"][:20], synapse_model="learns")  # all of them would take 20 GB
    return Ran(seconds, cpu, rates, mean(some.get("weight")) / w)


def bindsnet(net: Net) -> Ran:
    """BindsNET, one thread."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    learning, sizes = net.learning, net.sizes
    there = {(pre, post): torch.rand(sizes[pre], sizes[post]) < net.density for pre in sizes for post in sizes}
    weights = {pair: joined * net.weight * (1.0 if pair[0] == "exc" else -INHIBITION) for pair, joined in there.items()}
    within = ("exc", "exc")
    rule = Pairing(learning["plus"], learning["minus"], there[within] * learning["most"], TAU_STDP)
    neurons = {name: Neurons(size, TAU, REFRACTORY[name]) for name, size in sizes.items()}
    whole, spikes = built(neurons, weights, {within: rule}, DT, each=False)
    steps, chunk = round(net.duration / DT), 100  # so many steps are drawn together

    def run() -> None:
        for first in range(0, steps, chunk):
            few = min(chunk, steps - first)
            heard = {name: torch.full((few, 1, size), OUTSIDE["rate"] * DT) for name, size in sizes.items()}
            drives = {name: torch.poisson(mean) * OUTSIDE["weight"] for name, mean in heard.items()}
            whole.run(drives, time=few * DT * 1e3)

    seconds, cpu = wall_and_cpu_seconds(run)
    rates = {name: float(spikes.counted[name]) / size / net.duration for name, size in sizes.items()}
    return Ran(seconds, cpu, rates, float(whole.connections[within].w[there[within]].mean()) / net.weight)


SIMULATORS: dict[str, Callable[[Net], Ran]] = {
    "neurosbd": neurosbd_,
    "brian2 numpy": lambda net: brian2(net, "numpy"),
    "brian2 C++ standalone": lambda net: brian2(net, "cpp_standalone"),
    "nest": nest,
    "bindsnet": bindsnet,
}
LARGEST = {"bindsnet": 4000}  # neurons, of those that keep all pairs


def child(name: str, net: Net) -> None:
    """In a process of its own: one line of JSON."""
    try:
        ran = SIMULATORS[name](net)
    except ImportError as problem:
        print(json.dumps({"problem": f"{problem}"}))
        return
    who = resource.RUSAGE_CHILDREN if "standalone" in name else resource.RUSAGE_SELF
    memory = resource.getrusage(who).ru_maxrss * 1024 / 1e6
    print(json.dumps({**ran._asdict(), "memory": memory}))


def measured(name: str, net: Net, peers: Sequence[str], timeout: float) -> dict[str, Any]:
    """What a simulator makes of a network, in the first interpreter that has it: figures, or why there are none."""
    if net.neurons > LARGEST.get(name, net.neurons):
        return {"problem": f"keeps all pairs of neurons, and is measured to {LARGEST[name]:,}"}
    if name != "neurosbd" and not peers:
        return {"problem": "no interpreter of peers was given; see --peers"}
    found: dict[str, Any] = {}
    for python in [sys.executable] if name == "neurosbd" else peers:
        found = _measured(name, net, python, timeout)
        if "No module named" not in found.get("problem", ""):
            return found
    return found


def _measured(name: str, net: Net, python: str, timeout: float) -> dict[str, Any]:
    command = [python, str(Path(__file__).resolve()), "--child", name, *map(str, net)]
    alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=os.environ | alone, check=False
        )
    except (subprocess.TimeoutExpired, OSError) as problem:
        return {"problem": f"{problem}"[:200]}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"problem": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:200]}
    return json.loads(lines[-1])


def differing(found: dict[str, dict[str, Any]]) -> list[str]:
    """Populations whose rates are not alike in all simulators."""
    rates = [each["rates"] for each in found.values() if "rates" in each]
    wrong = []
    for name in rates[0] if rates else ():
        there = [rate[name] for rate in rates]
        if max(there) - min(there) > ALIKE * sum(there) / len(there):
            wrong.append(name)
    return wrong


def table(net: Net, found: dict[str, dict[str, Any]]) -> str:
    """As text."""
    head = f"\n{net.neurons:,} neurons, each pair joined with {net.density:.0%}, {net.duration:g} s simulated"
    lines = [head, f"{'':<24}{'s per s':>10}{'CPU s':>10}{'MB':>9}{'exc, Hz':>9}{'inh, Hz':>9}{'weight':>9}"]
    for name, each in found.items():
        if "problem" in each:
            lines.append(f"{name:<24}left out: {each['problem']}")
            continue
        exc, inh = each["rates"]["exc"], each["rates"]["inh"]
        pace, cpu = each["seconds"] / net.duration, each["cpu"]
        spent = "-" if cpu is None else f"{cpu / net.duration:.3f}"
        lines.append(
            f"{name:<24}{pace:>10.3f}{spent:>10}{each['memory']:>9.0f}{exc:>9.2f}{inh:>9.2f}{each['weight']:>9.4f}"
        )
    lines += [f"rates of '{name}' are not alike, so that this compares different networks" for name in differing(found)]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Every simulator at every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000, 20000])
    parser.add_argument("--simulators", nargs="+", choices=list(SIMULATORS), default=list(SIMULATORS))
    parser.add_argument("--peers", nargs="+", default=[], help="Python interpreters that have brian2, nest or bindsnet")
    parser.add_argument("--density", type=float, help="of the synapses; none: 0.1, at more than 10,000 neurons 0.02")
    parser.add_argument("--duration", type=float, help="s simulated")
    parser.add_argument("--timeout", type=float, default=3600.0, help="s for each simulator")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        name, neurons, density, duration = given.child
        return child(name, Net(int(neurons), float(density), float(duration)))
    everything = []
    for neurons in given.sizes:
        net = net_of(neurons, given.density, given.duration)
        found = {name: measured(name, net, given.peers, given.timeout) for name in given.simulators}
        everything.append({**net._asdict(), "simulators": found, "differing": differing(found)})
        if not given.json:
            print(table(net, found), flush=True)
    if given.json:
        print(json.dumps(everything, indent=2))


if __name__ == "__main__":
    main()
