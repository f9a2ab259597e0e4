"""What compiling would bring to a spiking layer: its step and its gate, as they are and through Inductor.

    python benchmarks/fused_scan.py [--json] [--shapes 128x200 16x32x32x32] [--neurons lif alif cubalif] [--steps 16]
        [--repeats 30] [--threads 1]

A scan is `step` under K drives, one after another; a gate is `third_factor * gain` of all K at once. `here` is what a
block of steps runs, `compiled` the same two functions through torch.compile (Inductor, default mode), which a C++
compiler must be there for, without the time to compile them (`1st s`). They take turns within one process; times are
medians of CPU time (time.process_time). neurosbd compiles nothing: this is why, or why not any more.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import neurosbd
from neurosbd.neurons.neuron import Activity
from neurosbd.neurons.scan import knows_scan, scan_of
from neurosbd.training.machine import provenance

DT = 1e-3


def scanned(neuron: Any, state: Any, drives: Tensor) -> tuple[Tensor, Tensor]:
    """Values and potentials of all steps, one after another, [K B, *size]."""
    shown = []
    for drive in drives.unbind():
        activity, state = neuron.step(state, drive, DT)
        shown.append(activity)
    scan = scan_of(shown, [])
    return scan.value, scan.potential


def here(neuron: Any, state: Any, drives: Tensor) -> tuple[Tensor, Tensor]:
    """The same as a block has it."""
    found = neuron.scan(state, drives.flatten(0, 1).clone(), len(drives), DT) if knows_scan(neuron) else None
    return scanned(neuron, state, drives) if found is None else (found.value, found.potential)


def gated(neuron: Any, value: Tensor, potential: Tensor, third_factor: Tensor) -> Tensor:
    """third_factor times the gain of every step."""
    return neuron.gate(Activity(value, potential), third_factor, DT)


def cases(name: str, shape: tuple[int, ...], steps: int) -> dict[str, Callable[[], object]]:
    """What takes turns."""
    neuron, seed = neurosbd.neurons[name](), torch.Generator().manual_seed(0)
    drives = 0.3 * torch.randn(steps, *shape, generator=seed)
    state = neuron.init(drives[0])
    value, potential = scanned(neuron, state, drives)
    third_factor = torch.randn(value.shape, generator=seed)
    scan, gate = torch.compile(scanned), torch.compile(gated)
    return {
        "scan, here": lambda: here(neuron, state, drives),
        "scan, compiled": lambda: scan(neuron, state, drives),
        "gate, here": lambda: gated(neuron, value, potential, third_factor),
        "gate, compiled": lambda: gate(neuron, value, potential, third_factor),
    }


def measure(name: str, shape: tuple[int, ...], options: argparse.Namespace) -> list[dict[str, Any]]:
    """One neuron at one shape."""
    calls = cases(name, shape, options.steps)
    first, spent = {}, {what: [] for what in calls}
    for what, call in calls.items():
        start = time.perf_counter()
        call()
        first[what] = time.perf_counter() - start
        call()
    for turn in range(options.repeats):
        for what in list(calls)[:: -1 if turn % 2 else 1]:
            start = time.process_time()
            calls[what]()
            spent[what].append(time.process_time() - start)
    rows = []
    for what in calls:
        rows.append({
            "neuron": name, "shape": list(shape), "what": what, "first_s": first[what],
            "cpu_ms": 1e3 * statistics.median(spent[what]),
        })  # fmt: skip
    return rows


@torch.no_grad()
def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["128x200", "16x32x32x32"], metavar="BxSIZE")
    parser.add_argument("--neurons", nargs="+", default=["lif", "alif", "cubalif"])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    neurosbd.keep_freed_memory()  # as `neurosbd fit` does
    torch.set_num_threads(options.threads)
    shapes = [tuple(int(n) for n in shape.split("x")) for shape in options.shapes]
    rows = [row for shape in shapes for name in options.neurons for row in measure(name, shape, options)]
    told = provenance(torch.device("cpu"))
    if options.json:
        print(json.dumps({"rows": rows, "options": vars(options), **told}, indent=1))
        return
    print(f"torch {told['versions']['torch']}, {told['device']}, {told['threads']} threads, {options.steps} steps")
    for row in rows:
        print(
            f"{row['neuron']:<9}{row['shape']!s:<20}{row['what']:<16}{row['cpu_ms']:>9.2f} ms{row['first_s']:>8.1f} s"
        )


if __name__ == "__main__":
    main()
