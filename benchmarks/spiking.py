"""Training a spiking conv net: online SBD here against backprop through time in snnTorch, Norse and SpikingJelly.

    python benchmarks/spiking.py [--json] [--steps 16 64 256] [--threads 1] [--repeats 5] [--rounds 3]
        [--peers snntorch "snntorch compiled" norse "norse compiled" spikingjelly]
        [--python /path/to/python/with/the/peers] [--allocator kept|system]

The net is 32c3 - pool - 64c3 - pool - 10 on 3x32x32 spikes: kernels of 3 with padding 1, no biases, averages over
2x2, leaky integrate-and-fire neurons (a tenth of the potential lost per step, threshold 1), batch 16, cross-entropy,
torch's fused Adam on all weights. Each library is written as its own tutorials write it, with its own surrogate:
snnTorch and Norse step by step, SpikingJelly in multi-step mode with detached resets. All are channels-last in
memory, which is the faster layout for each, and start from weights of one distribution, so that all nets spike. The
loss is scored at every step, in SpikingJelly on the mean output. `compiled` is the same with torch.compile of a step
of the whole net (Inductor, default mode), which a C++ compiler must be there for; the loop over time stays Python,
since unrolled it would be compiled for minutes. The fused neurons of SpikingJelly 2.0 are for CUDA: what it runs here
instead is named.

Freed memory is kept in every process, as the commands of neurosbd have it for themselves (`keep_freed_memory`): it
serves all of these libraries, which else find every large tensor new, a page fault per 4 KB. `--allocator system`
leaves glibc as it is.

Every library runs in its own process, in turns: `rounds` times, each time with 2 batches of warm-up, of which the
first compiles (`1st s`), and `repeats` timed ones. All get the same spikes (a tenth of the inputs), made before the
clock starts and kept as bool, a byte each, which become numbers where a library needs them: step by step, or all at
once in multi-step mode. Time is the median over all timed batches; `CPU ms` counts only the time that the process had
a core, for machines that are busy. Memory is the peak of the resident set of the process (ru_maxrss); `net MB` is its
rise over what the imports and the spikes take, which are so counted for none; how both grow from the fewest steps to
the most stands below. A library that is not installed, or cannot be compiled, is reported as such.
"""

import argparse
import importlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from turns import median_ms, megabytes, turns, wall_and_cpu_seconds, wall_seconds

KEPT = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(64 << 20),
    "THP_MEM_ALLOC_ENABLE": "1",
}  # fmt: skip
BATCH, DECAY, DENSITY, LR = 16, 0.9, 0.1, 1e-3
PEERS = ("snntorch", "snntorch compiled", "norse", "norse compiled", "spikingjelly")

Train = Callable[[], float]  # one batch: forward, learn, update; its loss


def neurosbd(x: Any, y: Any) -> Train:
    """Online SBD: nothing of a step outlives it but the traces."""
    import torch

    from neurosbd import Batch, Connection, Network, Population, learner
    from neurosbd.connections import Conv2d, Dense
    from neurosbd.connections.pooling import AveragePool
    from neurosbd.neurons import LI, LIF

    dt, pool = 1e-3, AveragePool()
    tau = -dt / math.log(DECAY)
    populations = [
        Population("input", (3, 32, 32), None),
        Population("first", (32, 32, 32), LIF(tau_mem=tau)),
        Population("second", (64, 16, 16), LIF(tau_mem=tau)),
        Population("output", (10,), LI(tau_mem=tau)),
    ]
    connections = [
        Connection("input", "first", Conv2d(3, padding=1)),
        Connection("first", "second", Conv2d(3, padding=1, pool=pool)),
        Connection("second", "output", Dense(pool=pool)),
    ]
    seed = torch.Generator().manual_seed(0)
    network = Network(populations, connections, seed, dt)
    sbd = learner(network, "sbd", "cross_entropy")
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
    batch = Batch(x, y)

    def train() -> float:
        optimizer.zero_grad()
        result = sbd.learn(batch)
        optimizer.step()
        return float(result.loss)

    return train


def through_time(model: Any, loss_of: Callable[[], Any], gain: float = 1.0) -> Train:
    """A batch of backprop through time; weights start as here, times `gain`, channels-last."""
    import torch

    model.to(memory_format=torch.channels_last)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=gain * math.sqrt(2 / weight[0].numel()))
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)

    def train() -> float:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return train


def snntorch(x: Any, y: Any, compiled: bool = False) -> Train:
    """As in its tutorials 5 to 7: a loop over time, the loss of the readout's membrane summed over the steps."""
    import torch
    from torch import nn

    snn: Any = importlib.import_module("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
            self.lif1 = snn.Leaky(beta=DECAY)
            self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
            self.lif2 = snn.Leaky(beta=DECAY)
            self.fc = nn.Linear(64 * 8 * 8, 10, bias=False)
            self.out = snn.Leaky(beta=DECAY, reset_mechanism="none")

        def forward(self, frame: Any, mem1: Any, mem2: Any, mem3: Any) -> tuple[Any, Any, Any]:
            spikes, mem1 = self.lif1(self.conv1(frame.float()), mem1)
            spikes, mem2 = self.lif2(self.conv2(nn.functional.avg_pool2d(spikes, 2)), mem2)
            _, mem3 = self.out(self.fc(nn.functional.avg_pool2d(spikes, 2).flatten(1)), mem3)
            return mem1, mem2, mem3

    net = Net()
    step: Any = torch.compile(net) if compiled else net

    def loss() -> Any:
        mems, total = (net.lif1.reset_mem(), net.lif2.reset_mem(), net.out.reset_mem()), torch.zeros(())
        for frame in x:
            mems = step(frame, *mems)
            total = total + nn.functional.cross_entropy(mems[2], y)
        return total / len(x)

    return through_time(net, loss)


def norse(x: Any, y: Any, compiled: bool = False) -> Train:
    """As in its examples: SequentialState in a loop over time, in the cheaper neurons that have no synaptic current.

    A drive is scaled by 1 - decay there, so the weights start larger, for as many spikes.
    """
    import torch
    from torch import nn

    library: Any = importlib.import_module("norse.torch")
    leak = torch.tensor((1 - DECAY) / 1e-3)
    lif = library.LIFBoxParameters(tau_mem_inv=leak)
    integrator: Any = importlib.import_module("norse.torch.functional.leaky_integrator_box")
    cells: Any = importlib.import_module("norse.torch.module.leaky_integrator_box")
    net = library.SequentialState(
        nn.Conv2d(3, 32, 3, padding=1, bias=False),
        library.LIFBoxCell(lif),
        nn.AvgPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        library.LIFBoxCell(lif),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 8 * 8, 10, bias=False),
        cells.LIBoxCell(integrator.LIBoxParameters(tau_mem_inv=leak)),
    )

    step: Any = torch.compile(net) if compiled else net

    def loss() -> Any:
        state, total = None, torch.zeros(())
        for frame in x:
            voltage, state = step(frame.float(), state)
            total = total + nn.functional.cross_entropy(voltage, y)
        return total / len(x)

    return through_time(net, loss, gain=1 / (1 - DECAY))


def spikingjelly(x: Any, y: Any) -> Train:
    """As in its conv tutorials: multi-step mode, resets detached, cross-entropy on the firing rate of the readout."""
    from torch import nn

    functional: Any = importlib.import_module("spikingjelly.activation_based.functional")
    layer: Any = importlib.import_module("spikingjelly.activation_based.layer")
    neuron: Any = importlib.import_module("spikingjelly.activation_based.neuron")
    surrogate: Any = importlib.import_module("spikingjelly.activation_based.surrogate")

    def lif() -> Any:
        return neuron.LIFNode(
            tau=1 / (1 - DECAY), decay_input=False, v_reset=None, surrogate_function=surrogate.ATan(), detach_reset=True
        )

    net = nn.Sequential(
        layer.Conv2d(3, 32, 3, padding=1, bias=False),
        lif(),
        layer.AvgPool2d(2),
        layer.Conv2d(32, 64, 3, padding=1, bias=False),
        lif(),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(64 * 8 * 8, 10, bias=False),
        lif(),
    )
    functional.set_step_mode(net, step_mode="m")

    def loss() -> Any:
        functional.reset_net(net)
        return nn.functional.cross_entropy(net(x.float()).mean(0), y)

    return through_time(net, loss)


LIBRARIES: dict[str, Callable[[Any, Any], Train]] = {
    "neurosbd": neurosbd,
    "snntorch": snntorch,
    "snntorch compiled": partial(snntorch, compiled=True),
    "norse": norse,
    "norse compiled": partial(norse, compiled=True),
    "spikingjelly": spikingjelly,
}


def uncompiled() -> str | None:
    """Why torch.compile does not work here; None if it does."""
    import torch

    try:
        torch.compile(lambda x: (x + 1).sin())(torch.ones(4))
    except Exception as problem:  # of whatever part of it
        told = next(filter(str.strip, str(problem).splitlines()), type(problem).__name__)
        return f"torch.compile does not work here: {told}"
    return None


def note_of(library: str) -> str:
    """What else has to be said of how a library runs here."""
    if library != "spikingjelly":
        return ""
    import torch

    functional: Any = importlib.import_module("spikingjelly.activation_based.functional")
    asked = getattr(functional, "neuron_implementation", None)
    return f"LIF on a CPU is its {asked('lif', torch.device('cpu'))['implementation']}" if asked else ""


def work(library: str, steps: int, repeats: int, threads: int) -> dict[str, Any]:
    """Measure one library in this process."""
    name, _, compiled = library.partition(" ")
    try:
        importlib.import_module(name)
    except ImportError as missing:
        return {"missing": f"not installed: {missing}"}
    if compiled and (why := uncompiled()):
        return {"missing": why}
    import torch

    torch.set_num_threads(threads)
    seed = torch.Generator().manual_seed(0)
    x = torch.empty(steps, BATCH, 32, 32, 3, dtype=torch.bool)
    for frame in x:
        frame.copy_(torch.empty(frame.shape).bernoulli_(DENSITY, generator=seed))
    x = x.permute(0, 1, 4, 2, 3)  # channels-last in memory
    y = torch.randint(10, (BATCH,), generator=seed)
    if library in PEERS:
        importlib.import_module("spikingjelly.activation_based.neuron" if name == "spikingjelly" else name)
    before = megabytes()
    train = LIBRARIES[library](x, y)
    losses: list[float] = []

    def once() -> None:
        losses.append(train())

    first = wall_seconds(once)
    once()
    seconds, busy = zip(*(wall_and_cpu_seconds(once) for _ in range(repeats)), strict=True)
    peak = megabytes()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = "checkout"
    return {
        "seconds": seconds, "busy": busy, "first_s": first, "loss": losses[-1], "peak_mb": peak,
        "net_mb": peak - before, "version": version, "torch": torch.__version__, "note": note_of(library),
    }  # fmt: skip


def run(python: str, library: str, steps: int, options: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Measure one library in a process of its own."""
    command = [python, str(Path(__file__).resolve()), "--work", library, "--steps", str(steps)]
    command += ["--repeats", str(options.repeats), "--threads", str(threads)]
    here = str(Path(__file__).resolve().parents[1])
    kept = KEPT if options.allocator == "kept" else {}
    environment = {**os.environ, **kept, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": here}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{library} at {steps} steps failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(steps: int, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """All libraries in turns."""
    names = ["neurosbd", *options.peers]
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn, name in turns(names, options.rounds):
        if turn and "missing" in told[name][0]:
            continue
        told[name].append(run(options.python if name in PEERS else sys.executable, name, steps, options, threads))
    row: dict[str, Any] = {"steps": steps, "threads": threads}
    for name, runs in told.items():
        if "missing" in runs[0]:
            row[name] = runs[0]
            continue
        seconds = [s for one in runs for s in one["seconds"]]
        row[name] = {
            **median_ms(seconds),
            "cpu_ms": 1e3 * statistics.median(s for one in runs for s in one["busy"]),
            "samples_per_s": BATCH / statistics.median(seconds),
            **{key: max(one[key] for one in runs) for key in ("peak_mb", "net_mb")},
            "first_s": statistics.median(one["first_s"] for one in runs),
            **{key: runs[0][key] for key in ("loss", "version", "torch", "note")},
        }
    return row


def growth(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """How the memory of each library grows from the fewest steps to the most, per number of threads."""
    found = []
    for threads in dict.fromkeys(row["threads"] for row in rows):
        mine = sorted((row for row in rows if row["threads"] == threads), key=lambda row: row["steps"])
        few, many = mine[0], mine[-1]
        for name in names:
            if few is not many and "ms" in few[name] and "ms" in many[name]:
                ratios = {key: many[name][key] / few[name][key] for key in ("peak_mb", "net_mb")}
                found.append({"threads": threads, "library": name, "from": few["steps"], "to": many["steps"], **ratios})
    return found


def processor() -> str:
    """Name of the CPU as far as the system tells."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    named = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def show(rows: list[dict[str, Any]], names: list[str]) -> None:
    """Print the table."""
    print(f"{'steps':>5}{'threads':>8}  {'library':<18}{'ms/batch':>9}{'quartiles':>14}{'CPU ms':>8}", end="")
    print(f"{'samples/s':>10}{'of neurosbd':>12}{'net MB':>8}{'peak MB':>9}{'1st s':>8}")
    for row in rows:
        for name in names:
            cell, head = row[name], f"{row['steps']:>5}{row['threads']:>8}  {name:<18}"
            if "missing" in cell:
                print(f"{head}{cell['missing']}")
                continue
            low, high = cell["ms_quartiles"]
            speed = cell["samples_per_s"] / row["neurosbd"]["samples_per_s"]
            print(f"{head}{cell['ms']:>9.0f}{f'{low:.0f}-{high:.0f}':>14}", end="")
            print(f"{cell['cpu_ms']:>8.0f}{cell['samples_per_s']:>10.1f}{speed:>12.2f}", end="")
            print(f"{cell['net_mb']:>8.0f}{cell['peak_mb']:>9.0f}{cell['first_s']:>8.1f}  {cell['note']}")
    for line in growth(rows, names):
        print(f"memory at {line['to']} steps to that at {line['from']}, {line['threads']} threads, ", end="")
        print(f"{line['library']}: net {line['net_mb']:.2f}, process {line['peak_mb']:.2f}")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=5, help="timed batches per process")
    parser.add_argument("--rounds", type=int, default=3, help="processes per library")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the peers; default: this one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--allocator", choices=("kept", "system"), default="kept")
    parser.add_argument("--work", choices=list(LIBRARIES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return print(json.dumps(work(options.work, options.steps[0], options.repeats, options.threads[0])))
    rows = [measure(steps, threads, options) for threads in options.threads for steps in options.steps]
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    names = ["neurosbd", *options.peers]
    if options.json:
        found = {"machine": machine, "batch": BATCH, "rows": rows, "growth": growth(rows, names)}
        return print(json.dumps(found, indent=1))
    versions = [f"{n} {rows[0][n]['version']} (torch {rows[0][n]['torch']})" for n in names if "ms" in rows[0][n]]
    print(f"{machine}; {', '.join(versions)}")
    show(rows, names)


if __name__ == "__main__":
    main()
