"""Values of a dataset as they were stored, every chunk compared with its checksum before it is used."""

import zlib
from pathlib import Path

import h5py
import numpy as np

from neurosbd.errors import UsageError
from neurosbd.tracefiles.checks import Piece, unpacked

_FAULTS = (OSError, KeyError, RuntimeError, ValueError, TypeError)  # of h5py, where its index of the chunks is torn


class CheckedValues:
    """An array [row, *columns] that is read by slices, chunk by chunk.

    The index of the file itself is asked first, then the place that the table of checks names: it is right where a
    process died while HDF5 wrote its index.

    Args:
        path: of the file, as it is called at present.
        data: the dataset.
        piece: what the table of contents says of it.
        lines: of the blocks that are counted, uint64 [block, 1 + chunk, 3], whole.
    """

    def __init__(self, path: Path, data: h5py.Dataset, piece: Piece, lines: np.ndarray) -> None:
        self.dtype = piece.dtype
        self._path, self._data, self._piece, self._lines = path, data, piece, lines
        self._corners = list(piece.corners())
        self._block, self._chunks = -1, dict[int, np.ndarray]()  # of the block that was read last

    def __getitem__(self, ranges: tuple[slice, ...]) -> np.ndarray:
        rows, *columns = ranges
        result = np.empty([part.stop - part.start for part in ranges], self.dtype)
        length = self._piece.chunk[0]
        for block in range(rows.start // length, -(-rows.stop // length)):
            for number, corner in enumerate(self._corners):
                begins = (block * length, *corner)
                shared = [
                    (max(part.start, begin), min(part.stop, begin + size))
                    for part, begin, size in zip((rows, *columns), begins, self._piece.chunk, strict=True)
                ]
                if all(start < stop for start, stop in shared):
                    there = tuple(
                        slice(a - part.start, b - part.start) for (a, b), part in zip(shared, ranges, strict=True)
                    )
                    here = tuple(slice(a - begin, b - begin) for (a, b), begin in zip(shared, begins, strict=True))
                    result[there] = self._chunk(block, number)[here]
        return result

    def _chunk(self, block: int, number: int) -> np.ndarray:
        if block != self._block:
            self._block, self._chunks = block, {}
        if number not in self._chunks:
            self._chunks[number] = self._read(block, number)
        return self._chunks[number]

    def _read(self, block: int, number: int) -> np.ndarray:
        place, size, checksum = (int(n) for n in self._lines[block, 1 + self._piece.first + number])
        length = self._piece.chunk[0]
        for stored in (self._indexed, self._placed):
            content = stored((block * length, *self._corners[number]), place, size)
            if content is not None and len(content) == size and zlib.crc32(content) == checksum:
                return unpacked(content, self._piece)
        last = block * length + int(self._lines[block, 0, 0]) - 1
        raise UsageError(
            f"{self._path}: '{self._piece.path}', rows {block * length:,} to {last:,}: the stored values do not have "
            f"their checksum; the file is damaged there. Other rows and signals can still be read"
        )

    def _indexed(self, at: tuple[int, ...], place: int, size: int) -> bytes | None:
        """By HDF5."""
        try:
            if self._data.id.get_chunk_info_by_coord(at).size == size:
                return self._data.id.read_direct_chunk(at)[1]
        except _FAULTS:
            pass
        return None

    def _placed(self, at: tuple[int, ...], place: int, size: int) -> bytes | None:
        """By the table of checks."""
        if size > 2 * self._piece.chunk_bytes + 1024:
            return None
        with self._path.open("rb") as stream:
            stream.seek(place)
            return stream.read(size)
