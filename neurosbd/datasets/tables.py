"""A user's own table: one .csv file."""

import csv
from pathlib import Path

import numpy as np

from neurosbd.datasets.arrays import classified, measured
from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import UsageError

_LAYOUT = (
    "the first line must name the columns: 'label' (classes, integers from 0) or 'target' or 'target:NAME' (values to "
    "predict), 'split' (train or test) if you like, and the inputs"
)
_TEST_EVERY = 5  # of a table without 'split'


def read_csv(definition: DatasetFile, folder: Path) -> Splits:
    """A line per example; columns as data/csv.toml tells.

    Raises:
        UsageError: with the line and column of what is no number.
    """
    path = folder / definition.files["all"][0]
    names, rows = _lines(path)
    targets = [i for i, name in enumerate(names) if name == "target" or name.startswith("target:")]
    labels = [i for i, name in enumerate(names) if name == "label"]
    inputs = [i for i, name in enumerate(names) if name != "split" and i not in (*targets, *labels)]
    if bool(targets) == bool(labels) or len(labels) > 1 or not inputs or len(set(names)) < len(names):
        raise UsageError(f"{path}: the columns are {', '.join(names) or 'none'}; {_LAYOUT}")
    test = _tested(rows, names, path)
    numbers = _numbers(rows, names, [*inputs, *targets, *labels], path)
    values, wanted = numbers[:, : len(inputs)].astype(np.float32), numbers[:, len(inputs) :]
    if labels:
        classes = _classes(wanted[:, 0], path)
        return classified(Samples(values[~test], classes[~test]), Samples(values[test], classes[test]), definition)
    wanted = wanted.astype(np.float32)
    called = tuple(names[i].partition(":")[2] or names[i] for i in targets)
    train, held = Samples(values[~test], wanted[~test]), Samples(values[test], wanted[test])
    return measured(train, held, definition, called)


def _lines(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise UsageError(f"{path}: not a readable .csv file ({problem})") from None
    if len(lines) < 2:
        raise UsageError(f"{path}: {len(lines)} lines; {_LAYOUT}")
    names, rows = [name.strip() for name in lines[0]], lines[1:]
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise UsageError(f"{path}: line {number} has {len(row)} cells, but there are {len(names)} columns")
    return names, rows


def _tested(rows: list[list[str]], names: list[str], path: Path) -> np.ndarray:
    """Which examples are for the test, bool [N]."""
    if "split" not in names:
        return np.arange(len(rows)) % _TEST_EVERY == _TEST_EVERY - 1
    column = names.index("split")
    for number, row in enumerate(rows, 2):
        if row[column].strip() not in ("train", "test"):
            raise UsageError(f"{path}: line {number}: split is '{row[column]}'; legal are train and test")
    return np.array([row[column].strip() == "test" for row in rows])


def _numbers(rows: list[list[str]], names: list[str], columns: list[int], path: Path) -> np.ndarray:
    """float64 [N, columns]."""
    found = np.empty((len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            try:
                found[i, j] = float(row[column])
            except ValueError:
                raise UsageError(
                    f"{path}: line {i + 2}, column '{names[column]}': '{row[column]}' is no number; write words as "
                    f"columns of 0 and 1, and leave out lines with gaps"
                ) from None
    return found


def _classes(labels: np.ndarray, path: Path) -> np.ndarray:
    bad = np.flatnonzero(~(np.isfinite(labels) & (labels == np.floor(labels))))
    if len(bad):
        raise UsageError(
            f"{path}: line {bad[0] + 2}: the label is {labels[bad[0]]:g}; give integers from 0, or name the column "
            f"'target' if it is a value to predict"
        )
    return labels.astype(np.int64)
