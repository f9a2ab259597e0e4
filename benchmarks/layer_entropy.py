"""Two ways to the inverse of a running correlation: carried on by the Woodbury identity, or renewed by Cholesky.

    python benchmarks/layer_entropy.py [--json] [--widths 256 512 1024 2048] [--batches 16 64] [--repeats 100]

Both make the pull -(R + epsilon I)^-1 h of `LayerEntropy` for one dense layer, in turns, for the examples heard.

    woodbury   P <- (P - K^T S K) / lam;  pull = -S K / (1 - lam);  K = H P, S = (lam B / (1 - lam) I + H K^T)^-1
    cholesky   R <- lam R + (1 - lam) H^T H / B;  P = (R + epsilon I)^-1 once in 100 batches;  pull = -H P / B

Time is the mean of 100 consecutive batches, so that the renewal is in it once, next to the median of one batch and
the longest; in ms. Drift: relative error of P after `--updates` batches in float32 against the direct inverse of the
same recursion in float64, N = 256, half of the units silent in all examples.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from turns import in_turns

from neurosbd.regularisers import LayerEntropy
from neurosbd.runs.machine import provenance
from neurosbd.testing.regularisers import pulled

WAYS = ("woodbury", "cholesky")
Pulling = Callable[[Any, Tensor], Any]


def woodbury(entropy: LayerEntropy, state: Tensor, value: Tensor) -> Tensor:
    """One batch: the pull (not returned: only its cost counts) and the inverse carried on."""
    h, lam = value[: entropy.examples], entropy.forgetting
    k = h @ state
    small = k @ h.t()
    small.diagonal().add_(lam * len(h) / (1 - lam))
    factor, _ = torch.linalg.cholesky_ex(small)
    solved = torch.cholesky_solve(k, factor)
    torch.mul(solved, -entropy.weight / (1 - lam))
    return torch.addmm(state, k.t(), solved, beta=1 / lam, alpha=-1 / lam)


def cholesky(entropy: LayerEntropy, state: Any, value: Tensor) -> Any:
    """One batch of the entropy that ships."""
    return pulled(entropy, state, value, 1.0)[1]


def timed(entropy: LayerEntropy, width: int, batch: int, repeats: int) -> dict[str, Any]:
    """Both ways in turns, on the same activity."""
    value = torch.relu(torch.randn(batch, width))
    states: dict[str, Any] = {
        "woodbury": torch.eye(width) / entropy.epsilon,
        "cholesky": entropy.init(value, torch.Generator()),
    }
    ways: dict[str, Pulling] = {
        "woodbury": lambda state, x: woodbury(entropy, state, x),
        "cholesky": lambda state, x: cholesky(entropy, state, x),
    }

    def once(name: str) -> None:
        states[name] = ways[name](states[name], value)

    seconds = in_turns({name: partial(once, name) for name in ways}, repeats, 3)
    times = {name: [1e3 * each for each in taken] for name, taken in seconds.items()}
    row: dict[str, Any] = {"width": width, "batch": batch, "heard": min(batch, entropy.examples)}
    for name, taken in times.items():
        row[name] = {"mean": statistics.mean(taken), "median": statistics.median(taken), "longest": max(taken)}
    return row


def drift(forgetting: float, updates: int, width: int = 256) -> dict[str, Any]:
    """Relative errors of both inverses in float32."""
    entropy = LayerEntropy(forgetting=forgetting, refresh=1)
    generator = torch.Generator().manual_seed(0)
    inverse = torch.eye(width) / entropy.epsilon
    exact = {
        "woodbury": entropy.epsilon * torch.eye(width, dtype=torch.float64),
        "cholesky": torch.eye(width, dtype=torch.float64),
    }
    state = entropy.init(torch.zeros(1, width), generator)
    for number in range(updates):
        h = torch.relu(torch.randn(16, width, generator=generator))
        h[:, width // 2 :] = 0
        inverse = woodbury(entropy, inverse, h)
        last = number == updates - 1
        heard = entropy if last else LayerEntropy(forgetting=forgetting, refresh=updates + 1)
        state = pulled(heard, state, h, 1.0)[1]
        new = (1 - forgetting) * (h.t() @ h).double() / 16
        exact = {name: forgetting * before + new for name, before in exact.items()}
    exact["cholesky"] += entropy.epsilon * torch.eye(width, dtype=torch.float64)
    row: dict[str, Any] = {"forgetting": forgetting, "updates": updates}
    for name, found in (("woodbury", inverse), ("cholesky", state.inverse)):
        direct = torch.linalg.inv(exact[name])
        row[name] = ((found - direct).norm() / direct.norm()).item()
    return row


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--updates", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = []
    for width in asked.widths:
        for batch in asked.batches:
            rows += [timed(LayerEntropy(examples=n), width, batch, asked.repeats) for n in sorted({16, batch})]
    drifts = [drift(forgetting, n) for forgetting in (0.99, 0.999) for n in asked.updates]
    told = provenance(torch.device("cpu"))
    if asked.json:
        print(json.dumps({"rows": rows, "drift": drifts, **told}, indent=1))
        return
    print(f"torch {told['versions']['torch']}, {told['device']}, {told['threads']} threads; ms: mean, median, longest")
    print(f"{'width':>6}{'batch':>7}{'heard':>7}{'woodbury':>26}{'cholesky':>26}")
    for row in rows:
        cells = ["".join(f"{row[way][kind]:>9.2f}" for kind in ("mean", "median", "longest")) for way in WAYS]
        print(f"{row['width']:>6}{row['batch']:>7}{row['heard']:>7}{cells[0]:>28}{cells[1]:>28}")
    print(f"\n{'lam':>6}{'updates':>9}{'woodbury':>12}{'cholesky':>12}")
    for row in drifts:
        print(f"{row['forgetting']:>6}{row['updates']:>9}{row['woodbury']:>12.1e}{row['cholesky']:>12.1e}")


if __name__ == "__main__":
    main()
