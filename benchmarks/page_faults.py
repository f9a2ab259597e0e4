"""What `neurosbd.keep_freed_memory` saves: trainings with and without it, in turns, each a process of its own.

    python benchmarks/page_faults.py [--json] [--models cifar10-cnn ...] [--images 1000] [--repeats 3]

Random pictures, recipe standard, one thread, two epochs, of which the second gives the speed. Without it, the
environment says that the allocator is set up already. A page fault is a page of 4 KB that the system hands out anew;
peak is the memory of the whole process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from turns import turns

WAYS = {"given back": {"GLIBC_TUNABLES": "", "THP_MEM_ALLOC_ENABLE": "0"}, "kept": {}}
CHILD = """
import json, resource, sys
from neurosbd.cli.main import main
status = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([status, used.ru_utime, used.ru_stime, used.ru_minflt]))
"""


def pictures(path: Path, images: int) -> None:
    """Random ones of the shape of CIFAR-10."""
    rng = np.random.default_rng(0)
    values = {f"{s}_values": rng.integers(0, 256, (images, 32, 32, 3), np.uint8) for s in ("train", "test")}
    labels = {f"{s}_labels": rng.integers(0, 10, images) for s in ("train", "test")}
    np.savez(path, **values, **labels)  # type: ignore[arg-type]


def train(model: str, way: str, data: Path, out: Path) -> dict[str, float]:
    """One training; what it took."""
    bare = {n: v for n, v in os.environ.items() if not n.startswith(("MALLOC_", "GLIBC_TUNABLES", "THP_MEM"))}
    environment = bare | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])} | WAYS[way]
    command = [sys.executable, "-c", CHILD, "fit", model, "--recipe", "standard", "--data", str(data)]
    told = subprocess.run(
        [*command, "--set", "training.epochs=2", "--out", str(out)], capture_output=True, text=True, env=environment
    )
    status, user, system, faults = json.loads(told.stdout.splitlines()[-1]) if told.stdout else (1, 0, 0, 0)
    if status:
        sys.exit(f"{model} failed:\n{told.stderr}")
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "samples_per_second": last["samples_per_second"], "user_s": user, "system_s": system,
        "page_faults": faults, "peak_mb": last["peak_memory_bytes"] / 1e6,
    }  # fmt: skip


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cifar10-cnn", "cifar10-small", "cifar10-lc"])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pictures.npz"
        pictures(data, options.images)
        for model in options.models:
            found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for turn, way in turns(WAYS, options.repeats):
                found[way].append(train(model, way, data, Path(folder) / f"{model}-{way}-{turn}"))
            for way, runs in found.items():
                medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                rows.append({"model": model, "freed memory": way, **medians})
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(
        f"{'model':<16}{'freed memory':<14}{'samples/s':>10}{'user s':>9}{'system s':>10}{'faults':>12}{'peak MB':>9}"
    )
    for row in rows:
        print(
            f"{row['model']:<16}{row['freed memory']:<14}{row['samples_per_second']:>10.0f}{row['user_s']:>9.1f}",
            end="",
        )
        print(f"{row['system_s']:>10.1f}{row['page_faults']:>12,.0f}{row['peak_mb']:>9.0f}")


if __name__ == "__main__":
    main()
