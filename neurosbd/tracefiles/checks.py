"""What tells a block of a trace from a damaged one: where each of its chunks lies, how long it is, and its CRC-32.

`/neurosbd/checks/N` [block, 1 + chunk, 3] has a line per block of clock N: (rows, 0, CRC-32 of this line), then (place
in the file, stored bytes, their CRC-32) of every chunk. It is contiguous and as large as the recording can become, so
that it lies still while the file grows: what a killed process left unfinished in the indices of HDF5 can be read by it.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np

from neurosbd.errors import UsageError
from neurosbd.files.deflate import unpacked_at_most
from neurosbd.files.hdf5 import Node
from neurosbd.tracefiles.series import GROUP, Contents, chunk_shape, coordinates, place

_LINE = 3  # numbers per chunk


class Piece(NamedTuple):
    """A dataset of a clock and where its chunks stand in the lines of the clock.

    path: in the file.
    dtype: of its values.
    columns: shape of a row.
    chunk: shape of its chunks.
    packed: whether they are deflated.
    first: number of its first chunk within a block.
    """

    path: str
    dtype: np.dtype
    columns: tuple[int, ...]
    chunk: tuple[int, ...]
    packed: bool
    first: int

    def corners(self) -> Iterator[tuple[int, ...]]:
        """Where in the columns the chunks of a block begin, one after another."""
        steps = self.chunk[1:]
        for corner in np.ndindex(*(-(-n // c) for n, c in zip(self.columns, steps, strict=True))):
            yield tuple(i * c for i, c in zip(corner, steps, strict=True))

    @property
    def chunks(self) -> int:
        """Of a block."""
        return int(np.prod([-(-n // c) for n, c in zip(self.columns, self.chunk[1:], strict=True)], dtype=np.int64))

    @property
    def chunk_bytes(self) -> int:
        """Of a chunk that is not deflated."""
        return int(np.prod(self.chunk, dtype=np.int64)) * self.dtype.itemsize


def pieces(contents: Contents, clock: int) -> list[Piece]:
    """The datasets of a clock in the order of their chunks."""
    found, first, length = [], 0, contents.block_rows(clock)
    for name, (dtype, columns) in coordinates(contents.clocks[clock]).items():
        found.append(Piece(place(clock, name), np.dtype(dtype), columns, (length, *columns), False, first))
        first += found[-1].chunks
    for series in contents.of(clock):
        chunk, dtype = chunk_shape(series, length), np.dtype(series.dtype)
        found.append(Piece(series.path, dtype, series.columns, chunk, series.dtype == "uint8", first))
        first += found[-1].chunks
    return found


def create(file: h5py.File, contents: Contents) -> None:
    """Empty tables, written through so that they have their place in the file."""
    for clock in range(len(contents.clocks)):
        chunks = sum(piece.chunks for piece in pieces(contents, clock))
        file[where(clock)] = np.zeros((contents.blocks(clock), 1 + chunks, _LINE), np.uint64)


def where(clock: int) -> str:
    """Path of the table of a clock."""
    return f"{GROUP}/checks/{clock}"


def line(rows: int, chunks: list[tuple[int, int, int]]) -> np.ndarray:
    """The line of a block, uint64 [1 + chunk, 3]."""
    entries = np.array([(rows, 0, 0), *chunks], np.uint64)
    entries[0, 2] = zlib.crc32(entries.tobytes())
    return entries


def is_whole(entries: np.ndarray) -> bool:
    """Whether a line is as it was written; the line of a block that was not is not."""
    plain = entries.copy()
    plain[0, 2] = 0
    return entries[0, 0] > 0 and int(entries[0, 2]) == zlib.crc32(plain.tobytes())


def text(contents: bytes, config: bytes, started: bytes) -> np.uint32:
    """CRC-32 of what a trace says of itself."""
    return np.uint32(zlib.crc32(b"\0".join((contents, config, started))))


def unpacked(stored: Node, piece: Piece) -> np.ndarray:
    """The values of a chunk.

    Raises:
        ValueError: if these are not the bytes of one.
    """
    content = bytes(stored)
    if piece.packed:
        stream = zlib.decompressobj()
        try:
            content = stream.decompress(content, piece.chunk_bytes + 1)
        except zlib.error as problem:
            raise ValueError(f"cannot be unpacked ({problem})") from None
    if len(content) != piece.chunk_bytes:
        raise ValueError(f"holds {len(content)} bytes, a chunk has {piece.chunk_bytes}")
    return np.frombuffer(content, piece.dtype).reshape(piece.chunk)


def check_stored(data: h5py.Dataset, shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    """Refuse what cannot be in the file at all."""
    most = unpacked_at_most(data.id.get_storage_size(), deflated=data.compression == "gzip")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > most:
        raise UsageError(f"{where} claims {shape} values of {dtype}, more than the file can hold; refused")
