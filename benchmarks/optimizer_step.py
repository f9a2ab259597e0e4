"""A step of Adam over weights that lie in another order than their axes: torch's own, and `optimizer_step.apply`.

    python benchmarks/optimizer_step.py [--json] [--repeats 20] [--threads 1]

Kernels as networks here keep them: channels-last of a convolution, [height, width, kernel, kernel, in, out] of a
locally connected map; and the latter in the order of its axes. Medians, in turns.
"""

import argparse
import json
import statistics
from typing import Any

import torch
from torch import nn
from turns import Once, in_turns

from neurosbd.allocator import keep_freed_memory
from neurosbd.learning.optimizer_step import apply
from neurosbd.learning.optimizers import Adam

WEIGHTS = {
    "conv 64x128x5x5": lambda: torch.randn(64, 128, 5, 5).contiguous(memory_format=torch.channels_last),
    "local 32x16x16x64x5x5": lambda: torch.randn(16, 16, 5, 5, 64, 32).permute(5, 0, 1, 4, 2, 3),
    "the same in order": lambda: torch.randn(32, 16, 16, 64, 5, 5),
}


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Both ways in turns."""
    weight = nn.Parameter(WEIGHTS[name]())
    weight.grad = torch.randn_like(weight)
    optimizer = Adam().build([{"params": [weight], "lr": 1e-3}])
    ways: dict[str, Once] = {"step": optimizer.step, "apply": lambda: apply(optimizer)}
    seconds = in_turns(ways, repeats, 1)
    return {"weights": name, **{way: 1e3 * statistics.median(single) for way, single in seconds.items()}}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    rows = [measure(name, options.repeats) for name in WEIGHTS]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"torch {torch.__version__}, {options.threads} threads\n{'weights':<24}{'step ms':>10}{'apply ms':>10}")
    for row in rows:
        print(f"{row['weights']:<24}{row['step']:>10.2f}{row['apply']:>10.2f}")


if __name__ == "__main__":
    main()
