"""What a recorded simulation costs beside the monitors of other libraries: time and memory against its length.

    python benchmarks/monitors.py [--json] [--cores 1 2] [--threads 1] [--lengths 50 200 800]
        [--python /path/to/python/with/the/peers]

784-1000-10 leaky integrate-and-fire neurons, 25 steps, batch 32, forward only, no gradients, the same input
spikes (a tenth) for all, weights of one distribution, and a run of as many batches as `--lengths` says. All record all
spikes and 100 voltages per population, BindsNET all voltages, since its monitor knows no selection. Every library as
its documentation has it: snnTorch `OutputMonitor` and `AttributeMonitor` in a loop over time, SpikingJelly the same
in multi-step mode, BindsNET `Monitor` on each layer, ours the recorder as an observer of `unroll`, into a file. Each
in its own process; ms are of a batch, with recording in each stretch of the run, and without it before. `MB` is the
peak of the resident set (ru_maxrss) at that length, less what it was before recording.
"""

import argparse
import importlib
import itertools
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from in_bindsnet import without_environments
from recording import apart, confine, processor
from turns import megabytes

PEERS = ("snntorch", "spikingjelly", "bindsnet")
BATCH, STEPS, SIZES, VOLTAGES, DECAY, DENSITY = 32, 25, (784, 1000, 10), 100, 0.9, 0.1

Simulate = Callable[[], object]  # one batch
Monitored = tuple[Simulate, Callable[[], object]]  # and what starts the recording


def weights() -> list[Any]:
    """Of the two layers, [post, pre]."""
    import torch

    seed = torch.Generator().manual_seed(1)
    shapes = zip(SIZES[1:], SIZES, strict=False)
    return [torch.randn(post, pre, generator=seed) * math.sqrt(2 / pre) for post, pre in shapes]


def neurosbd(x: Any, batches: int, folder: Path) -> Monitored:
    """The recorder as an observer."""
    import numpy as np
    import torch

    from neurosbd.connections import Dense
    from neurosbd.learning.batch import Batch
    from neurosbd.learning.learner import Learner
    from neurosbd.learning.simulation import unroll
    from neurosbd.losses import LOSSES
    from neurosbd.network.network import Connection, Network, Population
    from neurosbd.neurons import LIF
    from neurosbd.recording import Recorded, Recorder, RunExtent, plan
    from neurosbd.rules import RULES

    names, seed = ("input", "hidden", "output"), torch.Generator().manual_seed(0)
    lif = LIF(tau_mem=-1e-3 / math.log(DECAY))
    populations = [
        Population(n, (size,), lif if i else None) for i, (n, size) in enumerate(zip(names, SIZES, strict=True))
    ]
    network = Network(populations, [Connection(a, b, Dense()) for a, b in itertools.pairwise(names)], seed)
    for parameter, weight in zip(network.weights.values(), weights(), strict=True):
        parameter.data.copy_(weight)
    loss = LOSSES["cross_entropy"]()
    learner = Learner(network, RULES["sbd"](), loss, seed)
    extent = RunExtent(STEPS, 1, {"train": 1, "test": batches}, {"train": BATCH, "test": BATCH}, 1e-3, 0)
    asked = ["*.spikes[on=test]", f"*.v[neurons=random {VOLTAGES}, on=test]"]
    subject = Recorded.of(network, learner, loss)
    planned = plan(asked, 1e9, subject, extent)
    assert planned is not None
    recorder = Recorder(planned, extent, subject, torch.device("cpu"))
    trial, sample = Batch(x, torch.zeros(BATCH, dtype=torch.int64), (1 / STEPS,) * STEPS), np.arange(BATCH)
    number = 0

    @torch.no_grad()
    def run() -> None:
        nonlocal number
        if recorder.writer is None:
            unroll(network, x)
            return
        unroll(network, x, recorder.trial("test", 0, number, trial, sample).observers)
        number += 1

    return run, lambda: recorder.start(folder / "trace.h5", "{}", "benchmark")


def snntorch(x: Any, batches: int, folder: Path) -> Monitored:
    """OutputMonitor and AttributeMonitor on neurons that keep their state."""
    import torch
    from torch import nn

    snn: Any = importlib.import_module("snntorch")
    probe: Any = importlib.import_module("snntorch.functional.probe")
    one, two = weights()
    net: Any = nn.Sequential(
        nn.Linear(784, 1000, bias=False),
        snn.Leaky(beta=DECAY, init_hidden=True),
        nn.Linear(1000, 10, bias=False),
        snn.Leaky(beta=DECAY, init_hidden=True),
    )
    for layer, weight in ((net[0], one), (net[2], two)):
        layer.weight.data.copy_(weight)
    monitors = []

    @torch.no_grad()
    def run() -> None:
        net[1].reset_mem()
        net[3].reset_mem()
        for frame in x:
            net(frame)

    def start() -> None:
        monitors.append(probe.OutputMonitor(net, snn.Leaky))
        monitors.append(probe.AttributeMonitor("mem", False, net, snn.Leaky, lambda v: v[:, :VOLTAGES].clone()))

    return run, start


def spikingjelly(x: Any, batches: int, folder: Path) -> Monitored:
    """OutputMonitor and AttributeMonitor on neurons in multi-step mode."""
    import torch
    from torch import nn

    functional: Any = importlib.import_module("spikingjelly.activation_based.functional")
    layer: Any = importlib.import_module("spikingjelly.activation_based.layer")
    monitor: Any = importlib.import_module("spikingjelly.activation_based.monitor")
    neuron: Any = importlib.import_module("spikingjelly.activation_based.neuron")

    def lif() -> Any:
        return neuron.LIFNode(tau=1 / (1 - DECAY), decay_input=False, v_reset=None)

    net: Any = nn.Sequential(layer.Linear(784, 1000, bias=False), lif(), layer.Linear(1000, 10, bias=False), lif())
    for linear, weight in zip((net[0], net[2]), weights(), strict=True):
        linear.weight.data.copy_(weight)
    functional.set_step_mode(net, step_mode="m")
    monitors = []

    @torch.no_grad()
    def run() -> None:
        functional.reset_net(net)
        net(x)

    def start() -> None:
        for node in (net[1], net[3]):
            node.store_v_seq = True
        monitors.append(monitor.OutputMonitor(net, neuron.LIFNode))
        monitors.append(
            monitor.AttributeMonitor("v_seq", False, net, neuron.LIFNode, lambda v: v[:, :, :VOLTAGES].clone())
        )

    return run, start


def bindsnet(x: Any, batches: int, folder: Path) -> Monitored:
    """Monitor on each layer; time=None keeps everything."""
    import torch

    without_environments()
    network: Any = importlib.import_module("bindsnet.network")
    monitors: Any = importlib.import_module("bindsnet.network.monitors")
    nodes: Any = importlib.import_module("bindsnet.network.nodes")
    topology: Any = importlib.import_module("bindsnet.network.topology")

    net = network.Network(dt=1.0, batch_size=BATCH, learning=False)
    layers = {"input": nodes.Input(n=784)}
    for name, size in (("hidden", 1000), ("output", 10)):
        layers[name] = nodes.LIFNodes(n=size, thresh=1.0, rest=0.0, reset=0.0, refrac=0, tc_decay=-1 / math.log(DECAY))
    for name, made in layers.items():
        net.add_layer(made, name=name)
    for (a, b), weight in zip((("input", "hidden"), ("hidden", "output")), weights(), strict=True):
        net.add_connection(topology.Connection(layers[a], layers[b], w=weight.T.contiguous()), source=a, target=b)
    spikes = x.bool()

    @torch.no_grad()
    def run() -> None:
        for kept in net.layers.values():  # net.reset_state_variables() would forget what the monitors have
            kept.reset_state_variables()
        net.run(inputs={"input": spikes}, time=STEPS)

    def start() -> None:
        for name in ("hidden", "output"):
            net.add_monitor(monitors.Monitor(layers[name], state_vars=("s", "v"), batch_size=BATCH), name=name)

    return run, start


LIBRARIES: dict[str, Callable[[Any, int, Path], Monitored]] = {
    "neurosbd": neurosbd,
    "snntorch": snntorch,
    "spikingjelly": spikingjelly,
    "bindsnet": bindsnet,
}


def record(library: str, lengths: list[int]) -> dict[str, Any]:
    """A run with everything recorded, measured at its lengths."""
    import torch

    seed = torch.Generator().manual_seed(0)
    x = (torch.rand(STEPS, BATCH, SIZES[0], generator=seed) < DENSITY).float()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        try:
            run, start = LIBRARIES[library](x, lengths[-1], Path(folder))
        except ImportError as missing:
            return {"missing": str(missing)}
        bare = [_timed(run) for _ in range(3 + 30)][3:]
        before = megabytes()
        start()
        times: list[float] = []
        stretches = []
        for length in lengths:
            first = len(times)
            times += [_timed(run) for _ in range(length - first)]
            stretch = times[first:]
            stretches.append({"batches": length, "ms": 1e3 * statistics.mean(stretch), "mb": megabytes() - before})
    try:
        version = metadata.version(library)
    except metadata.PackageNotFoundError:
        version = "checkout"
    quarter = statistics.quantiles(bare, n=4)
    return {
        "ms": 1e3 * statistics.median(bare), "quartiles": [1e3 * quarter[0], 1e3 * quarter[2]],
        "stretches": stretches, "version": version, "torch": torch.__version__,
    }  # fmt: skip


def _timed(run: Simulate) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def show_monitors(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'library':<14}{'cores':>6}{'batches':>9}{'ms':>8}{'recorded':>10}{'MB':>8}")
    for row in rows:
        if "missing" in row:
            print(f"{row['library']:<14}{row['cores']:>6}  not installed ({row['missing']})")
            continue
        for stretch in row["stretches"]:
            print(f"{row['library']:<14}{row['cores']:>6}{stretch['batches']:>9}{row['ms']:>8.2f}", end="")
            print(f"{stretch['ms']:>10.2f}{stretch['mb']:>8.0f}")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="that a process may use")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200, 800], help="batches, increasing")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the peers; default: this one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--work", choices=list(LIBRARIES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        confine(options.cores[0], options.threads)
        print(json.dumps(record(options.work, options.lengths)))
        return
    rows = []
    for cores, name in itertools.product(options.cores, LIBRARIES):
        python = options.python if name in PEERS else sys.executable
        more = ["--lengths", *map(str, options.lengths)]
        rows.append({"library": name, "cores": cores, **apart(__file__, name, cores, options.threads, more, python)})
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if options.json:
        print(json.dumps({"machine": machine, "monitors": rows}, indent=1))
        return
    versions = {
        row["library"]: f"{row['library']} {row['version']} (torch {row['torch']})" for row in rows if "torch" in row
    }
    print(f"{machine}; {options.threads} threads; {', '.join(versions.values())}")
    show_monitors(rows)


if __name__ == "__main__":
    main()
