"""Time and memory of one training step: SBD and DFA against backprop by autograd, side by side.

    python benchmarks/step_cost.py [--json] [--models ...] [--repeats 20] [--threads 2]

Same network, loss, batch, optimizer (torch's fused one) and memory layout (channels-last) for all; the
rules take turns within one process, after a warm-up. Time is the median over the turns, in ms; the ratio
is to backprop, with the interquartile range of the ratios of the single turns. Memory is the peak of all
tensors alive during a step, counted by torch's profiler from its allocation events (weights, projections
and optimizer state that exist before the step are added: they are listed apart as `resident`).
Backprop is `loss.backward()` through `network.step`, as a user of autograd would write it. A spiking model is shown the
same picture at all of its steps.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from turns import device_seconds, in_turns, ratios

from neurosbd.allocator import keep_freed_memory
from neurosbd.config.resolve import load_model
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.optimizer_step import apply
from neurosbd.runs.machine import provenance
from neurosbd.seeds import generator

MODELS = ("cifar10-mlp", "cifar10-cnn", "tinyimagenet-cnn")
RULES = ("sbd", "dfa", "bp")


class Step:
    """One rule on one model, with settings of its own if any, on random data of the right shape."""

    def __init__(
        self,
        model: str,
        rule: str,
        device: torch.device,
        batch_size: int | None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        # The recipe of the model's own rule for all, so that rules differ in nothing but the rule.
        definition = load_model(model, rule, settings)
        self.batch_size = batch_size or load_model(model).training.batch_size
        self.device = device
        self.network = definition.network().to(device)
        loss = definition.loss.build()
        self.learner = Learner(self.network, definition.rule.build(), loss, generator(0, "projection"))
        optimizer = load_model(model).training.optimizer.build()
        learned = [*self.network.parameters(), *self.learner.parameters.values()]
        self.optimizer = optimizer.build([{"params": learned, "lr": optimizer.lr}])
        size, classes = definition.input_size(), definition.output_size()[0]
        x = torch.randn(self.batch_size, *size, generator=generator(0, "x")).to(device)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        self.x = x.expand(definition.time.steps, *x.shape)
        self.target = torch.randint(classes, (self.batch_size,), generator=generator(0, "y")).to(device)

    def __call__(self) -> None:
        """Forward, learn, update."""
        self.optimizer.zero_grad()
        self.learner.learn(Batch(self.x, self.target))
        apply(self.optimizer)

    def timed(self) -> float:
        """Seconds of one step."""
        return device_seconds(self, self.device)

    def peak(self) -> int:
        """Bytes allocated within a step, at their highest."""
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self()
            return torch.cuda.max_memory_allocated() - before
        return allocated(self)

    def resident(self) -> int:
        """Bytes of projections and optimizer state."""
        return _bytes([self.learner.state_dict(), *self.optimizer.state.values()])


def allocated(once: Callable[[], object]) -> int:
    """Bytes allocated within a call on a CPU, at their highest."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        once()
    kineto: Any = seen.profiler
    events = [e for e in kineto.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def _bytes(kept: Any) -> int:
    """Of all tensors in plain containers."""
    if isinstance(kept, torch.Tensor):
        return kept.numel() * kept.element_size()
    inner = kept.values() if isinstance(kept, dict) else kept if isinstance(kept, list | tuple) else ()
    return sum(_bytes(item) for item in inner)


def measure(model: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """One model: all rules in turns."""
    steps = {rule: Step(model, rule, device, options.batch_size) for rule in RULES}
    times = in_turns(steps, options.repeats, 3, Step.timed)
    row: dict[str, Any] = {"model": model, "batch_size": steps["bp"].batch_size, "repeats": options.repeats}
    for rule, step in steps.items():
        row[rule] = {
            "ms": 1e3 * statistics.median(times[rule]),
            **ratios(times[rule], times["bp"]),
            "peak_bytes": step.peak(),
            "resident_bytes": step.resident(),
        }
    return row


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch-size", type=int, help="default: that of each model's recipe")
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()  # as `neurosbd fit` does
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    rows = [measure(model, options, device) for model in options.models]
    told = provenance(device)
    if options.json:
        print(json.dumps({"rows": rows, **told}, indent=1))
        return
    print(f"torch {told['versions']['torch']}, {told['device']}, {told['threads']} threads")
    head = f"{'model':<18}{'batch':>6}  {'rule':<5}{'ms':>9}{'of bp':>8}{'quartiles':>13}"
    print(f"{head}{'peak MB':>12}{'resident MB':>13}")
    for row in rows:
        for rule in RULES:
            cell = row[rule]
            low, high = cell["ratio_quartiles"]
            print(
                f"{row['model']:<18}{row['batch_size']:>6}  {rule:<5}{cell['ms']:>9.2f}{cell['ratio']:>8.3f}"
                f"{low:>8.2f}-{high:.2f}{cell['peak_bytes'] / 1e6:>12.1f}{cell['resident_bytes'] / 1e6:>13.1f}"
            )


if __name__ == "__main__":
    main()
