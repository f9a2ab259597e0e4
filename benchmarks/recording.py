"""What recording costs: a training step with and without it, and a simulation beside the monitors of other libraries.

    python benchmarks/recording.py [--json] [--parts training monitors] [--nets dense conv digits] [--cores 1 2]
        [--threads 1] [--repeats 12] [--lengths 50 200 800] [--python /path/to/python/with/the/peers]

Training: two sessions of one definition, one with `record.signals`, learn in turns in one process, a bout of steps
each, and end with the same weights (checked). Recorded are all spikes (of the rate net all rates) and 100 random
voltages per population, of every example at every step, into a file. A bout with recording ends when all its blocks
are committed, so that the writing is in it, not in the bout of the other. `overhead` is that of the total time,
(quartiles) of single pairs of bouts; `of a step` compares the median steps, which mostly write nothing; `of CPU` counts
the time of all threads, wherever they ran. Blocks are compressed and written in a second thread: with `--cores 1` it
has no core of its own.

    dense    784-1000-10, LIF and integrator, 25 steps, batch 32, random pictures, SBD
    conv     cifar10-snn, 8 steps, batch 50, random pictures
    digits   digits-mlp as it is shipped: a rate net, a step of less than a millisecond

Monitors: 784-1000-10 leaky integrate-and-fire neurons, 25 steps, batch 32, forward only, no gradients, the same input
spikes (a tenth) for all, weights of one distribution, and a run of as many batches as `--lengths` says. All record all
spikes and 100 voltages per population, BindsNET all voltages, since its monitor knows no selection. Every library as
its documentation has it: snnTorch `OutputMonitor` and `AttributeMonitor` in a loop over time, SpikingJelly the same
in multi-step mode, BindsNET `Monitor` on each layer, ours the recorder as an observer of `simulate`, into a file. Each
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

PEERS = ("snntorch", "spikingjelly", "bindsnet")
BATCH, STEPS, SIZES, VOLTAGES, DECAY, DENSITY = 32, 25, (784, 1000, 10), 100, 0.9, 0.1
BOUTS = {"dense": 30, "conv": 6, "digits": 600}  # steps: several blocks each
DENSE = """
rule = { kind = "sbd", scale = 0.05 }
[time]
steps = 25
[training]
batch_size = 32
[population]
input = { size = [1, 28, 28] }
hidden = { size = [1000], neuron = { kind = "lif", tau_mem = 9.5e-3 } }
output = { size = [10], neuron = { kind = "lif", tau_mem = 9.5e-3 } }
[[connection]]
pre = "input"
post = "hidden"
kind = "dense"
weight = { kind = "kaiming_normal", gain = 0.5 }
[[connection]]
pre = "hidden"
post = "output"
kind = "dense"
"""

Simulate = Callable[[], object]  # one batch
Monitored = tuple[Simulate, Callable[[], object]]  # and what starts the recording


def sessions(net: str, folder: Path) -> tuple[Any, Any]:
    """The same training twice, the second one recorded."""
    import numpy as np
    import torch

    from neurosbd.datasets.load import load_data, resolve_data
    from neurosbd.experiment.lessons import DatasetLessons
    from neurosbd.experiment.resolve import load_model
    from neurosbd.experiment.session import Session

    model: str | Path = {"dense": folder / "dense.toml", "conv": "cifar10-snn", "digits": "digits-mlp"}[net]
    settings: dict[str, Any] = {"training.epochs": 10_000, "record.limit": 1e9}
    if net == "dense":
        (folder / "dense.toml").write_text(DENSE)
    if net != "digits":
        rng, side = np.random.default_rng(0), {"dense": (28, 28), "conv": (32, 32, 3)}[net]
        pictures = {f"{split}_values": rng.integers(0, 256, (1000, *side), np.uint8) for split in ("train", "test")}
        labels = {f"{split}_labels": rng.integers(0, 10, 1000) for split in ("train", "test")}
        np.savez(folder / "pictures.npz", **pictures, **labels)  # type: ignore[arg-type]
        name, root = resolve_data("arrays", str(folder / "pictures.npz"))
        settings |= {"data.name": name, "data.root": root}
    signals = ["*.rate"] if net == "digits" else ["*.spikes", f"*.v[neurons=random {VOLTAGES}]"]
    made = []
    for asked in ([], signals):
        definition = load_model(model, settings=settings | {"record.signals": asked})
        data = load_data(definition.data.name, definition.data.root)
        device = torch.device("cpu")
        made.append(Session(definition, DatasetLessons(definition, data, device), device))
    made[1].recorder.start(folder / "trace.h5", "{}", "benchmark")
    return made[0], made[1]


def bout(session: Any, steps: int) -> tuple[float, float, list[float]]:
    """Seconds and CPU seconds of some steps, all that they recorded written, and seconds of each."""
    single = []
    start, spent = time.perf_counter(), time.process_time()
    for _ in range(steps):
        before = time.perf_counter()
        if session.number == len(session.lessons):
            session.next_epoch()
        session.step()
        single.append(time.perf_counter() - before)
    if session.recorder is not None:
        session.recorder.writer.drain()
    return time.perf_counter() - start, time.process_time() - spent, single


def train(net: str, repeats: int) -> dict[str, Any]:
    """Steps with and without recording, in turns."""
    import torch

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        bare, recorded = sessions(net, Path(folder))
        told: dict[bool, list[tuple[float, float, list[float]]]] = {False: [], True: []}
        for turn in range(repeats + 1):
            for which in (True, False) if turn % 2 else (False, True):
                found = bout(recorded if which else bare, BOUTS[net])
                if turn:  # the first is the warm-up
                    told[which].append(found)
        for one, other in zip(bare.network.parameters(), recorded.network.parameters(), strict=True):
            assert torch.equal(one, other), "recording has changed the training"
        written = recorded.recorder.writer.drain()
        plan = recorded.recorder.plan
        series = plan.contents.series
        row_bytes = [sum(s.row_bytes for s in series if s.clock == n) for n in range(len(plan.contents.clocks))]
        total = sum(rows * size for rows, size in zip(written, row_bytes, strict=True))
        path = recorded.recorder.writer.path
        recorded.recorder.close(complete=False)
        steps = (repeats + 1) * BOUTS[net]
        result = {
            "mb_per_step": sum(row_bytes) * bare.lessons.steps / 1e6,
            "of_file": Path(f"{path}.partial").stat().st_size / total,
            "spiking": _share(Path(f"{path}.partial")),
            "steps": steps - BOUTS[net],
        }
    walls, spent = {w: [f[0] for f in told[w]] for w in told}, {w: [f[1] for f in told[w]] for w in told}
    single = {w: [s for found in told[w] for s in found[2]] for w in told}
    pairs = statistics.quantiles((r / b - 1 for r, b in zip(walls[True], walls[False], strict=True)), n=4)
    seconds = {w: sum(walls[w]) / len(single[w]) for w in told}
    return result | {
        "ms": 1e3 * seconds[False],
        "recorded_ms": 1e3 * seconds[True],
        "overhead": seconds[True] / seconds[False] - 1,
        "low": pairs[0],
        "high": pairs[2],
        "of_a_step": statistics.median(single[True]) / statistics.median(single[False]) - 1,
        "of_cpu": sum(spent[True]) / sum(spent[False]) - 1,
        "mb_per_s": result["mb_per_step"] / seconds[True],
        "torch": torch.__version__,
    }


def _share(path: Path) -> float | None:
    """Spikes per neuron and step, of the first population that spikes."""
    from neurosbd.traces import open_trace

    with open_trace(path) as trace:
        spikes = trace.all("spikes")
        return float(spikes[0][:100].mean()) if spikes else None


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
    from neurosbd.learners import Trial, learner_of
    from neurosbd.losses import LOSSES
    from neurosbd.network import Connection, Network, Population
    from neurosbd.neurons import LIF
    from neurosbd.recording import Course, Recorder, plan
    from neurosbd.rules import RULES
    from neurosbd.simulation import simulate

    names, seed = ("input", "hidden", "output"), torch.Generator().manual_seed(0)
    lif = LIF(tau_mem=-1e-3 / math.log(DECAY))
    populations = [
        Population(n, (size,), lif if i else None) for i, (n, size) in enumerate(zip(names, SIZES, strict=True))
    ]
    network = Network(populations, [Connection(a, b, Dense()) for a, b in itertools.pairwise(names)], seed)
    for parameter, weight in zip(network.weights.values(), weights(), strict=True):
        parameter.data.copy_(weight)
    loss = LOSSES["cross_entropy"]()
    learner = learner_of(RULES["sbd"](), network, loss, seed)
    course = Course(STEPS, 1, {"train": 1, "test": batches}, {"train": BATCH, "test": BATCH}, 1e-3, 0)
    asked = ["*.spikes[on=test]", f"*.v[neurons=random {VOLTAGES}, on=test]"]
    planned = plan(asked, 1e9, network, learner, course)
    assert planned is not None
    recorder = Recorder(planned, course, network, learner, loss, torch.device("cpu"))
    trial, sample = Trial(x, torch.zeros(BATCH, dtype=torch.int64), (1 / STEPS,) * STEPS), np.arange(BATCH)
    number = 0

    @torch.no_grad()
    def run() -> None:
        nonlocal number
        if recorder.writer is None:
            simulate(network, x)
            return
        simulate(network, x, recorder.trial("test", 0, number, trial, sample).observers)
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

    _without_environments()
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


def _without_environments() -> None:
    """Stand-ins for what BindsNET imports for its data sets and games, where it cannot be loaded."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [m for m in sys.modules if m.startswith("torchvision")]:
            del sys.modules[name]
        for name in ("", ".transforms", ".datasets", ".utils", ".datasets.folder", ".io"):
            sys.modules[f"torchvision{name}"] = mock.MagicMock()
    for name in ("ale_py", "gymnasium", "gym"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = mock.MagicMock()


LIBRARIES: dict[str, Callable[[Any, int, Path], Monitored]] = {
    "neurosbd": neurosbd,
    "snntorch": snntorch,
    "spikingjelly": spikingjelly,
    "bindsnet": bindsnet,
}


def megabytes() -> float:
    """Peak of the resident set so far."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


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


def work(options: argparse.Namespace) -> dict[str, Any]:
    """Measure in this process."""
    import torch

    torch.set_num_threads(options.threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.cores[0] :])
    if options.work in BOUTS:
        return train(options.work, options.repeats)
    return record(options.work, options.lengths)


def run(python: str, name: str, cores: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [python, "-W", "ignore", str(Path(__file__).resolve()), "--work", name, "--cores", str(cores)]
    command += ["--threads", str(options.threads), "--repeats", str(options.repeats)]
    command += ["--lengths", *map(str, options.lengths)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    told = subprocess.run(command, capture_output=True, text=True, env=environment)
    if told.returncode:
        sys.exit(f"{name} failed:\n{told.stderr}")
    return json.loads(told.stdout.splitlines()[-1])


def processor() -> str:
    """Name of the CPU as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def show_training(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'net':<8}{'cores':>6}{'steps':>7}{'ms':>9}{'recorded':>10}{'overhead':>10}{'(quartiles)':>18}", end="")
    print(f"{'of a step':>11}{'of CPU':>8}{'MB/step':>9}{'MB/s':>7}{'file':>7}{'spiking':>9}")
    for row in rows:
        spread = f"({row['low']:+.1%} {row['high']:+.1%})"
        spiking = "" if row["spiking"] is None else f"{row['spiking']:.1%}"
        print(f"{row['net']:<8}{row['cores']:>6}{row['steps']:>7}{row['ms']:>9.2f}{row['recorded_ms']:>10.2f}", end="")
        print(f"{row['overhead']:>+10.1%}{spread:>18}{row['of_a_step']:>+11.1%}{row['of_cpu']:>+8.1%}", end="")
        print(f"{row['mb_per_step']:>9.2f}{row['mb_per_s']:>7.0f}{row['of_file']:>7.2f}{spiking:>9}")


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
    parser.add_argument("--parts", nargs="+", choices=("training", "monitors"), default=["training", "monitors"])
    parser.add_argument("--nets", nargs="+", choices=list(BOUTS), default=list(BOUTS))
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="that a process may use")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--repeats", type=int, default=12, help="pairs of bouts, at least 2")
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200, 800], help="batches, increasing")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the peers; default: this one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--work", choices=[*BOUTS, *LIBRARIES], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options)))
        return
    result: dict[str, Any] = {"machine": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"}
    turns = [(name, cores) for cores in options.cores for name in (options.nets if "training" in options.parts else ())]
    result["training"] = [{"net": n, "cores": c, **run(sys.executable, n, c, options)} for n, c in turns]
    turns = [(name, c) for c in options.cores for name in (LIBRARIES if "monitors" in options.parts else ())]
    pythons = {name: options.python if name in PEERS else sys.executable for name in LIBRARIES}
    result["monitors"] = [{"library": n, "cores": c, **run(pythons[n], n, c, options)} for n, c in turns]
    if options.json:
        print(json.dumps(result, indent=1))
        return
    versions = {row.get("library", "neurosbd"): row for row in result["training"] + result["monitors"]}
    told = [f"{n} {v.get('version', 'checkout')} (torch {v['torch']})" for n, v in versions.items() if "torch" in v]
    print(f"{result['machine']}; {options.threads} threads; {', '.join(told)}")
    if result["training"]:
        show_training(result["training"])
    if result["monitors"]:
        show_monitors(result["monitors"])


if __name__ == "__main__":
    main()
