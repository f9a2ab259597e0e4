"""What a step holds at its peak: layers that learn one after another beside backpropagation.

    python benchmarks/layer_memory.py [--json] [--layers 2 4 8] [--width 1000] [--batch 1000]

A perceptron of as many hidden layers of `width` relu units, 3,072 inputs and 10 classes, and a convolutional network of
as many layers of 64 maps of 32 x 32 (of batch / 40 examples), float32, one batch, no optimizer. MB is what torch's
allocator on the CPU has handed out at the peak of a step, less what was there before it: weights, inputs and gradients.
Ratios are to backprop on the same network; `sequential` is mono_forward with order = 'sequential', half way through.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from typing import Any

RULES = ("bp", "dfa", "mono_forward", "sequential")


def network_of(kind: str, layers: int, width: int) -> Any:
    """`layers` hidden populations, all of one size."""
    import torch

    from neurosbd.connections import Conv2d, Dense
    from neurosbd.network.network import Connection, Network, Population
    from neurosbd.neurons import Identity, ReLU

    maps, names = kind == "cnn", ["input", *(f"hidden{n}" for n in range(layers)), "output"]
    size, shown = ((64, 32, 32), (3, 32, 32)) if maps else ((width,), (3072,))
    populations = [Population("input", shown, None), *(Population(n, size, ReLU()) for n in names[1:-1])]
    populations.append(Population("output", (10,), Identity()))
    between = Conv2d(3, padding=1) if maps else Dense()
    connections = [Connection(a, b, Dense() if b == "output" else between) for a, b in itertools.pairwise(names)]
    return Network(populations, connections, torch.Generator().manual_seed(0))


def peak(kind: str, rule: str, layers: int, width: int, batch: int) -> float:
    """MB of one step, in this process."""
    import torch

    from neurosbd.learning.batch import Batch
    from neurosbd.learning.learner import Learner
    from neurosbd.losses import LOSSES
    from neurosbd.neuromodulators import Shared
    from neurosbd.rules import RULES as TABLE

    constants: dict[str, object] = {"layout": Shared()} if "mono" in rule or rule == "sequential" else {}
    constants |= {"order": "sequential"} if rule == "sequential" else {}
    made = TABLE["mono_forward" if rule == "sequential" else rule](**constants)
    network = network_of(kind, layers, width)
    learner = Learner(network, made, LOSSES["cross_entropy"](), torch.Generator().manual_seed(0))
    learner.progress = 0.5  # a layer in the middle, of those that learn one after another
    for parameter in [*network.parameters(), *learner.parameters.values()]:
        parameter.grad = torch.zeros_like(parameter)
    count = batch // 40 if kind == "cnn" else batch
    x = torch.rand(1, count, *network.populations["input"].size)
    target = torch.randint(0, 10, (count,))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        learner.learn(Batch(x, target))
    seen: Any = profiler.profiler  # whose types leave out what it has
    return highest([e.nbytes() for e in seen.kineto_results.events() if e.name() == "[memory]"]) / 1e6


def highest(changes: Sequence[int]) -> int:
    """Of a sum of allocations and what is given back, in their order."""
    return max(itertools.accumulate(changes, initial=0))


def main() -> None:
    """A table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=["mlp", "cnn"])
    asked = parser.parse_args()
    found = []
    for kind, layers in itertools.product(asked.kinds, asked.layers):
        peaks = {rule: peak(kind, rule, layers, asked.width, asked.batch) for rule in RULES}
        found.append({"kind": kind, "layers": layers, **peaks})
        if not asked.json:
            each = "  ".join(f"{rule} {mb:6.1f} MB ({mb / peaks['bp']:.2f})" for rule, mb in peaks.items())
            print(f"{kind} of {layers} hidden layers: {each}", flush=True)
    if asked.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
