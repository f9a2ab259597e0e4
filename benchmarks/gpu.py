"""What a training costs on a GPU: an epoch, launches and host waits of a batch, a wide spiking layer beside its peers.

    python benchmarks/gpu.py [--json] [--only epoch batch layer] [--repeats 5] [--list]
    python benchmarks/gpu.py --device cpu [--units 256]          # the same with small sizes, to try the script

    epoch    an epoch of cifar10-cnn by recipe standard, batch 512, under SBD, SBP and backprop: 50,000 pictures,
             those of CIFAR-10 where NEUROSBD_DATA has them, else random ones of their shape. The last of 3 epochs
             counts, without the evaluation.
    batch    cifar10-cnn (batch 512), cifar10-snn (128), digits-snn and digits-mlp (32) under SBD and backprop: time
             of a batch with its optimizer's step, under SBD also replayed as one graph; launches of kernels, counted
             by torch's profiler; operations in which the host waits for the device, as
             `torch.cuda.set_sync_debug_mode` reports them; peak of the memory allocated.
    layer    Linear + LIF, 16,384 onto 16,384 units, T = 500, batch 16, forward and gradients of the mean squared
             spike over time, from the same spikes: SBD here, whose gradient of a single layer is that of its online
             traces; backprop through time here; snnTorch and Norse, with torch.compile of a step too. Time and peak
             memory.

Everything is measured after a warm-up, which compiles, with the device synchronised before and after. Times are
medians of `repeats` with their quartiles, in turns within a part. The whole takes under three minutes on one GPU.
Without one the script says what it would measure and ends with status 2; `--list` does so anywhere. What is not
installed, and what fails, is reported in its place.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step_cost import Step
from torch.profiler import ProfilerActivity, profile
from turns import device_seconds, in_turns, median_ms, wait
from wide_layer import LAYERS

import neurosbd
from neurosbd.learning.batch import Batch
from neurosbd.learning.capture import Captured
from neurosbd.learning.optimizer_step import Update
from neurosbd.runs.machine import provenance

DENSITY = 0.05  # of the spikes that drive the wide layer
PARTS = ("epoch", "batch", "layer")


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    images: int = 50_000
    epoch_batch: int = 512
    batches: tuple[tuple[str, int], ...] = (
        ("cifar10-cnn", 512), ("cifar10-snn", 128), ("digits-snn", 32), ("digits-mlp", 32),
    )  # fmt: skip
    units: int = 16_384
    steps: int = 500
    batch: int = 16


SMALL = Sizes(64, 32, (("cifar10-cnn", 4), ("digits-snn", 8), ("digits-mlp", 8)), 256, 20, 4)


def listed(sizes: Sizes) -> str:
    """What is measured, a line each."""
    models = ", ".join(f"{model} (batch {batch})" for model, batch in sizes.batches)
    return "\n".join(
        (
            f"epoch: seconds of an epoch of cifar10-cnn, {sizes.images:,} pictures, batch {sizes.epoch_batch}, under "
            f"{', '.join(EPOCH_RULES)}",
            f"batch: ms, launches, host waits, peak memory of a batch of {models}, under {', '.join(BATCH_RULES)}",
            f"layer: ms, peak memory of Linear + LIF, {sizes.units:,} units, T = {sizes.steps}, batch {sizes.batch} "
            f"(of {', '.join(LAYERS)})",
        )
    )


def peak_mb(once: Callable[[], object], device: torch.device) -> float | None:
    """Memory allocated on a GPU at its highest during a call, with what was there before; None on a CPU."""
    if device.type != "cuda":
        return None
    wait(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    once()
    wait(device)
    return torch.cuda.max_memory_allocated(device) / 1e6


# epoch

EPOCH_RULES = ("sbd", "sbp", "bp")


def pictures(folder: Path, images: int) -> str:
    """The data of the epochs: CIFAR-10 if it is there, else a file of random pictures of its shape."""
    if images >= 50_000 and os.environ.get("NEUROSBD_DATA"):
        try:
            neurosbd.load_data("cifar10")
            return "cifar10"
        except neurosbd.UsageError:
            pass  # not among what is there
    rng, path = np.random.default_rng(0), folder / "pictures.npz"
    counts = {"train": images, "test": min(images, 1000)}
    values = {f"{s}_values": rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for s, n in counts.items()}
    labels = {f"{s}_labels": rng.integers(0, 10, n) for s, n in counts.items()}
    np.savez(path, **values, **labels)  # type: ignore[arg-type]
    return str(path)


def epochs(sizes: Sizes, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Seconds of an epoch under each rule."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        data = pictures(Path(place), sizes.images)
        for rule in EPOCH_RULES:
            settings = {"training.epochs": 3, "training.batch_size": sizes.epoch_batch}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", neurosbd.UsageWarning)  # random labels cannot be learned
                run = neurosbd.fit(
                    "cifar10-cnn", data=data, rule=rule, recipe="standard", settings=settings, device=device,
                    out=Path(place) / rule,
                )  # fmt: skip
            seconds = [sizes.images / line["samples_per_second"] for line in run.metrics]
            shown = "cifar10" if data == "cifar10" else "random pictures"
            rows.append({"rule": rule, "data": shown, "seconds": seconds[-1], "first_epoch_seconds": seconds[0]})
    return rows


# batch

BATCH_RULES = ("sbd", "bp")


class Replayed(Step):
    """The same step, its batch and the step of its optimizer replayed as one graph."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.captured = Captured(self.learner, update=Update(self.optimizer))

    def __call__(self) -> None:
        """Replay."""
        self.captured.learn(Batch(self.x, self.target))
        self.learner.after_step()


def launches(once: Callable[[], object], device: torch.device) -> tuple[str, int]:
    """Kernels that a call launches; on a CPU, the operators that it calls."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        once()
        wait(device)
    names = [event.name for event in seen.events() or []]
    if on_gpu:
        return "launches", sum("LaunchKernel" in name for name in names)
    return "operators", sum(name.startswith("aten::") for name in names)


def host_waits(once: Callable[[], object], device: torch.device) -> list[str] | None:
    """Where the host waits for the device during a call; None on a CPU, which never does."""
    if device.type != "cuda":
        return None
    wait(device)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            once()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = [warning for warning in told if "synchronizing CUDA operation" in str(warning.message)]
    return [f"{Path(warning.filename).name}:{warning.lineno}" for warning in found]


def batches(sizes: Sizes, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """What a batch of every model costs."""
    rows = []
    for model, batch in sizes.batches:
        steps = {rule: Step(model, rule if rule != "bp" else backprop(model), device, batch) for rule in BATCH_RULES}
        if device.type == "cuda":
            steps["sbd, graph"] = Replayed(model, "sbd", device, batch)
        seconds = in_turns(steps, repeats, 3, Step.timed)
        for rule, step in steps.items():
            what, count = launches(step, device)
            waits = host_waits(step, device)
            row = {"model": model, "batch": batch, "rule": rule, **median_ms(seconds[rule]), what: count}
            row |= {"reason": step.captured.reason} if isinstance(step, Replayed) else {}
            row |= {"host_waits": None if waits is None else len(waits), "waits_at": waits}
            rows.append(row | {"peak_mb": peak_mb(step, device)})
    return rows


def backprop(model: str) -> str:
    """Its rule for this model."""
    return "bptt" if neurosbd.load_model(model).time.steps > 1 else "bp"


# layer


def layers(sizes: Sizes, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Time and memory of the wide layer in every library; one after the other, since each fills the memory."""
    seed = torch.Generator().manual_seed(0)
    x = torch.empty(sizes.steps, sizes.batch, sizes.units).bernoulli_(DENSITY, generator=seed).to(device)
    rows = []
    for name, make in LAYERS.items():
        row: dict[str, Any] = {"library": name}
        try:
            once = make(x)
            first, second, *seconds = (device_seconds(once, device) for _ in range(2 + repeats))
            row["warm_up_s"] = first + second  # the second may compile again
            row |= median_ms(seconds) | {"peak_mb": peak_mb(once, device)}
        except ImportError as missing:
            row["failed"] = f"not installed: {missing}"
        except Exception as problem:  # of a library of others, or of its compiler: said, and the rest goes on
            row["failed"] = f"{type(problem).__name__}: {next(iter(str(problem).splitlines()), '')[:120]}"
        rows.append(row)
    return rows


MEASURES = {"epoch": epochs, "batch": batches, "layer": layers}


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    found = {}
    for name in ("snntorch", "norse"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def show(part: str, rows: list[dict[str, Any]]) -> None:
    """Print the rows of a part, a column per key."""
    print(f"\n{part}")
    keys = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in ("waits_at", "failed")]
    cells = [[_cell(row.get(key)) for key in keys] for row in rows]
    widths = [max(len(key), *(len(line[i]) for line in cells)) for i, key in enumerate(keys)]
    print("  ".join(key.ljust(width) for key, width in zip(keys, widths, strict=True)))
    for row, line in zip(rows, cells, strict=True):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), row.get("failed", ""))
        for place in sorted(set(row.get("waits_at") or [])):
            print(f"    the host waits at {place}, {row['waits_at'].count(place)} times")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " - ".join(_cell(part) for part in value)
    return f"{value:,.4g}" if isinstance(value, float) else "" if value is None else str(value)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts; default: all")
    parser.add_argument("--device", default="cuda", help="'cuda', 'cuda:1', or 'cpu' for small sizes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--units", type=int, help="of the wide layer, in place of 16,384 (cpu: 256)")
    parser.add_argument("--list", action="store_true", help="say what is measured, and measure nothing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    sizes = SMALL if device.type == "cpu" else Sizes()
    if options.units:
        sizes = Sizes(**{**vars(sizes), "units": options.units})
    if options.list:
        print(listed(sizes))
        return
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU here; with one, this measures:\n{listed(sizes)}", file=sys.stderr)
        sys.exit(2)
    start = time.perf_counter()
    found = {part: MEASURES[part](sizes, device, options.repeats) for part in PARTS if part in options.only}
    told = {**provenance(device), "peers": versions(), "seconds": time.perf_counter() - start}
    if options.json:
        print(json.dumps({**found, **told}, indent=1))
        return
    small = ", small sizes: they say nothing about speed" if device.type == "cpu" else ""
    peers = ", ".join(f"{name} {version}" for name, version in told["peers"].items())
    print(f"torch {told['versions']['torch']}, {told['device']}{small}; {peers}; {told['seconds']:.0f} s")
    for part, rows in found.items():
        show(part, rows)


if __name__ == "__main__":
    main()
