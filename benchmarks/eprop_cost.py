"""What e-prop costs beside backprop through time: CPU time and memory of a batch, of a net with one spiking layer.

    python benchmarks/eprop_cost.py [--json] [--sizes 784 200 10] [--batch-size 128] [--steps 25] [--repeats 15]
        [--recurrent] [--block K] [--threads 1]

Leaky integrate-and-fire units and a leaky readout, cross-entropy at every step, the same spikes (a tenth of the
inputs) and the same first weights for all: `eprop`, whose exact eligibility is summed backwards in time within a block
of steps, and is a value per example and synapse between two blocks (`--block`); `sbd` and `dfa`, with the factorised
one; and `bptt`, autograd through time. `--recurrent` adds connections from the hidden
layer onto itself. All take turns within one process, after a warm-up of two batches; gradients are filled, without an
optimizer. CPU time is what the process had of its cores (time.process_time), so that a busy machine changes it less;
the ratio is to bptt, of the medians, with the quartiles of the ratios of single turns. Memory is the peak of all
tensors alive within a batch, counted by torch's profiler, in one turn more.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
from step_cost import allocated
from turns import cpu_seconds, in_turns, ratios

import neurosbd
from neurosbd.runs.machine import provenance

RULES, DENSITY = ("eprop", "sbd", "dfa", "bptt"), 0.1


def prepared(rule: str, options: argparse.Namespace) -> Callable[[], object]:
    """A batch under a rule, ready to be learned from."""
    inputs, hidden, classes = options.sizes
    lif, li, dense = neurosbd.neurons["lif"](), neurosbd.neurons["li"](), neurosbd.connections["dense"]
    populations = [
        neurosbd.Population("input", (inputs,), None),
        neurosbd.Population("hidden", (hidden,), lif),
        neurosbd.Population("output", (classes,), li),
    ]
    pairs = [("input", "hidden"), ("hidden", "output"), *([("hidden", "hidden")] if options.recurrent else [])]
    seed = torch.Generator().manual_seed(0)
    connections = [neurosbd.Connection(a, b, dense()) for a, b in pairs]
    network = neurosbd.Network(populations, connections, seed, block=options.block)
    learner = neurosbd.learner(network, rule, "cross_entropy")
    x = torch.empty(options.steps, options.batch_size, inputs).bernoulli_(DENSITY, generator=seed)
    batch = neurosbd.Batch(x, torch.randint(classes, (options.batch_size,), generator=seed))

    def once() -> object:
        network.zero_grad()
        return learner.learn(batch).loss

    return once


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rules in turns."""
    batches = {rule: prepared(rule, options) for rule in RULES}
    seconds = in_turns(batches, options.repeats, 2, cpu_seconds)
    return [
        {
            "rule": rule,
            "cpu_ms": 1e3 * statistics.median(seconds[rule]),
            **ratios(seconds[rule], seconds["bptt"]),
            "peak_bytes": allocated(batches[rule]),
        }
        for rule in RULES
    ]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs=3, default=[784, 200, 10], metavar=("INPUT", "HIDDEN", "CLASSES"))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--recurrent", action="store_true")
    parser.add_argument("--block", type=int, help="steps that are taken at once; as many as suit the memory")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    neurosbd.keep_freed_memory()  # as `neurosbd fit` does
    torch.set_num_threads(options.threads)
    rows, told = measure(options), provenance(torch.device("cpu"))
    if options.json:
        print(json.dumps({"rows": rows, "options": vars(options), **told}, indent=1))
        return
    print(f"torch {told['versions']['torch']}, {told['device']}, {told['threads']} threads")
    print(f"{'rule':<8}{'CPU ms':>10}{'of bptt':>10}{'quartiles':>16}{'peak MB':>10}")
    for row in rows:
        low, high = row["ratio_quartiles"]
        print(f"{row['rule']:<8}{row['cpu_ms']:>10.1f}{row['ratio']:>10.2f}", end="")
        print(f"{f'{low:.2f}-{high:.2f}':>16}{row['peak_bytes'] / 1e6:>10.1f}")


if __name__ == "__main__":
    main()
