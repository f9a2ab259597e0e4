"""How time and memory of a batch grow with steps, batch, units and depth, beside what the algorithms promise.

    python benchmarks/scaling.py [--json] [--quick] [--only steps batch ...] [--rounds 3] [--repeats 5] [--threads 1]

Every sweep changes one size of a dense net of leaky integrate-and-fire units with a leaky readout of ten,
cross-entropy at every step and SBD with its factorised eligibility, unless another rule is named:

    steps      64 - 256 - 256 - 10, batch 32, T = 16 to 1,024; and backprop through time, which keeps every step
    batch      the same, 16 steps, 1 to 256 examples
    units      256 - n - 10 of adaptive units (alif), batch 4, 8 steps, n = 256 to 16,384; with an exact eligibility
               too, which is a value per example and synapse
    synapses   n - n - 10 of adaptive units, batch 2, 4 steps, n = 256 to 16,384, so that there are n^2 of them;
               exact up to 2,048
    depth      256 - (256 - ) x layers - 10, batch 32, 16 steps, 2 to 16 hidden layers; and backprop through time

and, of whole steps of training (see benchmarks/at_once.py):

    seeds      1, 8 and 32 seeds of digits-mlp and digits-snn side by side
    ranks      1 and 2 processes that share every batch, on two cores

Every measurement is a process of its own, in turns, `rounds` times, each with two batches of warm-up and `repeats`
timed ones. Frames are 16 random ones, shown again and again, so that inputs take no memory that grows. Time is the
median over all timed batches, gradients filled, without an optimizer; `CPU ms` counts only the time that the process
had a core. Memory is the rise of the peak of the resident set (ru_maxrss) over what the imports and a small net have
taken.

The slope is that of a straight line through the logarithms, over all sizes and over the last two: 1 is linear, 2
quadratic, 0 flat. Small sizes are ruled by what every batch costs anyway, and weights are there whatever the batch,
so that the slope of the last two says more. What would not fit into the memory of the machine is left out, and named.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import at_once
from turns import median_ms, megabytes, turns

AT_ONCE = ("seeds", "ranks")
FRAMES, CLASSES, DENSITY = 16, 10, 0.1


@dataclass(frozen=True)
class Net:
    """A point of a sweep: the net, how it learns, and what it is shown."""

    sizes: tuple[int, ...]  # of input and hidden populations
    batch: int
    steps: int
    rule: str = "sbd"
    eligibility: str = "factorised"
    neuron: str = "lif"

    def bytes(self) -> int:
        """About how much it needs at most: weights, gradients and what is added to them, and the eligibility."""
        synapses = sum(a * b for a, b in zip(self.sizes, (*self.sizes[1:], CLASSES), strict=True))
        each = 6 * self.batch if self.eligibility == "exact" else 0
        return 4 * synapses * (4 + each) + (4 * 12 * sum(self.sizes) * self.batch * self._kept())

    def _kept(self) -> int:
        return self.steps if self.rule == "bptt" else 1


@dataclass(frozen=True)
class Sweep:
    """One size that is changed under one rule, and the slopes to be expected of time and memory."""

    name: str
    variant: str
    nets: dict[int, Net]
    time: float
    memory: float
    why: str  # what the two are expected from


STEPS, BATCHES, UNITS, LAYERS = (16, 64, 256, 1024), (1, 4, 16, 64, 256), (256, 1024, 4096, 16_384), (2, 4, 8, 16)
EXACT = (256, 512, 1024, 2048)  # a value per example and synapse, and of each inner variable
SWEEPS = (
    Sweep(
        "steps", "sbd", {n: Net((64, 256, 256), 32, n) for n in STEPS},
        1, 0, "a step costs the same whatever came before; nothing of it is kept but the traces",
    ),
    Sweep(
        "steps", "bptt", {n: Net((64, 256, 256), 32, n, "bptt") for n in STEPS},
        1, 1, "backprop through time keeps every step",
    ),
    Sweep(
        "batch", "sbd", {n: Net((64, 256, 256), n, 16) for n in BATCHES},
        1, 1, "each example has its own activity and traces",
    ),
    Sweep(
        "units", "sbd", {n: Net((256, n), 4, 8, neuron="alif") for n in UNITS},
        1, 1, "synapses grow with the units of one layer",
    ),
    Sweep(
        "units", "sbd, exact", {n: Net((256, n), 4, 8, eligibility="exact", neuron="alif") for n in UNITS},
        1, 1, "a value per example and synapse",
    ),
    Sweep(
        "synapses", "sbd", {n: Net((n, n), 2, 4, neuron="alif") for n in UNITS},
        2, 2, "n^2 weights and gradients; traces only per unit",
    ),
    Sweep(
        "synapses", "sbd, exact", {n: Net((n, n), 2, 4, eligibility="exact", neuron="alif") for n in EXACT},
        2, 2, "a value per example and synapse",
    ),
    Sweep(
        "depth", "sbd", {n: Net((256,) * (n + 1), 32, 16) for n in LAYERS},
        1, 1, "layers of one size, one after the other",
    ),
    Sweep(
        "depth", "bptt", {n: Net((256,) * (n + 1), 32, 16, "bptt") for n in LAYERS},
        1, 1, "backprop through time keeps every step of every layer",
    ),
)  # fmt: skip
QUICK = {"rounds": 1, "repeats": 3}


class Shown:
    """Frames [B, inputs], again and again."""

    def __init__(self, frames: Any, steps: int) -> None:
        self.frames = frames
        self.steps = steps

    def __iter__(self) -> Iterator[Any]:
        return (self.frames[step % FRAMES] for step in range(self.steps))


def built(net: Net) -> Any:
    """A learner on a network of these sizes, and what it learns from."""
    import torch

    import neurosbd

    unit, li, dense = neurosbd.neurons[net.neuron], neurosbd.neurons["li"], neurosbd.connections["dense"]
    names = ["input", *(f"hidden{n}" for n in range(1, len(net.sizes))), "output"]
    populations = [neurosbd.Population("input", (net.sizes[0],), None)]
    populations += [neurosbd.Population(n, (size,), unit()) for n, size in zip(names[1:-1], net.sizes[1:], strict=True)]
    populations.append(neurosbd.Population("output", (CLASSES,), li()))
    chain = pairwise(names)
    seed = torch.Generator().manual_seed(0)
    network = neurosbd.Network(populations, [neurosbd.Connection(a, b, dense()) for a, b in chain], seed)
    rule = neurosbd.rules[net.rule](**({} if net.rule == "bptt" else {"eligibility": net.eligibility}))
    frames = torch.empty(FRAMES, net.batch, net.sizes[0]).bernoulli_(DENSITY, generator=seed)
    target = torch.randint(CLASSES, (net.batch,), generator=seed)
    shown: Iterable[Any] = Shown(frames, net.steps)
    batch = neurosbd.Batch(shown, target, weights=(1 / net.steps,) * net.steps)
    return neurosbd.learner(network, rule, "cross_entropy"), network, batch


def work(net: Net, repeats: int, threads: int) -> dict[str, Any]:
    """Measure one net in this process."""
    import torch

    torch.set_num_threads(threads)
    learner, network, batch = built(Net((8, 8), 1, 2, net.rule, net.eligibility, net.neuron))
    learner.learn(batch)  # what comes with the first batch of all
    before = megabytes()
    learner, network, batch = built(net)
    seconds, busy = [], []
    for turn in range(2 + repeats):
        network.zero_grad()
        start, spent = time.perf_counter(), time.process_time()
        learner.learn(batch)
        if turn >= 2:
            seconds.append(time.perf_counter() - start)
            busy.append(time.process_time() - spent)
    return {"seconds": seconds, "busy": busy, "net_mb": megabytes() - before}


def run(net: Net, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one net in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--work", json.dumps(asdict(net))]
    command += ["--repeats", str(options.repeats), "--threads", str(options.threads)]
    here = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": here}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{net} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(sweeps: list[Sweep], options: argparse.Namespace, room: int) -> tuple[list[dict[str, Any]], list[str]]:
    """All points of all sweeps in turns, and what did not fit."""
    points = [(sweep, size, net) for sweep in sweeps for size, net in sweep.nets.items()]
    large = [f"{s.name} {size:,} ({s.variant})" for s, size, net in points if net.bytes() > 0.8 * room]
    points = [point for point in points if point[2].bytes() <= 0.8 * room]
    told: dict[tuple[str, str, int], list[dict[str, Any]]] = {(s.name, s.variant, size): [] for s, size, _ in points}
    for _, (sweep, size, net) in turns(points, options.rounds):
        told[sweep.name, sweep.variant, size].append(run(net, options))
    rows = []
    for (name, variant, size), runs in told.items():
        seconds = [s for one in runs for s in one["seconds"]]
        rows.append(
            {
                "sweep": name, "variant": variant, "size": size, **median_ms(seconds),
                "cpu_ms": 1e3 * statistics.median(s for one in runs for s in one["busy"]),
                "net_mb": statistics.median(one["net_mb"] for one in runs),
            }
        )  # fmt: skip
    return rows, large


def slope(sizes: list[int], values: list[float]) -> float | None:
    """Of the straight line through the logarithms; None where there are no two points above 0."""
    points = [(math.log(n), math.log(value)) for n, value in zip(sizes, values, strict=True) if value > 0]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else None


def slopes(sweep: Sweep, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Those of time and memory of a sweep, beside what is expected."""
    mine = [row for row in rows if (row["sweep"], row["variant"]) == (sweep.name, sweep.variant)]
    found: dict[str, Any] = {"sweep": sweep.name, "variant": sweep.variant, "why": sweep.why}
    for what, key, expected in (("time", "cpu_ms", sweep.time), ("memory", "net_mb", sweep.memory)):
        sizes, values = [row["size"] for row in mine], [row[key] for row in mine]
        found[what] = {"all": slope(sizes, values), "last": slope(sizes[-2:], values[-2:]), "expected": expected}
    return found


def show(rows: list[dict[str, Any]], lines: list[dict[str, Any]], large: list[str]) -> None:
    """Print both tables."""
    print(f"{'sweep':<10}{'rule':<12}{'size':>8}{'ms/batch':>10}{'quartiles':>18}{'CPU ms':>10}{'net MB':>9}")
    for row in rows:
        low, high = row["ms_quartiles"]
        print(f"{row['sweep']:<10}{row['variant']:<12}{row['size']:>8,}{row['ms']:>10.1f}", end="")
        print(f"{f'{low:.1f}-{high:.1f}':>18}{row['cpu_ms']:>10.1f}{row['net_mb']:>9.1f}")
    print(f"\n{'slope of':<22}{'CPU time':>10}{'last two':>10}{'expected':>10}", end="")
    print(f"{'memory':>10}{'last two':>10}{'expected':>10}")
    for line in lines:
        print(f"{line['sweep']:<10}{line['variant']:<12}", end="")
        for what in ("time", "memory"):
            parts = [line[what][key] for key in ("all", "last")]
            print("".join(f"{'':>10}" if p is None else f"{p:>10.2f}" for p in parts), end="")
            print(f"{line[what]['expected']:>10}", end="")
        print(f"   {line['why']}")
    if large:
        print(f"left out, would not fit into the memory here: {', '.join(large)}")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*dict.fromkeys(sweep.name for sweep in SWEEPS), *AT_ONCE]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="sweeps; default: all")
    parser.add_argument("--largest", type=int, help="leave out larger sizes")
    parser.add_argument("--quick", action="store_true", help=f"one round of {QUICK['repeats']} batches: minutes")
    parser.add_argument("--rounds", type=int, default=3, help="processes per size")
    parser.add_argument("--repeats", type=int, default=5, help="timed batches per process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        net = Net(**json.loads(options.work))
        print(json.dumps(work(net, options.repeats, options.threads)))
        return
    if options.quick:
        vars(options).update(QUICK)
    import torch

    from neurosbd.allocator import room
    from neurosbd.runs.machine import provenance

    torch.set_num_threads(options.threads)
    sweeps = [chosen(sweep, options.largest) for sweep in SWEEPS if sweep.name in options.only]
    rows, large = measured(sweeps, options, room())
    lines, told = [slopes(sweep, rows) for sweep in sweeps], provenance(torch.device("cpu"))
    together = at_once.measured([name for name in AT_ONCE if name in options.only], options)
    if options.json:
        print(json.dumps({"rows": rows, "slopes": lines, "at_once": together, "left_out": large, **told}, indent=1))
        return
    print(f"torch {told['versions']['torch']}, {told['device']}, {os.cpu_count()} cores, {told['threads']} threads")
    if sweeps:
        show(rows, lines, large)
    if together:
        at_once.show(together)


def chosen(sweep: Sweep, largest: int | None) -> Sweep:
    """A sweep without the sizes above `largest`."""
    nets = {size: net for size, net in sweep.nets.items() if largest is None or size <= largest}
    return replace(sweep, nets=nets)


if __name__ == "__main__":
    main()
