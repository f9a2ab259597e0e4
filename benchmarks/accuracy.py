"""Train one model under several rules and seeds; print mean, standard deviation and n of what it is judged by.

    python benchmarks/accuracy.py MODEL [--rules sbd ebd dfa bp] [--recipe R] [--seeds 3] [--set KEY=VALUE ...] [--json]

Every rule of a seed starts from the same weights and sees the same batches. The test accuracy (R², explained deviance)
is that of the last epoch; nothing is selected on the test set.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

import neurosbd
from neurosbd.experiment.machine import provenance
from neurosbd.experiment.progress import duration
from neurosbd.experiment.resolve import parse_setting
from neurosbd.measures import shown, title
from neurosbd.report.account import judged_by


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """One row per rule."""
    settings = dict(parse_setting(text) for text in options.set)
    rows: list[dict[str, object]] = []
    merit = ""
    with tempfile.TemporaryDirectory() as scratch:
        for rule in options.rules:
            test, train, seconds = [], [], []
            for seed in range(options.seeds):
                start = time.perf_counter()
                out = Path(options.out or scratch) / f"{rule}-{seed}"
                run = neurosbd.fit(
                    options.model, rule=rule, recipe=options.recipe, seed=seed, settings=settings, data=options.data,
                    out=out, device=options.device,
                )  # fmt: skip
                if run.result["status"] != "finished":
                    sys.exit(f"{rule} seed {seed} was {run.result['status']}; no table")
                seconds.append(time.perf_counter() - start)
                merit = judged_by(run)[0]
                test.append(run.metrics[-1][f"test_{merit}"])
                train.append(run.metrics[-1][f"train_{merit}"])
                print(
                    f"{rule} seed {seed}: test {test[-1]:.4f} in {duration(seconds[-1])}", file=sys.stderr, flush=True
                )
            rows.append(
                {
                    "rule": rule,
                    "n": len(test),
                    "measure": merit,
                    f"test_{merit}": test,
                    "mean": statistics.mean(test),
                    "std": statistics.stdev(test) if len(test) > 1 else 0.0,
                    "train_mean": statistics.mean(train),
                    "seconds": statistics.mean(seconds),
                }
            )
    return rows


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rules", nargs="+", default=["sbd", "ebd", "dfa", "bp"])
    parser.add_argument("--recipe", help="see `neurosbd list recipes`")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0..N-1")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", help="keep the runs here (default: thrown away)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    neurosbd.keep_freed_memory()  # as `neurosbd fit` does
    try:
        rows = measure(options)
    except (neurosbd.UsageError, neurosbd.RunError) as problem:
        sys.exit(str(problem))
    if options.json:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        print(json.dumps({"model": options.model, "set": options.set, "rows": rows, **provenance(device)}, indent=1))
        return
    print(f"{options.model} {options.recipe or ''} {' '.join(options.set)}")
    name = str(rows[0]["measure"])
    print(f"{'rule':<6}{'test ' + title(name):>26}{'n':>4}{'train':>9}{'time':>10}")
    for row in rows:
        mean, std, train, seconds = (float(str(row[key])) for key in ("mean", "std", "train_mean", "seconds"))
        spread = f"{shown(name, mean)} +- {shown(name, std)}"
        print(f"{row['rule']:<6}{spread:>26}{row['n']:>4}{shown(name, train):>9}{duration(seconds):>10}")


if __name__ == "__main__":
    main()
