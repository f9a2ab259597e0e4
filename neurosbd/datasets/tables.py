"""A user's own table: one .csv file."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from neurosbd.datasets.arrays import classified, measured
from neurosbd.datasets.columns import chosen, leave_out, row_numbers
from neurosbd.datasets.csv_cells import is_rounded, lines, number, quoted, separator
from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import UsageError, nearest

_LAYOUT = (
    "the first line must name the columns: 'label' (classes, integers from 0) or 'target' or 'target:NAME' (values to "
    "predict), 'split' (train or test) if you like, and the inputs"
)
_LIKE_A_LABEL = ("label", "labels", "class", "classes", "species", "target", "targets", "y")
_TEST_EVERY = 5  # of a table without 'split'
_LARGEST_LABEL = 1 << 53  # beyond, float64 would take one label for another


@dataclass(frozen=True)
class _Columns:
    """Places of the columns by what they are for."""

    names: list[str]
    inputs: list[int]
    targets: list[int]  # or the one with the labels
    labels: bool
    split: int | None
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class _Rows:
    """What the lines below the names hold."""

    numbers: np.ndarray  # float64 [N, inputs and targets]
    test: np.ndarray  # which are for the test, bool [N]
    remarks: list[str]


@dataclass(frozen=True)
class Table:
    """Lines of a .csv that are for no training.

    numbers: of the inputs, float64 [N, n].
    wanted: labels [N, 1] or values to predict [N, k], float64; None if they are not there.
    variables: names of the values to predict.
    lines: of the file, N numbers.
    unread: names of columns that were left out.
    """

    numbers: np.ndarray
    wanted: np.ndarray | None
    variables: tuple[str, ...]
    lines: tuple[int, ...]
    unread: tuple[str, ...]


@dataclass
class _Rounded:
    """Whole numbers that float64 does not hold, by column."""

    count: Counter[int] = field(default_factory=Counter)
    first: dict[int, str] = field(default_factory=dict)

    def note(self, column: int, line: int, cell: str, value: float) -> None:
        if is_rounded(cell, value):
            self.count[column] += 1
            self.first.setdefault(column, f"line {line}: {cell.strip()} becomes {value:.0f}")


def read_csv(definition: DatasetFile, folder: Path) -> Splits:
    """A line per example; columns as data/csv.toml tells, of which `definition.columns` chooses.

    Raises:
        UsageError: with the line and column of what is no number.
    """
    path = folder / definition.files["all"][0]
    content = lines(path)
    columns = _columns(content, definition.columns, path)
    rows = _rows(content, columns, path)
    inputs = tuple(columns.names[i] for i in columns.inputs)
    values, wanted = rows.numbers[:, : len(inputs)], rows.numbers[:, len(inputs) :]
    counting = row_numbers(values, ~rows.test, inputs, definition.columns, str(path))
    if columns.labels:
        wanted = wanted[:, 0].astype(np.int64)
    train, test = (Samples(values[part], wanted[part]) for part in (~rows.test, rows.test))
    called = tuple(columns.names[i].partition(":")[2] or columns.names[i] for i in columns.targets)
    if columns.labels:
        splits = classified(train, test, definition, str(path))
    else:
        splits = measured(train, test, definition, called)
    remarks = (*rows.remarks, *counting, *splits.remarks)
    return replace(splits, columns=inputs, dropped=columns.dropped, remarks=remarks)


def read_lines(path: Path, inputs: Sequence[str], role: str) -> Table:
    """The lines of a table whose `split` is test, or all if it has no such column; inputs are found by their names.

    Args:
        path: of the .csv.
        inputs: names of the inputs in their order; none: every column without another role.
        role: 'label' or 'target': which columns are read, if they are there, besides.

    Raises:
        UsageError: if a column is missing, or with the line and column of what is no number.
    """
    content = lines(path)
    _, cells = next(content, (0, []))
    names = [name.strip() for name in cells]
    _check_names(names, path)
    missing = [name for name in inputs if name not in names]
    if missing:
        raise UsageError(
            f"{path}: there is no column {quoted(missing[0])}, which the run was trained on{nearest(missing[0], names)}"
        )
    roles = [i for i, name in enumerate(names) if _is_role(name) and name not in inputs]
    places = [names.index(name) for name in inputs] or [i for i in range(len(names)) if i not in roles]
    wanted = [i for i in roles if names[i].partition(":")[0] == role]
    split = names.index("split") if "split" in names and "split" not in inputs else None
    columns = _Columns(names, places, wanted, role == "label" and bool(wanted), split, ())
    numbered: list[int] = []
    found = _numbers(_counted(content, numbered), columns, path, _needed)
    if not len(found.numbers):
        raise UsageError(f"{path}: there is no line of numbers below the names; give one at least")
    shown = found.test if split is not None else np.ones(len(found.numbers), bool)
    if not shown.any():
        raise UsageError(f"{path}: no line has the split 'test'; leave the column out to predict all lines")
    numbers = found.numbers[shown]
    return Table(
        numbers[:, : len(places)], numbers[:, len(places) :] if wanted else None,
        tuple(names[i].partition(":")[2] or names[i] for i in wanted),
        tuple(line for line, is_shown in zip(numbered, shown.tolist(), strict=True) if is_shown),
        tuple(name for i, name in enumerate(names) if i not in (*places, *wanted, split)),
    )  # fmt: skip


def _counted(content: Iterator[tuple[int, list[str]]], numbered: list[int]) -> Iterator[tuple[int, list[str]]]:
    """The same lines, their numbers noted."""
    for line, cells in content:
        numbered.append(line)
        yield line, cells


def _needed(name: str) -> str:
    """Of a table to predict there is no way without a column."""
    return "mend it or leave out the line: every column that the network was trained on is needed"


def _is_role(name: str) -> bool:
    return name in ("label", "split", "target") or name.startswith("target:")


def _columns(content: Iterator[tuple[int, list[str]]], asked: Sequence[str], path: Path) -> _Columns:
    """The first line."""
    _, cells = next(content, (0, []))
    names = [name.strip() for name in cells]
    _check_names(names, path)
    roles = [name for name in names if _is_role(name)]
    read = chosen(names, asked, roles, str(path))
    places = [i for i, is_read in enumerate(read) if is_read]
    labels = [i for i in places if names[i] == "label"]
    targets = [i for i in places if names[i] == "target" or names[i].startswith("target:")]
    split = next((i for i in places if names[i] == "split"), None)
    inputs = [i for i in places if i not in (*labels, *targets, split)]
    if bool(targets) == bool(labels) or not inputs:
        likely = next((name for name in names if name.casefold() in _LIKE_A_LABEL and name not in roles), None)
        hint = f"; is {quoted(likely)} to be predicted? Then name it 'label' or 'target'" if likely else ""
        if targets and labels:
            hint = "; classes and values cannot both be learned: leave one out, --set 'data.columns=[\"-label\"]'"
        there = ", ".join(names[i] for i in places[:20]) + (", ..." if len(places) > 20 else "")
        raise UsageError(f"{path}: the columns are {there or 'none'}; {_LAYOUT}{hint}")
    dropped = tuple(name for name, is_read in zip(names, read, strict=True) if not is_read)
    return _Columns(names, inputs, targets or labels, bool(labels), split, dropped)


def _check_names(names: list[str], path: Path) -> None:
    if not names:
        raise UsageError(f"{path}: there is nothing in it; {_LAYOUT}")
    if len(names) == 1 and (mark := separator(names[0])):
        raise UsageError(
            f"{path}: the first line is one column, {quoted(names[0])}: its names are separated by {mark}; write the "
            f"file with commas between columns and points in numbers (pandas: to_csv(index=False), R: write.csv)"
        )
    double = [name for name, times in Counter(names).items() if times > 1]
    if double:
        raise UsageError(
            f"{path}: {Counter(names)[double[0]]} columns are named {quoted(double[0])}; rename all but one"
        )
    variables = Counter(name.partition(":")[2] or name for name in names if name.partition(":")[0] == "target")
    if variables and max(variables.values()) > 1:
        raise UsageError(f"{path}: two targets are called {quoted(variables.most_common(1)[0][0])}; rename one")


def _rows(content: Iterator[tuple[int, list[str]]], columns: _Columns, path: Path) -> _Rows:
    """The lines below the first, of which there must be enough for both splits."""
    rows = _numbers(content, columns, path, lambda name: f"or the column: {leave_out(name)}")
    least = 1 if columns.split is not None else _TEST_EVERY
    if len(rows.numbers) < least:
        raise UsageError(
            f"{path}: {len(rows.numbers)} lines of numbers; needed are {least} at least"
            + (", of which every fifth is a test example, since there is no column 'split'" if least > 1 else "")
        )
    return rows


def _numbers(
    content: Iterator[tuple[int, list[str]]], columns: _Columns, path: Path, without: Callable[[str], str]
) -> _Rows:
    """The lines below the first; numbers are packed as they come, so that a table takes eight bytes a cell.

    `without` says how to do without a column of that name.
    """
    numbers, tests, rounded = array("d"), array("b"), _Rounded()
    read = [*columns.inputs, *columns.targets]
    for line, cells in content:
        if len(cells) != len(columns.names):
            raise UsageError(f"{path}: line {line} has {len(cells)} cells, but there are {len(columns.names)} columns")
        if columns.split is not None:
            tests.append(_is_test(cells[columns.split], f"{path}: line {line}"))
        for i in read:
            try:
                value = number(cells[i])
            except ValueError as problem:
                fix = _fix_of_a_label(cells[i]) if columns.labels and i in columns.targets else problem
                fix = f"{fix}, {without(columns.names[i])}" if i in columns.inputs else fix
                raise UsageError(f"{path}: line {line}, column {quoted(columns.names[i])}: {fix}") from None
            rounded.note(i, line, cells[i], value)
            numbers.append(value)
        if columns.labels:
            _check_label(numbers[-1], cells[columns.targets[0]], f"{path}: line {line}")
    found = np.frombuffer(numbers, np.float64).reshape(-1, len(read))
    test = np.arange(len(found)) % _TEST_EVERY == _TEST_EVERY - 1 if columns.split is None else np.array(tests, bool)
    remarks = [
        f"{path}: column {quoted(columns.names[i])}: {count:,} whole numbers are too large for float64 and were "
        f"rounded ({rounded.first[i]}); subtract a constant from them first"
        for i, count in rounded.count.items()
    ]
    return _Rows(found, test, remarks)


def _is_test(cell: str, where: str) -> bool:
    if cell.strip() not in ("train", "test"):
        raise UsageError(f"{where}: split is {quoted(cell)}; legal are train and test")
    return cell.strip() == "test"


def _fix_of_a_label(cell: str) -> str:
    if not cell.strip():
        return "the label is missing; fill it or leave the line out"
    return f"{quoted(cell)} is no number; number the classes from 0 on (0, 1, 2, ...)"


def _check_label(label: float, cell: str, where: str) -> None:
    if label != np.floor(label) or not 0 <= label < _LARGEST_LABEL:
        raise UsageError(
            f"{where}: the label is {cell.strip()[:32]}; give integers from 0, or name the column 'target' if it is a "
            f"value to predict"
        )
