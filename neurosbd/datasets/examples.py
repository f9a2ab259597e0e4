"""Examples to be predicted by a network that is trained already: a file or folder, of which nothing is learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosbd.datasets.arrays import read_unsplit
from neurosbd.datasets.csv_cells import quoted
from neurosbd.datasets.load import Dataset, load_data
from neurosbd.datasets.pictures import read_unsorted
from neurosbd.datasets.samples import EventSamples
from neurosbd.datasets.tables import read_lines
from neurosbd.errors import UsageError, nearest, warn
from neurosbd.files import library
from neurosbd.files.writing import legal_path, regular

_MOST_NAMED = 5


@dataclass(frozen=True)
class Expected:
    """What a network has learned to tell, as its data set named it.

    size: of one example as the network sees it.
    columns: names of its features; none if they have none.
    classes: names of its classes; none if it predicts values.
    variables: names of the values it predicts; none if it predicts classes.
    """

    size: tuple[int, ...]
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examples:
    """Examples to be predicted.

    name: of the set.
    values: pictures uint8 [N, height, width, channels], features [N, n], or recordings of events.
    called: what each example is called: its number, its line, its file; N texts.
    target: what they are known to be: classes int64 [N], or values [N, k]; None: not known.
    """

    name: str
    values: np.ndarray | EventSamples
    called: tuple[str, ...]
    target: np.ndarray | None = None


def read_examples(source: str | Path, expected: Expected) -> Examples:
    """Examples of a data set, a table, arrays, or a folder of pictures.

    Of a data set these are the examples of its test split; of a .csv the lines whose `split` is test, or all; of an
    .npz `test_values`, or `values`; of a folder the pictures in test/, or in it, with or without folders of classes.

    Args:
        source: name of a data set, or a path.
        expected: what the network has learned to tell; columns and classes are found by their names.

    Raises:
        UsageError: if it is not there or damaged, lacks a column, or has a class the network has never seen.
    """
    path = legal_path(source)
    if path.suffix.lower() == ".csv":
        return _of_table(regular(path), expected)
    if path.suffix.lower() == ".npz":
        return _of_arrays(regular(path), expected)
    if path.is_dir() and str(source) not in library.names("data"):
        return _of_folder(path, expected)
    return of_dataset(load_data(source), expected)


def of_dataset(data: Dataset, expected: Expected) -> Examples:
    """The test split of a data set.

    Raises:
        UsageError: as `read_examples`.
    """
    samples, values = data.test, data.test if isinstance(data.test, EventSamples) else data.test.values
    if data.columns and expected.columns and isinstance(values, np.ndarray):
        values = values[:, _places(data.columns, expected.columns, data.name)]
    if expected.classes and data.kind == "classes":
        target = _renumbered(samples.targets, data.classes, expected.classes, data.name)
    elif expected.variables and data.kind != "classes":
        target = samples.targets[:, _places(data.variables, expected.variables, data.name, "value to predict")]
    else:
        there = "classes" if data.kind == "classes" else "values to predict"
        raise UsageError(f"{data.name}: has {there}, but the run has learned {_learned(expected)}; choose another set")
    return Examples(data.name, values, _numbers(len(samples)), target)


def _of_table(path: Path, expected: Expected) -> Examples:
    table = read_lines(path, expected.columns, "label" if expected.classes else "target")
    if not expected.columns and table.numbers.shape[1:] != expected.size:
        raise UsageError(
            f"{path}: has {table.numbers.shape[1]} inputs, but the run was trained on examples of {list(expected.size)}"
        )
    if table.unread:
        warn(f"{path}: columns that the run does not use are left out: {_few(table.unread)}")
    target = None
    if expected.classes and table.wanted is not None:
        target = _classes_of(table.wanted[:, 0].astype(np.int64), expected.classes, str(path))
    elif table.wanted is not None:
        target = table.wanted[:, _places(table.variables, expected.variables, str(path), "value to predict")]
    return Examples(path.stem, table.numbers, tuple(f"line {line}" for line in table.lines), target)


def _of_arrays(path: Path, expected: Expected) -> Examples:
    values, kept, target = read_unsplit(path)
    if target is not None and (kept == "labels") != bool(expected.classes):
        raise UsageError(f"{path}: has {kept}, but the run has learned {_learned(expected)}; leave them out")
    if target is not None and kept == "labels":
        target = _classes_of(target, expected.classes, str(path))
    elif target is not None and target.shape[1] != len(expected.variables):
        raise UsageError(
            f"{path}: targets are {list(target.shape)}, but the run predicts {_few(expected.variables)}; give a "
            f"column for each"
        )
    return Examples(path.stem, values, _numbers(len(values)), target)


def _of_folder(path: Path, expected: Expected) -> Examples:
    if len(expected.size) != 3:
        raise UsageError(f"{path}: is a folder of pictures, but the run was trained on {list(expected.size)}")
    pictures, names, classes, labels = read_unsorted(path, grey=expected.size[0] == 1)
    target = None
    if labels is not None and not expected.classes:
        raise UsageError(f"{path}: has folders of classes, but the run has learned {_learned(expected)}")
    if labels is not None:
        target = _renumbered(labels, classes, expected.classes, str(path))
    return Examples(path.resolve().name, pictures, names, target)


def _places(there: Sequence[str], wanted: Sequence[str], source: str, what: str = "column") -> list[int]:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise UsageError(f"{source}: there is no {what} {quoted(missing[0])}{nearest(missing[0], list(there)[:50])}")
    return [list(there).index(name) for name in wanted]


def _renumbered(labels: np.ndarray, there: Sequence[str], known: Sequence[str], source: str) -> np.ndarray:
    """Numbers of classes as the network counts them."""
    unknown = [name for c, name in enumerate(there) if name not in known and (labels == c).any()]
    if unknown:
        raise UsageError(
            f"{source}: class {quoted(unknown[0])} is none of those the run has learned: {_few(known)}; leave its "
            f"examples out, or train a network that knows it"
        )
    place = np.array([known.index(name) if name in known else -1 for name in there], np.int64)
    return place[labels]


def _classes_of(labels: np.ndarray, known: tuple[str, ...], source: str) -> np.ndarray:
    """Labels as places in the list of classes, or as their names where the names are numbers."""
    if not all(name.isdecimal() for name in known):
        known = tuple(str(place) for place in range(len(known)))
    found = np.unique(labels)
    return _renumbered(np.searchsorted(found, labels), tuple(map(str, found.tolist())), known, source)


def _learned(expected: Expected) -> str:
    return f"classes ({_few(expected.classes)})" if expected.classes else f"values ({_few(expected.variables)})"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(quoted(name) for name in names[:_MOST_NAMED])
    return shown + (", ..." if len(names) > _MOST_NAMED else "")


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
