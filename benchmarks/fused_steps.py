"""What compiling brings to a population of neurons: a step and a gate as written, and in one kernel.

    python benchmarks/fused_steps.py [--json] [--shapes 1x1000 1x20000 64x512] [--repeats 200] [--threads 1]
        [--neurons lif alif cubalif adex izhikevich hodgkin_huxley] [--blocks 64x32x256]

`written` is the method as it stands, `fused` the same through torch.compile (Inductor), which a C++ compiler must be
there for, whether `time.fused` would take it or not; `1st s` is the time of its first call, which compiles. `worst` is
the largest difference that twenty steps make, relative to the largest value. They take turns within one process; times
are medians of CPU time (time.process_time).

`--blocks`, steps x examples x units, are whole blocks of `lif` as a learner goes through them: `scan` takes all steps,
`gate+trace` is the gain times the third factor and the filter of the eligibility, which runs backwards over the block
on the post side. Between the two lies the third factor, so that they cannot be one kernel. `batch ms` is a batch of two
hidden layers of as many units by `sbd`, as written, to tell what they are a part of.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from turns import cpu_seconds, in_turns, wall_seconds

import neurosbd
from neurosbd.neurons.fused import Fused
from neurosbd.neurons.neuron import Activity
from neurosbd.neurons.scan import apart
from neurosbd.runs.machine import provenance

DT = 1e-3
NEURONS = ("lif", "alif", "cubalif", "adex", "izhikevich", "hodgkin_huxley")


Step = Callable[..., tuple[Any, Any]]


def difference(written: Step, fused: Step, state: Any, drive: Tensor, dt: float) -> float:
    """The largest in any variable over twenty steps, relative to the largest value of that variable."""
    states, worst = [state, state], 0.0
    for _ in range(20):
        states = [step(each, drive, dt)[1] for step, each in zip((written, fused), states, strict=True)]
        pairs = [(a, b) for a, b in zip(*states, strict=True) if a is not None]
        worst = max(worst, *(float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)) for a, b in pairs))
    return worst


def measure(name: str, shape: tuple[int, ...], options: argparse.Namespace) -> list[dict[str, Any]]:
    """One neuron at one shape: a row for its step, one for its gate."""
    torch._dynamo.reset()
    neuron, drive = neurosbd.neurons[name](), torch.rand(shape, generator=torch.Generator().manual_seed(0))
    dt, step, gate = min(DT, getattr(neuron, "longest_step", DT)), Fused(neuron.step, name), Fused(neuron.gate, name)
    activity, state = neuron.step(neuron.init(drive), drive, dt)
    calls: dict[tuple[str, str], Callable[[], object]] = {
        ("step", "written"): partial(neuron.step, state, drive, dt), ("step", "fused"): partial(step, state, drive, dt),
        ("gate", "written"): partial(neuron.gate, activity, drive, dt),
        ("gate", "fused"): partial(gate, activity, drive, dt),
    }  # fmt: skip
    first = {what: wall_seconds(call) for what, call in calls.items()}
    spent = in_turns(calls, options.repeats, 1, cpu_seconds)
    rows = []
    for method in ("step", "gate"):
        written, fused = (1e3 * statistics.median(spent[method, how]) for how in ("written", "fused"))
        rows.append({
            "neuron": name, "shape": list(shape), "method": method, "written_ms": written, "fused_ms": fused,
            "first_s": first[method, "fused"], "worst": difference(neuron.step, step, state, drive, dt),
        })  # fmt: skip
    return rows


def _traced(gated: Tensor, steps: int, alpha: float) -> Tensor:
    """The filter of a factorised eligibility, backwards in time and in place."""
    views = apart(gated, steps)
    for now, later in zip(reversed(views[:-1]), reversed(views[1:]), strict=True):
        now.add_(later, alpha=alpha)
    return gated


def _by_steps(neuron: Any, state: Any, drives: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Spikes and potentials of a block, for a compiler: nothing is written over."""
    found = []
    for drive in apart(drives, steps):
        activity, state = neuron.step(state, drive, DT)
        found.append((activity.value, activity.potential))
    values, potentials = zip(*found, strict=True)
    return torch.cat(values), torch.cat(potentials)


def _backwards(neuron: Any, activity: Activity, third_factor: Tensor, steps: int, alpha: float) -> Tensor:
    """`_traced` of the gate, for a compiler."""
    *before, trace = apart(neuron.gate(activity, third_factor, DT), steps)
    found = [trace]
    for gated in reversed(before):
        found.append(trace := gated + alpha * trace)
    return torch.cat(found[::-1])


def measure_block(steps: int, examples: int, units: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for the scan of a block, one for gate and trace."""
    import scaling

    torch._dynamo.reset()
    seed = torch.Generator().manual_seed(0)
    neuron: Any = neurosbd.neurons["lif"]()
    drives, third_factor = (torch.rand(steps * examples, units, generator=seed) for _ in range(2))
    state, (alpha,) = neuron.init(drives[:examples]), neuron.filters(DT)
    activity = neuron.scan(state, drives.clone(), steps, DT).activity
    scan, back = Fused(_by_steps, "a scan"), Fused(_backwards, "a trace")
    net = scaling.Net((units, units, units), examples, steps)
    learner, network, batch = scaling.built(net)

    def learn() -> None:
        network.zero_grad()
        learner.learn(batch)

    calls: dict[tuple[str, str], Callable[[], Any]] = {
        ("scan", "written"): lambda: neuron.scan(state, drives.clone(), steps, DT),
        ("scan", "fused"): lambda: scan(neuron, state, drives.clone(), steps),
        ("gate+trace", "written"): lambda: _traced(neuron.gate(activity, third_factor, DT), steps, alpha),
        ("gate+trace", "fused"): lambda: back(neuron, activity, third_factor, steps, alpha),
        ("batch", "written"): learn,
    }  # fmt: skip
    first = {what: wall_seconds(call) for what, call in calls.items()}
    spent = in_turns(calls, options.repeats, 1, cpu_seconds)
    ms = {what: 1e3 * statistics.median(each) for what, each in spent.items()}
    same = calls["gate+trace", "written"](), calls["gate+trace", "fused"]()
    worst = {"gate+trace": float((same[0] - same[1]).abs().max() / same[0].abs().max())}
    worst["scan"] = float((activity.value - calls["scan", "fused"]()[0]).abs().max())
    return [
        {
            "neuron": "lif", "shape": [steps, examples, units], "method": method, "written_ms": ms[method, "written"],
            "fused_ms": ms[method, "fused"], "first_s": first[method, "fused"], "worst": worst[method],
            "batch_ms": ms["batch", "written"],
        }
        for method in ("scan", "gate+trace")
    ]  # fmt: skip


@torch.no_grad()
def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["1x1000", "1x20000", "64x512"], metavar="BxSIZE")
    parser.add_argument("--neurons", nargs="*", default=NEURONS)
    parser.add_argument("--blocks", nargs="*", default=[], metavar="TxBxSIZE")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    neurosbd.keep_freed_memory()  # as `neurosbd fit` does
    torch.set_num_threads(options.threads)
    shapes = [tuple(int(n) for n in shape.split("x")) for shape in options.shapes]
    rows = [row for shape in shapes for name in options.neurons for row in measure(name, shape, options)]
    for block in options.blocks:
        steps, examples, units = map(int, block.split("x"))
        rows += measure_block(steps, examples, units, options)
    told = provenance(torch.device("cpu"))
    if options.json:
        print(json.dumps({"rows": rows, "options": vars(options), **told}, indent=1))
        return
    print(f"torch {told['versions']['torch']}, {told['device']}, {told['threads']} threads")
    print(f"{'neuron':<16}{'shape':<14}{'':<12}{'written ms':>11}{'fused ms':>10}{'ratio':>7}", end="")
    print(f"{'1st s':>7}{'worst':>9}{'batch ms' if options.blocks else '':>10}")
    for row in rows:
        shape, ratio = "x".join(map(str, row["shape"])), row["fused_ms"] / row["written_ms"]
        print(
            f"{row['neuron']:<16}{shape:<14}{row['method']:<12}{row['written_ms']:>11.3f}{row['fused_ms']:>10.3f}"
            f"{ratio:>7.2f}{row['first_s']:>7.1f}{row['worst']:>9.1e}"
            + (f"{row['batch_ms']:>10.1f}" if "batch_ms" in row else "")
        )


if __name__ == "__main__":
    main()
