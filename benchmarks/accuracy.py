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
from typing import NamedTuple

import neurosbd
from neurosbd.config.resolve import parse_setting
from neurosbd.measures import MEASURES, shown, title
from neurosbd.report.run_summary import judged_by
from neurosbd.runs.machine import check_device, provenance
from neurosbd.runs.progress import duration


class Row(NamedTuple):
    """One rule: its last epochs, seed by seed."""

    rule: str
    measure: str  # what it is judged by
    test: list[float]
    train: list[float]
    seconds: list[float]  # of a run, tests and saving included


def measure(options: argparse.Namespace) -> list[Row]:
    """One row per rule."""
    settings = dict(parse_setting(text) for text in options.set)
    rows: list[Row] = []
    merit = "loss"
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
                merit = next(iter(judged_by(run)), "loss")
                test.append(run.metrics[-1][f"test_{merit}"])
                train.append(run.metrics[-1][f"train_{merit}"])
                print(
                    f"{rule} seed {seed}: test {test[-1]:.4f} in {duration(seconds[-1])}", file=sys.stderr, flush=True
                )
            rows.append(Row(rule, merit, test, train, seconds))
    return rows


def line(row: Row) -> str:
    """Mean and standard deviation over the seeds, n, mean of the training split, mean time."""
    write = shown if row.measure in MEASURES else lambda name, value: f"{value:.4f}"
    spread = f" +- {write(row.measure, statistics.stdev(row.test))}" if len(row.test) > 1 else ""
    test, train = (write(row.measure, statistics.mean(values)) for values in (row.test, row.train))
    took = duration(statistics.mean(row.seconds))
    return f"{row.rule:<10}{test + spread:>26}{len(row.test):>4}{train:>9}{took:>10}"


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
        asked = {name: getattr(options, name) for name in ("model", "recipe", "data", "set")}
        found = {"rows": [row._asdict() for row in rows], **provenance(check_device(options.device))}
        print(json.dumps(asked | found, indent=1))
        return
    print(f"{options.model} {options.recipe or ''} {' '.join(options.set)}")
    name = rows[0].measure
    print(f"{'rule':<10}{'test ' + (title(name) if name in MEASURES else name):>26}{'n':>4}{'train':>9}{'time':>10}")
    print(*map(line, rows), sep="\n")


if __name__ == "__main__":
    main()
