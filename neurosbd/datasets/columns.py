"""Columns of a table: which are asked for, and which merely number the rows."""

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from neurosbd.datasets.csv_cells import quoted
from neurosbd.datasets.normalisation import limits
from neurosbd.errors import UsageError, nearest

_FEWEST = 10  # rows of which it can be said that a column numbers them
_FAR = 100.0  # deviations from the mean
_NAMELESS = re.compile(r"(Unnamed: \d+)?")  # pandas' index, as written, and as read and written again


def chosen(names: Sequence[str], asked: Sequence[str], required: Sequence[str], source: str) -> list[bool]:
    """Which columns are read.

    Args:
        names: of all columns.
        asked: `data.columns`: names, in which * and ? stand for others; with '-' before them, columns to leave out.
            If there are only such, all others are read.
        required: columns that are read without being asked for, unless they are left out.
        source: the file, for messages.

    Raises:
        UsageError: if one that is asked for is not there; names the nearest.
    """
    wanted = [name for name in asked if name in names or not name.startswith("-")]
    refused = [name.removeprefix("-") for name in asked if name not in wanted]
    for pattern in (*wanted, *refused):
        if not any(_matches(name, pattern) for name in names):
            there = [name or "(no name)" for name in names]
            raise UsageError(
                f"{source}: data.columns: there is no column {quoted(pattern)}{nearest(pattern, there[:50])}"
            )
    return [
        (not wanted or name in required or any(_matches(name, pattern) for pattern in wanted))
        and not any(_matches(name, pattern) for pattern in refused)
        for name in names
    ]


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def leave_out(name: str) -> str:
    """How to leave a column out, in words of the command line.

    >>> leave_out("Unnamed: 0")
    '--set \\'data.columns=["-Unnamed: 0"]\\''
    """
    return f"--set 'data.columns=[{json.dumps(f'-{name}', ensure_ascii=False)}]'"


def row_numbers(
    values: np.ndarray, train: np.ndarray, names: Sequence[str], asked: Sequence[str], source: str
) -> list[str]:
    """What to say about columns that number the rows: their order would give the class away.

    Args:
        values: of the inputs, finite [N, n], in the order of the file.
        train: which rows are for training, bool [N].
        names: of the inputs.
        asked: `data.columns`; a column that is asked for by its name is wanted.
        source: the file, for messages.

    Returns:
        A sentence for every such column that has a name of its own.

    Raises:
        UsageError: if one has none: it is the index that pandas writes.
    """
    remarks = []
    for j, name in enumerate(names):
        if name in asked:
            continue
        how = next((how for rows in (values[:, j], values[train, j]) if (how := _numbering(rows))), None)
        if _NAMELESS.fullmatch(name):
            if how:
                raise UsageError(
                    f"{source}: input {j + 1}, {quoted(name)}, {how}: it is the index that pandas and R write, and "
                    f"gives away the class or value of rows that are sorted. Leave it out with {leave_out(name)}, or "
                    f"write the file without it (index=False, row.names=FALSE); to have it as an input, give it a name"
                )
            remarks.append(f"{source}: column {quoted(name)} has no name; if it is no input, {leave_out(name)}")
        elif how:
            remarks.append(
                f"{source}: column {quoted(name)} {how}, which gives away the class or value of rows that are sorted; "
                f"if it is no input, leave it out with {leave_out(name)}"
            )
    return remarks


def _numbering(column: np.ndarray) -> str | None:
    """How a column numbers its rows, in words; none if it does not."""
    if len(column) < _FEWEST:
        return None
    first = ", ".join(f"{value:.10g}" for value in column[:3])
    if _is_progression(column[:_FEWEST]) and _is_progression(column):
        return f"counts the rows ({first}, ...)"
    if (column[:_FEWEST] % 1 == 0).all():
        low, high = float(column.min()), float(column.max())
        if high - low == len(column) - 1 and len(np.unique(column)) == len(column):
            return f"has every whole number from {low:.10g} to {high:.10g} once ({first}, ...)"
    return None


def _is_progression(column: np.ndarray) -> bool:
    """Whether each value is as far from the one before it as all others are; up to its rounding in the file."""
    step = (float(column[-1]) - float(column[0])) / (len(column) - 1)
    line = float(column[0]) + step * np.arange(len(column))
    return bool(step) and bool(np.abs(column - line).max() <= 0.05 * abs(step))


def unusual(
    train: np.ndarray,
    test: np.ndarray,
    moments: tuple[Sequence[float], Sequence[float]],
    names: Sequence[str],
    source: str,
) -> list[str]:
    """What to say about columns that are constant in the training split, and those that leave its range in the test.

    Args:
        train, test: inputs [N, n].
        moments: means and deviations of the training split.
        names: of the columns.
        source: of the table, for messages.

    Raises:
        UsageError: if a test example is farther away than float32 can hold.
    """
    mean, std = (np.array(moment) for moment in moments)
    remarks, still = [], np.isinf(std)
    if still.any():
        remarks.append(
            f"{source}: {_few(names, still)} the same in all {len(train):,} training examples: nothing to learn "
            f"from, shown as 0"
        )
    learned, tested = (np.abs(limits(values) - mean).max(0) / std for values in (train, test))
    far = tested > np.maximum(_FAR, 10 * learned)
    if (tested > np.finfo(np.float32).max).any():
        raise UsageError(
            f"{source}: {_few(names, far)} out of all proportion in the test split; has it another unit there?"
        )
    if far.any():
        remarks.append(
            f"{source}: {_few(names, far)} up to {tested[far].max():.3g} deviations away from the training mean in the "
            f"test split, but at most {learned[far].max():.3g} in training; has it another unit there?"
        )
    return remarks


def _few(names: Sequence[str], which: np.ndarray) -> str:
    places = np.flatnonzero(which).tolist()
    listed = ", ".join(quoted(names[j]) for j in places[:5])
    if len(places) == 1:
        return f"column {listed} is"
    return f"columns {listed}{f' and {len(places) - 5} more' if len(places) > 5 else ''} are"
