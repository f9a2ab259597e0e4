"""What recording costs: a training step with and without it, and opening a large trace.

    python benchmarks/recording.py [--json] [--parts training opening] [--nets dense conv digits] [--cores 1 2]
        [--voltages traces every] [--threads 1] [--repeats 12] [--size 10]

Training: two sessions of one definition, one with `record.signals`, learn in turns in one process, a bout of steps
each, and end with the same weights (checked). Recorded are all spikes (of the rate net all rates) at every step and
voltages: `traces` are 100, of random neurons of the first hidden population in one example; `every` is 100 neurons of
each population in every example of the batch. A bout with recording ends when all its blocks
are committed, so that the writing is in it, not in the bout of the other. `overhead` is that of the total time,
(quartiles) of single pairs of bouts; `of a step` compares the median steps, which mostly write nothing; `of CPU` counts
the time of all threads, wherever they ran. Blocks are compressed and written in a second thread: with `--cores 1` it
has no core of its own.

    dense    784-1000-10, LIF and integrator, 25 steps, batch 32, random pictures, SBD
    conv     cifar10-snn, 8 steps, batch 50, random pictures
    digits   digits-mlp as it is shipped: a rate net, a step of less than a millisecond

Opening: a trace of `--size` GB of voltages and spikes is written here and removed again; `neurosbd.open_run`, then a
row of each signal, after the file has left the cache of the system (where it can be told to); medians of 5.
The other libraries' monitors: benchmarks/monitors.py.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from turns import turns

TRACES = {"traces": "{}.v[neurons=random 100, examples=0]", "every": "*.v[neurons=random 100]"}
FIRST = {"dense": "hidden", "conv": "conv1"}
BOUTS = {"dense": 32, "conv": 4, "digits": 1000}  # steps: about a second, since other machines come and go
DENSE = """
rule = { kind = "sbd", neuromodulator = { scale = 0.05 } }
[time]
steps = 25
[training]
batch_size = 32
[population]
input = { size = [1, 28, 28] }
hidden = { size = [1000], neuron = { kind = "lif", tau_mem = 9.5e-3 } }
output = { size = [10], neuron = { kind = "lif", tau_mem = 9.5e-3 } }
[[connection]]
pre = "input"
post = "hidden"
kind = "dense"
weight = { kind = "kaiming_normal", gain = 0.5 }
[[connection]]
pre = "hidden"
post = "output"
kind = "dense"
"""


def sessions(net: str, voltages: str, folder: Path, steps: int) -> tuple[Any, Any]:
    """The same training of so many steps twice, the second one recorded."""
    import numpy as np
    import torch

    from neurosbd.config.resolve import load_model
    from neurosbd.datasets.load import load_data, resolve_data
    from neurosbd.runs.batches import DatasetBatches
    from neurosbd.training.session import Session

    model: str | Path = {"dense": folder / "dense.toml", "conv": "cifar10-snn", "digits": "digits-mlp"}[net]
    settings: dict[str, Any] = {"training.epochs": 1 + steps // 20, "record.limit": 1e9}  # 20 batches or more each
    if net == "dense":
        (folder / "dense.toml").write_text(DENSE)
    if net != "digits":
        rng, side = np.random.default_rng(0), {"dense": (28, 28), "conv": (32, 32, 3)}[net]
        pictures = {f"{split}_values": rng.integers(0, 256, (1000, *side), np.uint8) for split in ("train", "test")}
        labels = {f"{split}_labels": rng.integers(0, 10, 1000) for split in ("train", "test")}
        np.savez(folder / "pictures.npz", **pictures, **labels)  # type: ignore[arg-type]
        name, root = resolve_data("arrays", str(folder / "pictures.npz"))
        settings |= {"data.name": name, "data.root": root}
    signals = ["*.rate"] if net == "digits" else ["*.spikes", TRACES[voltages].format(FIRST.get(net))]
    made = []
    for asked in ([], signals):
        definition = load_model(model, settings=settings | {"record.signals": asked})
        data = load_data(definition.data.name, definition.data.root)
        device = torch.device("cpu")
        experiment = definition.build()
        made.append(Session(experiment, DatasetBatches(experiment, data, device), device))
    made[1].recorder.start(folder / "trace.h5", "{}", "benchmark")
    return made[0], made[1]


def bout(session: Any, steps: int) -> tuple[float, float, list[float]]:
    """Seconds and CPU seconds of some steps, all that they recorded written, and seconds of each."""
    single = []
    start, spent = time.perf_counter(), time.process_time()
    for _ in range(steps):
        before = time.perf_counter()
        if session.number == len(session.batches):
            session.next_epoch()
        session.step()
        single.append(time.perf_counter() - before)
    if session.recorder is not None:
        session.recorder.writer.drain()
    return time.perf_counter() - start, time.process_time() - spent, single


def train(net: str, voltages: str, repeats: int) -> dict[str, Any]:
    """Steps with and without recording, in turns."""
    import torch

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        bare, recorded = sessions(net, voltages, Path(folder), (repeats + 1) * BOUTS[net])
        told: dict[bool, list[tuple[float, float, list[float]]]] = {False: [], True: []}
        for turn, which in turns((False, True), repeats + 1):
            found = bout(recorded if which else bare, BOUTS[net])
            if turn:  # the first is the warm-up
                told[which].append(found)
        for one, other in zip(bare.network.parameters(), recorded.network.parameters(), strict=True):
            assert torch.equal(one, other), "recording has changed the training"
        written = recorded.recorder.writer.drain()
        plan = recorded.recorder.plan
        series = plan.contents.series
        row_bytes = [sum(s.row_bytes for s in series if s.clock == n) for n in range(len(plan.contents.clocks))]
        total = sum(rows * size for rows, size in zip(written, row_bytes, strict=True))
        path = recorded.recorder.writer.path
        recorded.recorder.close(complete=False)
        steps = (repeats + 1) * BOUTS[net]
        result = {
            "mb_per_step": sum(row_bytes) * bare.batches.steps / 1e6,
            "of_file": Path(f"{path}.partial").stat().st_size / total,
            "spiking": _share(Path(f"{path}.partial")),
            "steps": steps - BOUTS[net],
        }
    walls, spent = {w: [f[0] for f in told[w]] for w in told}, {w: [f[1] for f in told[w]] for w in told}
    single = {w: [s for found in told[w] for s in found[2]] for w in told}
    pairs = statistics.quantiles((r / b - 1 for r, b in zip(walls[True], walls[False], strict=True)), n=4)
    seconds = {w: sum(walls[w]) / len(single[w]) for w in told}
    return result | {
        "ms": 1e3 * seconds[False],
        "recorded_ms": 1e3 * seconds[True],
        "overhead": seconds[True] / seconds[False] - 1,
        "low": pairs[0],
        "high": pairs[2],
        "of_a_step": statistics.median(single[True]) / statistics.median(single[False]) - 1,
        "of_cpu": sum(spent[True]) / sum(spent[False]) - 1,
        "mb_per_s": result["mb_per_step"] / seconds[True],
        "torch": torch.__version__,
    }


def _share(path: Path) -> float | None:
    """Spikes per neuron and step, of the first population that spikes."""
    from neurosbd.tracefiles import open_trace

    with open_trace(path) as trace:
        spikes = trace.all("spikes")
        return float(spikes[0][:100].mean()) if spikes else None


def opening(size: float) -> dict[str, float]:
    """Write a large trace; seconds until it is open and until values are there."""
    import numpy as np

    from neurosbd.tracefiles import Clock, Contents, Rows, Series, TraceWriter, open_trace
    from neurosbd.tracefiles.series import MOST_ROWS

    about: dict[str, Any] = {"where": "hidden", "unit": "1", "clock": 0, "axes": ("row", "example", "neuron")}
    shape: dict[str, Any] = {"columns": (32, 1000), "size": (1000,)}
    v = Series(name="hidden.v", what="v", path="/acquisition/hidden.v/data", **about, **shape)
    spikes = Series(
        name="hidden.spikes", what="spikes", path="/neurosbd/spikes/hidden/data", dtype="uint8", **about, **shape
    )
    contents = Contents(
        clocks=(Clock(examples=tuple(range(32))),), series=(v, spikes), dt=1e-3, batch_size=32, steps=25,
        expected=(int(size * 1e9) // v.row_bytes + MOST_ROWS,),
    )  # fmt: skip
    rng, length = np.random.default_rng(0), contents.block_rows(0)
    values: dict[str, np.ndarray] = {v.name: rng.random((length, 32, 1000), np.float32)}
    values[spikes.name] = (values[v.name] > 0.9).astype(np.uint8)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        start, rows = time.perf_counter(), 0
        writer = TraceWriter.create(Path(folder) / "large.h5", contents, "{}", "large")
        while rows * v.row_bytes < size * 1e9:
            row = np.arange(rows, rows + length, dtype=np.int32)
            sample = np.zeros((length, 32), np.int64)
            writer.append(0, Rows(row * 1e-3, row % 25, row // 25, row * 0, sample, values))
            rows += length
        path = writer.close(complete=True)
        written = time.perf_counter() - start
        middle, last = values[v.name][rows // 2 % length], values[spikes.name][-1]
        rounds = []
        for _ in range(5):
            _forget(path)
            start = time.perf_counter()
            trace = open_trace(path)
            opened = time.perf_counter() - start
            assert np.array_equal(trace["hidden.v"][rows // 2], middle)
            assert np.array_equal(trace["hidden.spikes"][-1], last)
            rounds.append((opened, time.perf_counter() - start))
            trace.close()
        size = path.stat().st_size / 1e9
    opened, read = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    return {"gb": size, "rows": rows, "written_s": written, "open_s": opened, "open_and_read_s": read}


def _forget(path: Path) -> None:
    """Have the system read the file from the disk the next time."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def confine(cores: int, threads: int) -> None:
    """Have this process use so many cores, and torch so many threads."""
    import torch

    from neurosbd.allocator import keep_freed_memory

    keep_freed_memory()  # as `neurosbd fit` does
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


def apart(
    script: str, work: str, cores: int, threads: int, more: list[str], python: str = sys.executable
) -> dict[str, Any]:
    """Have a benchmark measure something in a process of its own."""
    command = [python, "-W", "ignore", str(Path(script).resolve()), "--work", work, "--cores", str(cores)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    told = subprocess.run([*command, "--threads", str(threads), *more], capture_output=True, text=True, env=environment)
    if told.returncode:
        sys.exit(f"{work} failed:\n{told.stderr}")
    return json.loads(told.stdout.splitlines()[-1])


def processor() -> str:
    """Name of the CPU as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def show_training(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(
        f"{'net':<8}{'voltages':<10}{'cores':>6}{'steps':>7}{'ms':>9}{'recorded':>10}{'overhead':>10}{'(quartiles)':>18}",
        end="",
    )
    print(f"{'of a step':>11}{'of CPU':>8}{'MB/step':>9}{'MB/s':>7}{'file':>7}{'spiking':>9}")
    for row in rows:
        spread = f"({row['low']:+.1%} {row['high']:+.1%})"
        spiking = "" if row["spiking"] is None else f"{row['spiking']:.1%}"
        print(
            f"{row['net']:<8}{row['voltages']:<10}{row['cores']:>6}{row['steps']:>7}{row['ms']:>9.2f}{row['recorded_ms']:>10.2f}",
            end="",
        )
        print(f"{row['overhead']:>+10.1%}{spread:>18}{row['of_a_step']:>+11.1%}{row['of_cpu']:>+8.1%}", end="")
        print(f"{row['mb_per_step']:>9.2f}{row['mb_per_s']:>7.0f}{row['of_file']:>7.2f}{spiking:>9}")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("training", "opening"), default=["training", "opening"])
    parser.add_argument("--nets", nargs="+", choices=list(BOUTS), default=list(BOUTS))
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="that a process may use")
    parser.add_argument("--voltages", nargs="+", choices=list(TRACES), default=list(TRACES))
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--repeats", type=int, default=12, help="pairs of bouts, at least 2")
    parser.add_argument("--size", type=float, default=10, help="of the large trace, GB")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--work", choices=list(BOUTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        confine(options.cores[0], options.threads)
        print(json.dumps(train(options.work, options.voltages[0], options.repeats)))
        return
    result: dict[str, Any] = {"machine": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"}
    turns = itertools.product(options.cores, options.nets, options.voltages) if "training" in options.parts else ()
    result["training"] = []
    for cores, net, voltages in turns:
        if net == "digits" and voltages != options.voltages[0]:
            continue  # it has none
        more = ["--repeats", str(options.repeats), "--voltages", voltages]
        row = {"net": net, "voltages": "" if net == "digits" else voltages, "cores": cores}
        result["training"].append({**row, **apart(__file__, net, cores, options.threads, more)})
    if "opening" in options.parts:
        result["opening"] = opening(options.size)
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['machine']}; {options.threads} threads")
    if result["training"]:
        show_training(result["training"])
    if "opening" in result:
        print("opening: " + ", ".join(f"{name} {value:.4g}" for name, value in result["opening"].items()))


if __name__ == "__main__":
    main()
