"""Spike trains from files: tables, arrays, NWB and SONATA, all of unknown origin."""

import mmap
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from neurosbd.datasets import csv_cells
from neurosbd.errors import UsageError, nearest
from neurosbd.files import npz
from neurosbd.files.hdf5 import check_lengths, dataset, member, opened, row
from neurosbd.files.writing import legal_path, regular

_MOST = 200_000_000  # spikes
_MILLI = 1e-3
_SUFFIXES = (".csv", ".npz", ".nwb", ".h5")
_FIX = "write it again"
_WHERE = "spikes of NWB lie in /units, those of SONATA in /spikes/POPULATION"


class Spikes(NamedTuple):
    """Spikes of the units of one population, in the order of the file."""

    times: np.ndarray  # s, float64
    units: np.ndarray  # int64


def read_spikes(file: str | Path, source: str = "") -> Spikes:
    """The spikes of a file.

    Args:
        file: .csv with the columns `time` (s) and `unit`; .npz with the arrays `times` (s) and `units`; .nwb, of which
            the rows of the table of units are the units; .h5 of SONATA.
        source: which population of a file that has several.
    Raises:
        UsageError: if it is no such file; names the line or the array.
    """
    path = legal_path(file)
    kind = path.suffix.lower()
    if kind not in _SUFFIXES:
        raise UsageError(f"{path}: spikes are read from {', '.join(_SUFFIXES)} files, got '{path.suffix}'")
    regular(path)
    if kind == ".csv":
        found = _table(path)
    elif kind == ".npz":
        arrays = npz.load(path, ("times", "units"))
        found = Spikes(arrays["times"], arrays["units"])
    else:
        found = _hdf5(path, source)
    return _checked(found, path)


def _table(path: Path) -> Spikes:
    rows = csv_cells.lines(path)
    _, head = next(rows, (1, []))
    names = [cell.strip() for cell in head]
    mark = csv_cells.separator(names[0]) if len(names) == 1 else None
    if mark:
        raise UsageError(f"{path}: line 1: the columns are separated by {mark}; separate them by commas")
    for name in ("time", "unit"):
        if name not in names:
            there = f"there are {', '.join(names[:20])}" if any(names) else "the line is empty"
            raise UsageError(f"{path}: line 1: no column '{name}', {there}; needed are time (in s) and unit")
        if names.count(name) > 1:
            raise UsageError(f"{path}: line 1: there are {names.count(name)} columns '{name}'; rename all but one")
    places = names.index("time"), names.index("unit")
    times, units = [], []
    for line, cells in rows:
        if len(cells) != len(names):
            raise UsageError(f"{path}: line {line} has {len(cells)} cells, but the first line has {len(names)}")
        try:
            time, unit = (csv_cells.number(cells[place]) for place in places)
        except ValueError as problem:
            raise UsageError(f"{path}: line {line}: {problem}") from None
        if time < 0 or unit < 0 or unit != int(unit):
            raise UsageError(f"{path}: line {line}: needed are a time >= 0 s and a unit 0, 1, 2, .., got {cells}")
        times.append(time)
        units.append(int(unit))
    return Spikes(np.array(times, np.float64), np.array(units, np.int64))


def _hdf5(path: Path, source: str) -> Spikes:
    try:
        with opened(path, _FIX) as (file, data):
            if file.id.links.exists(b"units"):
                return _nwb(file, data, path, source)
            if file.id.links.exists(b"spikes"):
                return _sonata(file, path, source)
    except UsageError:
        raise
    except Exception as problem:  # h5py fails in many ways on bytes that are not its own
        raise UsageError(f"{path}: not a readable HDF5 file ({str(problem)[:100]})") from None
    raise UsageError(f"{path}: holds no spikes; {_WHERE}")


def _nwb(file: h5py.File, data: mmap.mmap, path: Path, source: str) -> Spikes:
    """A unit per row of /units; those of one population are counted from 0."""
    times = _read(file, "units/spike_times", path)
    ends = _read(file, "units/spike_times_index", path).astype(np.int64)
    if len(ends) and ((np.diff(ends, prepend=0) < 0).any() or ends[-1] != len(times)):
        raise UsageError(f"{path}: units/spike_times_index does not divide {len(times):,} spike times")
    counts = np.diff(ends, prepend=0)
    chosen = np.ones(len(ends), bool)
    if source:
        names = _populations(file, data, path, len(ends))
        if source not in names:
            raise UsageError(f"{path}: units are of no population '{source}'{nearest(source, dict.fromkeys(names))}")
        chosen = np.array([name == source for name in names])
    numbers = np.cumsum(chosen) - 1
    return Spikes(times[np.repeat(chosen, counts)], np.repeat(numbers[chosen], counts[chosen]))


def _populations(file: h5py.File, data: mmap.mmap, path: Path, count: int) -> list[str]:
    """The population of every unit."""
    node = dataset(file, "units/population", path, "which names the populations that source chooses from")
    text = h5py.check_string_dtype(node.dtype)
    if text is None or node.shape != (count,):
        raise UsageError(f"{path}: 'units/population' is {node.dtype} {node.shape}; legal are {count:,} texts")
    if text.length is None:
        check_lengths(node, data, len(data), f"{path}: 'units/population'", _FIX)
    return [str(name) for name in node.asstr()[:]]


def _sonata(file: h5py.File, path: Path, source: str) -> Spikes:
    """Those of /spikes/POPULATION; in files before SONATA 0.1 of /spikes, or with `gids` for `node_ids`."""
    group = member(file, "spikes", f"{path}: 'spikes'", _WHERE)
    there = list(group)
    if "timestamps" in there:
        place, names = "spikes", there
    else:
        if not source and len(there) != 1:
            raise UsageError(f"{path}: has spikes of {len(there)} populations; set source to one of {', '.join(there)}")
        name = source or there[0]
        if name not in there:
            raise UsageError(f"{path}: has no spikes of population '{name}'{nearest(name, there)}")
        place, names = f"spikes/{name}", list(member(group, name, f"{path}: 'spikes/{name}'", _WHERE))
    times = dataset(file, f"{place}/timestamps", path, _WHERE)
    unit = times.attrs.get("units", "ms")
    unit = unit.decode() if isinstance(unit, bytes) else str(unit)
    if unit not in ("ms", "s"):
        raise UsageError(f"{path}: timestamps are in '{unit[:20]}'; legal are ms and s")
    values = _read(file, f"{place}/timestamps", path) * (_MILLI if unit == "ms" else 1.0)
    nodes = "gids" if "gids" in names and "node_ids" not in names else "node_ids"
    return Spikes(values, _read(file, f"{place}/{nodes}", path))


def _read(file: h5py.File, name: str, path: Path) -> np.ndarray:
    return row(file, name, path, _MOST, _WHERE, _FIX)


def _checked(found: Spikes, path: Path) -> Spikes:
    times, units = (np.asarray(part) for part in found)
    if times.shape != units.shape or times.ndim != 1 or times.dtype.kind not in "fiu" or units.dtype.kind not in "fiu":
        raise UsageError(
            f"{path}: {times.dtype} times {times.shape} and {units.dtype} units {units.shape}; needed is a number each"
        )
    wrong = ~(np.isfinite(times) & (times >= 0)) | ~(np.isfinite(units) & (units >= 0) & (units == np.floor(units)))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise UsageError(
            f"{path}: spike {at} is at {times[at]} s of unit {units[at]}; needed are a time >= 0 and a unit 0, 1, 2, .."
        )
    return Spikes(times.astype(np.float64), units.astype(np.int64))
