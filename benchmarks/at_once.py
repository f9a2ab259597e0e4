"""What many networks at once, and several processes for one, make of a core: rows `seeds`, `ranks` of scaling.py.

    python benchmarks/scaling.py --only seeds ranks [--json] [--quick]

    seeds      whole steps of digits-mlp and digits-snn (64 - 128 - 64 - 10, batch 32, 16 steps of time): one network as
               `fit` trains it, and 1, 8 and 32 side by side as `fit --seeds` does; ms for a batch of all of them; and
               8 of mnist-cnn (batch 16), as it is and with 4 and 8 channels, and of cifar10-small (batch 50), which
               `fit --seeds` trains in turns
    ranks      whole steps of cifar10-small at a batch of 512, and of digits-mlp and digits-snn with larger layers and
               batches, which are too small to gain: one process with one thread, one with two, and two with one each,
               which share every batch; the share of the time that is spent in their sums, waiting for each other
               included, and the bytes that are summed up for a batch

Data are the embedded digits, and random pictures of the size of MNIST's and CIFAR-10's. Every measurement is a process
of its own (a rank each), in turns, `rounds` times, each with two batches of warm-up and `repeats` timed ones; the
median over all. Making the batches is part of a step, tests and files are not. `CPU ms` counts only the time that a
process had a core: that of one rank in one process over that of each of two is what they gain where nothing else runs.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from turns import median_ms, turns

SEEDS = {"digits-mlp": (1, 8, 32), "digits-snn": (1, 8, 32), "mnist-cnn": (8,), "cifar10-small": (8,)}
SHARED: dict[str, dict[str, Any]] = {
    "cifar10-small": {"training.batch_size": 512},
    "digits-mlp": {"population.hidden1.size": [2048], "population.hidden2.size": [1024], "training.batch_size": 512},
    "digits-snn": {"population.hidden1.size": [512], "population.hidden2.size": [256], "training.batch_size": 128},
}
PLACES = ((1, 1), (1, 2), (2, 1))  # processes, threads of each
MANY_EPOCHS = 10_000  # so that no schedule comes to its end


@dataclass(frozen=True)
class Point:
    """What one measurement trains: seeds side by side (0: one network as `fit` does), or one network in processes."""

    model: str
    seeds: int = 0
    processes: int = 1
    threads: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    row: str = "seeds"  # of the table

    @property
    def name(self) -> str:
        """As the table calls it."""
        if self.row == "ranks":
            ranks = f"{self.processes} rank{'s' if self.processes > 1 else ''}"
            return f"{ranks} x {self.threads} thread{'s' if self.threads > 1 else ''}"
        return (f"{self.seeds} side by side" if self.seeds else "one, by itself") + (
            ", narrow" if self.settings else ""
        )


NARROW = {"population.conv1.size": [4, 28, 28], "population.conv2.size": [8, 14, 14], "population.fc.size": [64]}
POINTS = (
    *(Point(model, seeds) for model, counts in SEEDS.items() for seeds in (0, *counts)),
    *(Point("mnist-cnn", seeds, settings=NARROW) for seeds in (0, 8)),
    *(Point(model, 0, *place, settings, "ranks") for model, settings in SHARED.items() for place in PLACES),
)


class Watched:
    """Ranks whose sums are timed and counted."""

    def __init__(self, ranks: Any) -> None:
        self.ranks = ranks
        self.rank, self.size, self.rows = ranks.rank, ranks.size, ranks.rows
        self.seconds, self.bytes = 0.0, 0

    def total(self, *parts: Any) -> Any:
        """That of the ranks."""
        start = time.perf_counter()
        self.bytes += sum(part.numel() for part in parts) * max((part.itemsize for part in parts), default=0)
        try:
            return self.ranks.total(*parts)
        finally:
            self.seconds += time.perf_counter() - start


def loaded(definition: Any) -> tuple[Any, Any]:
    """The definition and its data: the embedded ones, or four batches of random pictures."""
    import numpy as np

    from neurosbd.runs.batches import data_in_memory, data_of

    if definition.data.name == "digits":
        return definition, data_of(definition)
    rng, count = np.random.default_rng(0), 4 * definition.training.batch_size
    shape, classes = definition.input_size(), definition.output_size()[0]
    splits = tuple((rng.integers(0, 256, (n, *shape), np.uint8), np.arange(n) % classes) for n in (count, classes))
    named, dataset = data_in_memory(definition, splits)
    return named, dataset(named)


def stepping(point: Point, ranks: Any) -> tuple[Callable[[], object], int]:
    """What takes one step of all networks, and how many examples it learns from."""
    import torch

    import neurosbd
    from neurosbd.runs.batches import DatasetBatches
    from neurosbd.training.session import Session
    from neurosbd.training.stack import Stack

    definition = neurosbd.load_model(point.model, settings={"training.epochs": MANY_EPOCHS, **point.settings})
    definition, data = loaded(definition)
    cpu, sessions = torch.device("cpu"), []
    shared: DatasetBatches | None = None
    for seed in range(max(point.seeds, 1)):
        experiment = definition.model_copy(update={"seed": seed}).build()
        shared = shared or DatasetBatches(experiment, data, cpu)
        sessions.append(Session(experiment, shared.for_seed(experiment), cpu, ranks))
    stack = Stack(sessions) if point.seeds else None
    whole = shared.examples // definition.training.batch_size if shared else 0

    def step() -> None:
        owner = stack or sessions[0]
        owner.step()
        owner.number %= whole  # the last batch of an epoch is smaller

    return step, definition.training.batch_size * len(sessions)


def work(point: Point, repeats: int) -> dict[str, Any]:
    """Measure one point in this process, or in this rank of several."""
    import torch

    import neurosbd
    from neurosbd.learning.ranks import joined, place_of

    torch.set_num_threads(point.threads)
    neurosbd.keep_freed_memory()
    with joined(place_of(os.environ), torch.device("cpu")) as found:
        ranks = Watched(found)
        step, examples = stepping(point, ranks)
        seconds, busy, sums, summed = [], [], [], 0
        for turn in range(2 + repeats):
            before, start, spent = (ranks.seconds, ranks.bytes), time.perf_counter(), time.process_time()
            step()
            if turn >= 2:
                seconds.append(time.perf_counter() - start)
                busy.append(time.process_time() - spent)
                sums.append(ranks.seconds - before[0])
                summed = ranks.bytes - before[1]
    return {"seconds": seconds, "busy": busy, "sums": sums, "bytes": summed, "examples": examples}


def run(point: Point, repeats: int) -> dict[str, Any]:
    """Measure one point in processes of its own; what rank 0 says."""
    command = [sys.executable, str(Path(__file__).resolve()), json.dumps(asdict(point)), str(repeats)]
    here = str(Path(__file__).resolve().parents[1])
    base = {**os.environ, "OMP_NUM_THREADS": str(point.threads), "PYTHONPATH": here}
    places = [{}] if point.processes == 1 else list(_places(point.processes))
    started = [
        subprocess.Popen(command, env=base | place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for place in places
    ]
    told = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, told, strict=True):
        if process.returncode:
            sys.exit(f"{point} failed:\n{errors}")
    return json.loads(told[0][0].splitlines()[-1])


def _places(processes: int) -> list[dict[str, str]]:
    """The environment of each of several processes that meet on this machine, as torchrun sets it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def measured(rows: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All points of some rows in turns; each beside the first of its model and row."""
    points = [point for point in POINTS if point.row in rows]
    found: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(points))}
    for _, number in turns(found, options.rounds):
        found[number].append(run(points[number], options.repeats))
    lines, first = [], {}
    for number, point in enumerate(points):
        seconds = [s for one in found[number] for s in one["seconds"]]
        rate = found[number][0]["examples"] / statistics.median(seconds)
        base = first.setdefault((point.row, point.model, json.dumps(point.settings)), rate)
        sums = sum(s for one in found[number] for s in one["sums"]) / sum(seconds)
        lines.append(
            {
                "row": point.row, "model": point.model, "name": point.name, **median_ms(seconds),
                "cpu_ms": 1e3 * statistics.median(s for one in found[number] for s in one["busy"]),
                "samples_per_second": rate, "gain": rate / base, "share_of_sums": sums,
                "mb_summed": found[number][0]["bytes"] / 1e6,
            }
        )  # fmt: skip
    return lines


def show(lines: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"\n{'row':<7}{'model':<15}{'networks or processes':<24}{'ms/batch':>10}{'quartiles':>16}", end="")
    print(f"{'CPU ms':>10}{'samples/s':>12}{'gain':>7}{'in sums':>9}{'MB':>7}")
    for line in lines:
        low, high = line["ms_quartiles"]
        shared = "2 ranks" in line["name"]
        sums = f"{line['share_of_sums']:>9.0%}{line['mb_summed']:>7.2f}" if shared else ""
        print(f"{line['row']:<7}{line['model']:<15}{line['name']:<24}{line['ms']:>10.2f}", end="")
        print(f"{f'{low:.2f}-{high:.2f}':>16}{line['cpu_ms']:>10.2f}", end="")
        print(f"{line['samples_per_second']:>12,.0f}{line['gain']:>7.2f}{sums}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(json.dumps(work(Point(**json.loads(sys.argv[1])), int(sys.argv[2]))))
