"""The numbers of a result: from the fields of a dataclass to tables, JSON and CSV."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosbd.text import csv_table

MOST_ROWS, MOST_COLUMNS = 16, 10  # of a table that a person reads; more is for files
Values = Any  # a number, text, or lists and tables of them, as deep as an analysis makes them
PROGRESS = ("epoch", "progress", "batch", "row")  # axes along which a person wants to know the first and the last value


def quantity_field(unit: str, *axes: str) -> Any:
    """Declares a field of a result: `rate: np.ndarray = quantity_field("Hz", "layer", "neuron")`.

    Args:
        unit: of its values; "1" for none.
        axes: names of the axes of an array; none for a number. An axis that is also the name of a field of the
            result is labelled by that field's values.
    """
    return dataclasses.field(metadata={"unit": unit, "axes": axes})


@dataclass(frozen=True)
class Quantity:
    """One field of a result.

    name, unit: of its values.
    axes: a name per axis.
    values: a plain value, or nested lists of them, as deep as there are axes; None stands for NaN and infinity.
    labels: per axis, what its places are called; none: 0, 1, 2, ...
    """

    name: str
    unit: str
    axes: tuple[str, ...]
    values: Values
    labels: tuple[tuple[Values, ...] | None, ...] = ()

    def cells(self) -> Iterator[tuple[tuple[Values, ...], Values]]:
        """Every value behind the labels of its place."""
        return _walk(self.values, self.labels)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Most places along every axis."""
        return _lengths(self.values, len(self.axes))


@dataclass(frozen=True)
class Table:
    """A small table: names of the columns with their units, and rows of plain values."""

    head: tuple[str, ...]
    rows: tuple[tuple[Values, ...], ...]


def quantities(result: object) -> tuple[Quantity, ...]:
    """Every field of a result that holds values; labels of axes are looked up in the result itself.

    Raises:
        TypeError: if the result is no dataclass.
    """
    if not dataclasses.is_dataclass(result) or isinstance(result, type):
        raise TypeError(
            f"analyse(run) returned {type(result).__name__}; legal is a dataclass with fields made by "
            f"quantity_field(...)"
        )
    found = []
    for field in dataclasses.fields(result):
        values = plain(getattr(result, field.name))
        if values is None and not field.metadata:
            continue
        depth = _depth(values)
        named = tuple(str(axis) for axis in field.metadata.get("axes", ()))[:depth]
        axes = named + tuple(f"axis {i}" for i in range(len(named), depth))
        if depth == 1 and not named:  # names of the places of an axis
            axes = (field.name,)
        labels = tuple(_labels(result, axis, field.name) for axis in axes)
        found.append(Quantity(field.name, str(field.metadata.get("unit", "")), axes, values, labels))
    return tuple(found)


def plain(value: object) -> Values:
    """As JSON can hold it: numbers, text, lists; NaN and infinity become None."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            finite = np.isfinite(value)
            if not finite.all():
                value = value.astype(object)
                value[~finite] = None
            return value.tolist()
        return value.tolist() if value.dtype.kind in "biuU" else plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def tables(found: Sequence[Quantity]) -> tuple[list[Table], list[Quantity]]:
    """Tables of what is small enough to be read, and what is not: (tables, rest).

    What runs over the training is shown as 'first → last'.
    """
    labels = {axis for quantity in found for axis in quantity.axes if quantity.axes != (quantity.name,)}
    shown = [_ends(q) for q in found if not (q.axes == (q.name,) and q.name in labels)]
    shown = [q for q in shown if any(value is not None for _, value in q.cells())]
    made = [
        Table(("quantity", "value", "unit"), tuple((words(q.name), q.values, _unit(q)) for q in shown if not q.axes))
    ]
    rest: list[Quantity] = []
    columns: dict[str, list[Quantity]] = {}
    for quantity in shown:
        if len(quantity.axes) == 1 and quantity.lengths[0] <= MOST_ROWS:
            columns.setdefault(quantity.axes[0], []).append(quantity)
        elif len(quantity.axes) == 2 and quantity.lengths[0] <= MOST_ROWS and quantity.lengths[1] <= MOST_COLUMNS:
            made.append(_matrix(quantity))
        elif quantity.axes:
            rest.append(quantity)
    made += [_columns(axis, group) for axis, group in columns.items()]
    return [table for table in made if table.rows], rest


def words(name: str) -> str:
    """A field name as a person reads it."""
    return name.replace("_", " ")


def tidy(results: Mapping[str, Iterable[Quantity]]) -> str:
    """CSV with a line per value: analysis, field, unit, a column per axis, value."""
    found = [(name, quantity, _distinct(quantity.axes)) for name, group in results.items() for quantity in group]
    axes = tuple(dict.fromkeys(axis for _, _, own in found for axis in own))
    rows = []
    for name, quantity, own in found:
        places = [axes.index(axis) for axis in own]
        for labels, value in quantity.cells():
            row = [""] * len(axes)
            for place, label in zip(places, labels, strict=True):
                row[place] = label
            rows.append((name, quantity.name, quantity.unit, *row, value))
    return csv_table(("analysis", "field", "unit", *axes, "value"), rows)


def _distinct(axes: tuple[str, ...]) -> tuple[str, ...]:
    """Names of columns: no two alike, none of them taken."""
    made: list[str] = []
    for axis in axes:
        base = f"{axis} axis" if axis in ("analysis", "field", "unit", "value") else axis
        name, number = base, 2
        while name in made:
            name, number = f"{base} {number}", number + 1
        made.append(name)
    return tuple(made)


def _columns(axis: str, group: list[Quantity]) -> Table:
    """Quantities along the same axis, side by side."""
    rows: dict[Values, list[Values]] = {}
    for place, quantity in enumerate(group):
        for (label,), value in quantity.cells():
            rows.setdefault(label, [None] * len(group))[place] = value
    head = (words(axis), *(_titled(q) for q in group))
    return Table(head, tuple((label, *values) for label, values in rows.items()))


def _matrix(quantity: Quantity) -> Table:
    """A quantity with two axes: the first downwards, the second across."""
    rows: dict[Values, dict[Values, Values]] = {}
    for (down, across), value in quantity.cells():
        rows.setdefault(down, {})[across] = value
    heads = tuple(dict.fromkeys(across for row in rows.values() for across in row))
    head = (f"{_titled(quantity)}: {words(quantity.axes[0])} \\ {words(quantity.axes[1])}", *map(str, heads))
    return Table(head, tuple((down, *(row.get(across) for across in heads)) for down, row in rows.items()))


def _ends(quantity: Quantity) -> Quantity:
    """A quantity over the training as 'first → last'."""
    if len(quantity.axes) not in (1, 2) or quantity.axes[-1] not in PROGRESS or quantity.axes == (quantity.name,):
        return quantity
    values = [_first_last(v) for v in quantity.values] if len(quantity.axes) == 2 else _first_last(quantity.values)
    return Quantity(quantity.name, quantity.unit, quantity.axes[:-1], values, quantity.labels[:-1])


def _first_last(values: object) -> Values:
    ends = (values[0], values[-1]) if isinstance(values, list) and values else (None, None)
    if ends[0] == ends[1]:
        return ends[0]
    return " → ".join("–" if end is None else f"{end:.4g}" if isinstance(end, float) else str(end) for end in ends)


def _titled(quantity: Quantity) -> str:
    return words(quantity.name) + (f" ({_unit(quantity)})" if _unit(quantity) else "")


def _unit(quantity: Quantity) -> str:
    return "" if quantity.unit == "1" else quantity.unit


def _labels(result: object, axis: str, own: str) -> tuple[Values, ...] | None:
    """Values of the field that an axis is named after."""
    if axis == own or not hasattr(result, axis):
        return None
    values = plain(getattr(result, axis))
    return tuple(values) if isinstance(values, list) and _depth(values) == 1 else None


def _depth(values: object) -> int:
    if isinstance(values, Mapping):
        values = list(values.values())
    return 1 + max((_depth(item) for item in values), default=0) if isinstance(values, list) else 0


def _lengths(values: object, depth: int) -> tuple[int, ...]:
    if depth == 0:
        return ()
    items = list(values.values()) if isinstance(values, Mapping) else values if isinstance(values, list) else []
    inner = [_lengths(item, depth - 1) for item in items]
    return (len(items), *(max((row[i] for row in inner), default=0) for i in range(depth - 1)))


def _walk(values: object, labels: Sequence[tuple[object, ...] | None]) -> Iterator[tuple[tuple[Values, ...], Values]]:
    if isinstance(values, Mapping):
        pairs: Iterable[tuple[Values, Values]] = values.items()
    elif isinstance(values, list):
        names = labels[0] if labels and labels[0] and len(labels[0]) == len(values) else range(len(values))
        pairs = zip(names, values, strict=True)
    else:
        yield ("",) * len(labels), values  # None in place of a row: nothing was measured there
        return
    for label, item in pairs:
        for rest, value in _walk(item, labels[1:]):
            yield (label, *rest), value
