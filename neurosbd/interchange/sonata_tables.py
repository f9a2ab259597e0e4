"""Nodes and edges of SONATA: HDF5 files of what differs, CSV files of what a type shares. Both are looked at first."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import h5py
import numpy as np

from neurosbd.datasets import csv_cells
from neurosbd.errors import UsageError, warn
from neurosbd.files.hdf5 import Node, member, opened, row
from neurosbd.files.parsing import brief
from neurosbd.files.writing import regular
from neurosbd.interchange.sonata_config import Tables

Types = dict[int, dict[str, str]]  # number of a type -> column -> cell
_MOST_NODES, _MOST_EDGES, _MOST_GROUPS = 10_000_000, 500_000_000, 10_000
_FIX = "write it again"
_WHERE = "see the SONATA format, 'network files'"
_Found = TypeVar("_Found")
_EDGE = ("syn_weight", "delay", "nsyns")  # what an edge may have of its own, and has a meaning here


class Nodes(NamedTuple):
    """One population."""

    population: str
    where: str  # for messages
    ids: np.ndarray  # int64 [n]
    type_ids: np.ndarray  # int64 [n]
    constants: dict[str, np.ndarray]  # of single nodes, [n]; NaN: that of the type
    types: Types


class Edges(NamedTuple):
    """Those from one population to another."""

    name: str
    where: str  # for messages
    source: str
    target: str
    pre: np.ndarray  # ids of nodes, int64 [n]
    post: np.ndarray
    type_ids: np.ndarray
    values: dict[str, np.ndarray]  # of single edges, [n]; NaN: that of the type
    types: Types


def read_nodes(tables: Tables) -> list[Nodes]:
    """All populations of a file.

    Raises:
        UsageError: naming the file, and the dataset or the line.
    """
    types = _read_types(tables.types, "node_type_id")
    return _read(tables.file, "nodes", lambda file, name: _nodes(file, name, tables.file, types))


def read_edges(tables: Tables) -> list[Edges]:
    """The same of edges."""
    types = _read_types(tables.types, "edge_type_id")
    return _read(tables.file, "edges", lambda file, name: _edges(file, name, tables.file, types))


def _read(path: Path, kind: str, one: Callable[[h5py.File, str], _Found]) -> list[_Found]:
    try:
        with opened(regular(path), _FIX) as (file, _):
            return [one(file, name) for name in _names(file, kind, path)]
    except UsageError:
        raise
    except Exception as problem:  # h5py fails in many ways on bytes that are not its own
        raise UsageError(f"{path}: not a readable HDF5 file ({str(problem)[:100]})") from None


def _names(file: h5py.File, place: str, path: Path) -> list[str]:
    """Of the groups and datasets in a group."""
    node: Node = file
    for part in place.split("/"):
        node = member(node, part, f"{path}: '{place}'", _WHERE)
    if not isinstance(node, h5py.Group) or len(node) > _MOST_GROUPS:
        raise UsageError(f"{path}: '{place}' is no group of up to {_MOST_GROUPS:,} entries; {_WHERE}")
    return list(node)


def _nodes(file: h5py.File, name: str, path: Path, types: Types) -> Nodes:
    place, where = f"nodes/{name}", f"{path}: population '{brief(name)}'"
    there = _names(file, place, path)
    type_ids = _whole(file, f"{place}/node_type_id", path, _MOST_NODES)
    ids = _whole(file, f"{place}/node_id", path, _MOST_NODES) if "node_id" in there else np.arange(len(type_ids))
    _same_length(where, type_ids, node_id=ids)
    if len(np.unique(ids)) < len(ids):
        raise UsageError(f"{where}: two nodes have the same node_id")
    _check_types(where, type_ids, types)
    constants: dict[str, np.ndarray] = {}
    for group, rows, index in _groups(file, place, "node", there, path, len(type_ids)):
        inside = _names(file, f"{place}/{group}", path)
        wrong = {"model_type", "model_template", "dynamics_params"} & set(inside)
        own = "dynamics_params" in wrong and member(file[f"{place}/{group}"], "dynamics_params", where, _WHERE)
        if isinstance(own, h5py.Group):
            wrong.remove("dynamics_params")
            for key in _names(file, f"{place}/{group}/dynamics_params", path):
                values = row(file, f"{place}/{group}/dynamics_params/{key}", path, _MOST_NODES, _WHERE, _FIX)
                _scatter(constants, key, values, rows, index, len(type_ids), where)
        if wrong:
            raise UsageError(f"{where}: has '{min(wrong)}' of single nodes; give it in {path.stem}'s table of types")
    return Nodes(name, where, ids, type_ids, constants, types)


def _edges(file: h5py.File, name: str, path: Path, types: Types) -> Edges:
    place, where = f"edges/{name}", f"{path}: edges '{brief(name)}'"
    there = _names(file, place, path)
    pre, post = (_whole(file, f"{place}/{side}_node_id", path, _MOST_EDGES) for side in ("source", "target"))
    source, target = (_attribute(file, f"{place}/{side}_node_id", where) for side in ("source", "target"))
    type_ids = _whole(file, f"{place}/edge_type_id", path, _MOST_EDGES)
    _same_length(where, type_ids, source_node_id=pre, target_node_id=post)
    _check_types(where, type_ids, types)
    values: dict[str, np.ndarray] = {}
    ignored: list[str] = []
    for group, rows, index in _groups(file, place, "edge", there, path, len(type_ids)):
        inside = _names(file, f"{place}/{group}", path)
        ignored += [key for key in inside if key not in _EDGE]
        for key in (key for key in _EDGE if key in inside):
            found = row(file, f"{place}/{group}/{key}", path, _MOST_EDGES, _WHERE, _FIX)
            _scatter(values, key, found, rows, index, len(type_ids), where)
    if ignored:
        warn(f"{where}: {', '.join(map(brief, sorted(set(ignored))[:10]))} of single edges mean nothing here: left out")
    return Edges(name, where, source, target, pre, post, type_ids, values, types)


def _groups(
    file: h5py.File, place: str, kind: str, there: list[str], path: Path, count: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name of a group, who belongs to it, their rows in it)."""
    groups = [name for name in there if name.isdigit()]
    if not groups:
        return
    everyone = np.arange(count)
    number, index = np.zeros(count, np.int64), everyone
    if f"{kind}_group_id" in there or len(groups) > 1:
        number = _whole(file, f"{place}/{kind}_group_id", path, _MOST_EDGES)
        index = _whole(file, f"{place}/{kind}_group_index", path, _MOST_EDGES)
        _same_length(f"{path}: '{place}'", everyone, group_id=number, group_index=index)
    for group in groups:
        rows = np.flatnonzero(number == int(group))
        yield group, rows, index[rows]


def _scatter(
    into: dict[str, np.ndarray],
    key: str,
    values: np.ndarray,
    rows: np.ndarray,
    index: np.ndarray,
    count: int,
    where: str,
) -> None:
    """Values of a group to those who belong to it."""
    if len(index) and not 0 <= index.min() <= index.max() < len(values):
        raise UsageError(
            f"{where}: '{brief(key)}' has {len(values):,} values, but one for number {index.max()} is needed"
        )
    found = values[index].astype(np.float64)
    if not np.isfinite(found).all():
        raise UsageError(f"{where}: '{brief(key)}' is {found[~np.isfinite(found)][0]} somewhere; all must be finite")
    into.setdefault(key, np.full(count, np.nan))[rows] = found


def _whole(file: h5py.File, name: str, path: Path, most: int) -> np.ndarray:
    """A row of whole numbers."""
    found = row(file, name, path, most, _WHERE, _FIX)
    if found.dtype.kind == "f" and (not np.isfinite(found).all() or (found != np.floor(found)).any()):
        raise UsageError(f"{path}: '{name}' must hold whole numbers")
    if len(found) and not -1 <= found.min() <= found.max() < 2**62:
        raise UsageError(f"{path}: '{name}' holds {found.min()} to {found.max()}; legal are numbers from 0 on")
    return found.astype(np.int64)


def _attribute(file: h5py.File, name: str, where: str) -> str:
    """The population that nodes are of."""
    value = file[name].attrs.get("node_population")
    text = value.decode("utf8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise UsageError(
            f"{where}: '{name.split('/')[-1]}' has no attribute 'node_population', which names whose they are"
        )
    return text


def _same_length(where: str, first: np.ndarray, **others: np.ndarray) -> None:
    for name, other in others.items():
        if len(other) != len(first):
            raise UsageError(f"{where}: {name} has {len(other):,} entries, but the types have {len(first):,}")


def _check_types(where: str, type_ids: np.ndarray, types: Types) -> None:
    missing = set(np.unique(type_ids).tolist()) - types.keys()
    if missing:
        raise UsageError(f"{where}: type {min(missing)} is not in its table of types, which has {sorted(types)[:20]}")


def _read_types(path: Path, key: str) -> Types:
    """A table separated by spaces; cells that say NULL are not there."""
    rows = csv_cells.lines(regular(path), " ")
    _, head = next(rows, (1, []))
    if key not in head:
        raise UsageError(f"{path}: line 1: no column '{key}'; needed is a table separated by spaces, got {head[:5]}")
    found: Types = {}
    for line, cells in rows:
        cells = cells[: len(head)] if not any(cells[len(head) :]) else cells
        if len(cells) != len(head):
            raise UsageError(f"{path}: line {line} has {len(cells)} cells, but the first line has {len(head)}")
        columns = {name: cell for name, cell in zip(head, cells, strict=True) if cell not in ("NULL", "")}
        number = columns.pop(key, "")
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise UsageError(f"{path}: line {line}: {key} must be a number 0, 1, 2, .., got '{brief(number)}'")
        if int(number) in found:
            raise UsageError(f"{path}: line {line}: {key} {number} is there twice")
        found[int(number)] = columns
    return found
