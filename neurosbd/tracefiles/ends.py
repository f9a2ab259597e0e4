"""Which units a recorded synapse joins: of a list, numbers beside its data; of a matrix, its row and column.

A series of synapses that are listed has the datasets `post`, `pre` and, where synapses have delays of their own,
`delay` in its group, one int32 for each synapse. Each carries the CRC-32 of its values as an attribute.
"""

import zlib
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from neurosbd.errors import UsageError
from neurosbd.tracefiles.checks import check_stored
from neurosbd.tracefiles.series import Series

if TYPE_CHECKING:
    from neurosbd.tracefiles.reader import Trace

_SYNAPTIC = ("weight", "dweight", "eligibility")  # what has a number for every synapse
_ABOUT = {
    "post": "number of the post unit of every synapse",
    "pre": "number of its pre unit, or of what arrives, where a map is pooled on its way",
    "delay": "its delay, steps",
}


class Ends(NamedTuple):
    """The units that recorded synapses join, by their numbers, int32 [n] each."""

    post: np.ndarray
    pre: np.ndarray  # the pre unit, or what arrives, where a map is pooled on its way
    delay: np.ndarray | None = None  # steps, where synapses have delays of their own


def write_ends(group: h5py.Group, ends: Ends) -> None:
    """Put the units of listed synapses into the group of their series."""
    for name, values in ends._asdict().items():
        if values is not None:
            plain = np.ascontiguousarray(values, np.int32)
            packed = {"compression": "gzip", "shuffle": True, "chunks": (min(len(plain), 1 << 18),)}
            data = group.create_dataset(name, data=plain, **(packed if len(plain) else {}))
            data.attrs["about"] = _ABOUT[name]
            data.attrs["crc32"] = np.uint32(zlib.crc32(plain.tobytes()))


def read_ends(trace: "Trace", series: Series) -> Ends:
    """The units that the recorded synapses of a series join.

    Raises:
        UsageError: if it is not of synapses between two units each, or the numbers are damaged.
    """
    if not series.listed:
        return _of_matrix(trace, series)
    folder = series.path.removesuffix("data")
    parent = trace.node(series.path).parent
    later = ("delay",) if isinstance(parent, h5py.Group) and "delay" in parent else ()
    return Ends(*(_numbers(trace, folder + name, series.columns[-1]) for name in ("post", "pre", *later)))


def _numbers(trace: "Trace", path: str, count: int) -> np.ndarray:
    """One number for each synapse, as they were written."""
    where, kind = f"{trace.path}: '{path}'", np.dtype("i4")
    trace.check(path, (count,), kind)
    data = trace.node(path)
    check_stored(data, (count,), kind, where)
    try:
        values = data[:]
    except (OSError, RuntimeError, ValueError) as problem:
        raise UsageError(f"{where} cannot be read; the file is damaged ({problem})") from None
    if int(data.attrs.get("crc32", -1)) != zlib.crc32(values.tobytes()):
        raise UsageError(f"{where} does not have its checksum; damaged")
    return values


def _of_matrix(trace: "Trace", series: Series) -> Ends:
    """Row and column of every synapse of a weight [post, pre]."""
    if series.what not in _SYNAPTIC or len(series.size) != 2:
        why = "it is not of synapses"
        if series.what in _SYNAPTIC:
            why = f"weights {list(series.size)} are shared by positions or components"
        if series.what in _SYNAPTIC and len(series.size) == 1:
            why = "a list of synapses was recorded before traces said so; `run.network()` knows what it joins"
        raise UsageError(f"{trace.path}: '{series.name}' has no post and pre unit for each number: {why}")
    items = np.arange(series.columns[-1]) if series.items is None else np.array(series.items, int)
    return Ends(*(part.astype(np.int32) for part in np.unravel_index(items, series.size)))
