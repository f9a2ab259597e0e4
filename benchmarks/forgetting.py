"""How the forgetting factor of a model was chosen: validation accuracy of SBD against lam.

    python benchmarks/forgetting.py [--model cifar10-small] [--factors 0.9 0.99 ...] [--set KEY=VALUE ...]

Trains on the first 1,000 images of each class of the CIFAR-10 training set and validates on the last
500 of each class; the test set is not touched. One seed: differences under 1.5 points mean little.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

import neurosbd
from neurosbd.config.resolve import parse_setting

FACTORS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.998, 0.9995)


def hold_out(path: Path, train: int, validation: int) -> None:
    """Write a set of the user's own made of the training images alone."""
    samples = neurosbd.load_data("cifar10").train
    classes = [np.flatnonzero(samples.labels == label) for label in range(10)]
    first = np.sort(np.concatenate([index[:train] for index in classes]))
    last = np.sort(np.concatenate([index[-validation:] for index in classes]))
    np.savez(
        path,
        train_values=samples.values[first],
        train_labels=samples.labels[first],
        test_values=samples.values[last],
        test_labels=samples.labels[last],
    )


def main() -> None:
    """Parse, train, print a line per factor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-small")
    parser.add_argument("--factors", nargs="+", type=float, default=FACTORS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "cifar10-held-out.npz"
        try:
            hold_out(data, 1000, 500)
            for factor in options.factors:
                settings = dict(parse_setting(text) for text in options.set) | {
                    "rule.neuromodulator.forgetting": factor
                }
                out = Path(scratch) / str(factor)
                run = neurosbd.fit(options.model, rule="sbd", data=str(data), settings=settings, out=out)
                print(f"lam {factor:<7} validation accuracy {run.metrics[-1]['test_accuracy']:.2%}", flush=True)
        except (neurosbd.UsageError, neurosbd.RunError) as problem:
            sys.exit(str(problem))


if __name__ == "__main__":
    main()
