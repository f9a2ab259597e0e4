"""How large a trace becomes, before it is written: what lies in the file, in the units in which HDF5 stores it."""

import math
from collections.abc import Mapping
from io import BytesIO
from types import MappingProxyType

from neurosbd.tracefiles.checks import Piece, pieces
from neurosbd.tracefiles.ends import Ends
from neurosbd.tracefiles.nwb_tables import MOST_UNITS, TRIAL_BYTES, UNIT_BYTES
from neurosbd.tracefiles.series import Contents, Series
from neurosbd.tracefiles.writer import new_file

SPIKE_BITS = 2  # of a place at most: silence is a bit, a spike two; longer silences less
_CHUNK_BYTES = 64  # of an empty stream of deflate
_NODE, _ENTRIES = 3200, 50  # bytes of a node in the index of a dataset, chunks that are certain to be in one
_ROUNDED = 1024  # rows of a chunk of a table
_CONFIG = 6000  # bytes of a resolved run


def most_bytes(contents: Contents, ends: Mapping[str, Ends] = MappingProxyType({})) -> int:
    """What a file with all expected rows has at most, without the spike times of its table of units.

    Args:
        contents: of the file.
        ends: of the synapses of every series that lists them, by its name.
    """
    everything = [(piece, contents.expected[n]) for n in range(len(contents.clocks)) for piece in pieces(contents, n)]
    return (
        _empty(contents, ends)
        + sum(stored(piece, rows) + _index(piece, rows) for piece, rows in everything)
        + _tables(contents)
    )


def series_bytes(contents: Contents, series: Series) -> int:
    """What the values of a series take of it."""
    piece = next(piece for piece in pieces(contents, series.clock) if piece.path == series.path)
    return stored(piece, contents.expected[series.clock])


def stored(piece: Piece, rows: int) -> int:
    """Bytes of the chunks of so many rows; chunks are stored whole."""
    chunks = math.ceil(rows / piece.chunk[0]) * piece.chunks
    return chunks * (piece.chunk_bytes * SPIKE_BITS // 8 + _CHUNK_BYTES if piece.packed else piece.chunk_bytes)


def _index(piece: Piece, rows: int) -> int:
    chunks = math.ceil(rows / piece.chunk[0]) * piece.chunks
    return _NODE * (1 + math.ceil(chunks / _ENTRIES)) if chunks else 0


def _empty(contents: Contents, ends: Mapping[str, Ends]) -> int:
    """A file in memory that has no rows yet, with the tables that lie still."""
    with new_file(BytesIO(), "w", contents, "{}", "", "2000-01-01T00:00:00+00:00", ends) as file:
        return file.id.get_filesize() + _CONFIG


def _tables(contents: Contents) -> int:
    trials, shown = 0, 0
    for number, clock in enumerate(contents.clocks):
        if clock.per == "step":
            count = math.ceil(contents.expected[number] / math.ceil(contents.steps / clock.steps))
            trials, shown = trials + count, shown + count * len(clock.examples)
    taught = [math.prod(series.columns[1:]) for series in contents.series if series.what == "target"]
    units = sum(math.prod(series.columns) for series in contents.series if series.what == "spikes")
    units = units if units <= MOST_UNITS else 0
    rows = [(trials, TRIAL_BYTES), (shown if taught else 0, 8 * (2 + max(taught, default=0))), (units, UNIT_BYTES)]
    return sum(math.ceil(count / _ROUNDED) * _ROUNDED * size for count, size in rows)
