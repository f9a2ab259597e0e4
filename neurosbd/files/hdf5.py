"""Looking into an HDF5 file of unknown origin without being led elsewhere."""

import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosbd.errors import UsageError
from neurosbd.files.deflate import unpacked_at_most

_HARD_LINK = 0  # H5L_TYPE_HARD of the HDF5 library
Node = Any  # a group or dataset of h5py, which has no types
_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])  # of a list or text, where it lies
_FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE)  # that chunks of references may be declared to have


@contextmanager
def opened(path: Path, fix: str) -> Iterator[tuple[h5py.File, mmap.mmap]]:
    """An open file and its bytes, whose heaps are sound.

    Args:
        path: of a plain file.
        fix: what to do about a damaged one.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        check_heaps(data, path, fix)
        with h5py.File(path, "r") as file:
            yield file, data


def member(group: Node, name: str, where: str, missing: str) -> Node:
    """What a group holds itself. A link is looked at before it is followed: it may lead to another file.

    Args:
        group: an open group; anything else holds nothing.
        name: of the member, without '/'.
        where: file and path, for messages.
        missing: what to say if it is not there.
    Raises:
        UsageError: if there is no such member, or it is a link to another place.
    """
    links = group.id.links if isinstance(group, h5py.Group) else None
    if links is None or not links.exists(name.encode()):
        raise UsageError(f"{where} is missing; {missing}")
    if links.get_info(name.encode()).type != _HARD_LINK:
        raise UsageError(f"{where} is a link to another place; refused")
    return group[name]


def dataset(file: object, name: str, path: object, missing: str) -> Node:
    """A dataset that lies in this very file, before a byte of it is read.

    Raises:
        UsageError: if it is missing, is no dataset, or keeps its values in other files.
    """
    node = file
    for part in name.strip("/").split("/"):
        node = member(node, part, f"{path}: '{name}'", missing)
    if not isinstance(node, h5py.Dataset):
        raise UsageError(f"{path}: '{name}' is no dataset; {missing}")
    if node.is_virtual or node.external:
        raise UsageError(f"{path}: '{name}' keeps its values in other files; refused")
    return node


def row(file: object, name: str, path: object, most: int, missing: str, fix: str) -> np.ndarray:
    """A row of numbers, looked at before it is read.

    Args:
        file: an open file.
        name: of the dataset, with '/'.
        path: of the file, for messages.
        most: numbers that may be read.
        missing: what to say if it is not there.
        fix: what to do about a damaged one.
    Raises:
        UsageError: if it is missing, anything else than a row of so many numbers, or larger than the file can hold.
    """
    node = dataset(file, name, path, missing)
    if node.shape is None or node.shape != (node.size,) or node.dtype.kind not in "fiu" or node.size > most:
        raise UsageError(f"{path}: '{name}' is {node.dtype} {node.shape}; legal is a row of up to {most:,} numbers")
    most_bytes = unpacked_at_most(node.id.get_storage_size(), deflated=node.compression is not None)
    if node.size * node.dtype.itemsize > most_bytes:
        raise UsageError(f"{path}: '{name}' claims {node.size:,} numbers, more than the file can hold; {fix}")
    return node[:]


def check_heaps(data: bytes | mmap.mmap, path: object, fix: str) -> None:
    """Refuse a file whose lists and texts do not fill their heaps exactly.

    The HDF5 library trusts these sizes: on a damaged heap it runs on forever or past the end of its memory.

    Args:
        data: the whole file.
        path: of the file, for messages.
        fix: what to do about a damaged one.
    Raises:
        UsageError: naming the byte where the heap begins.
    Source: HDF5 File Format Specification 3.0, III.E (global heap).
    """
    start = data.find(b"GCOL")
    while start >= 0:
        place = start + 16
        end = start + struct.unpack_from("<Q", data, start + 8)[0] if place <= len(data) else -1
        sound = place <= end <= len(data)
        while sound and end - place >= 16:
            index, size = struct.unpack_from("<H6xQ", data, place)
            step = size if index == 0 else 16 + (size + 7) // 8 * 8  # 0: free space, its size has the header in it
            sound = 16 <= step <= end - place
            place += step
        if not sound:
            raise UsageError(f"{path}: truncated or corrupt HDF5 file (heap at byte {start}); {fix}")
        start = data.find(b"GCOL", end)


def check_lengths(node: object, data: bytes | mmap.mmap, most: int, where: str, fix: str) -> None:
    """Refuse lists or texts of more than `most` entries together, before the first is read.

    The HDF5 library asks for the memory of a length before it looks whether the heap holds it.

    Args:
        node: a dataset of lists or texts of variable length.
        data: the whole file.
        most: entries that may be read.
        where: file and path, for messages.
        fix: what to do about a damaged one.
    Raises:
        UsageError: naming the dataset.
    """
    total = 0
    for raw in _blocks(node, data, where, fix):
        total += int(np.frombuffer(raw, _REFERENCE)["length"].sum(dtype=np.uint64))
        if total > most:
            raise UsageError(f"{where} claims more than {most:,} entries of text or lists; refused: {fix}")


def _blocks(node: Node, data: bytes | mmap.mmap, where: str, fix: str) -> Iterator[bytes]:
    """References of a dataset as they lie in the file, unpacked."""
    if node.chunks is None:
        start, size = node.id.get_offset(), node.size * _REFERENCE.itemsize
        if node.size and (start is None or start + size > len(data)):
            raise UsageError(f"{where} lies outside the file or in its header; {fix}")
        yield data[start : start + size] if node.size else b""
        return
    pipeline = node.id.get_create_plist()
    filters = tuple(pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters()))
    if not set(filters) <= set(_FILTERS):
        raise UsageError(f"{where} holds texts or lists behind a filter; legal is gzip, or none: write it again")
    size = int(np.prod(node.chunks, dtype=object)) * _REFERENCE.itemsize
    for i in range(node.id.get_num_chunks()):
        mask, raw = node.id.read_direct_chunk(node.id.get_chunk_info(i).chunk_offset)
        applied = [filter for place, filter in enumerate(filters) if not mask >> place & 1]
        if applied not in ([], [h5py.h5z.FILTER_DEFLATE]):  # the library never shuffles references
            raise UsageError(f"{where} has a chunk behind another filter than gzip; {fix}")
        if applied:
            try:
                raw = zlib.decompressobj().decompress(raw, size)
            except zlib.error:
                raise UsageError(f"{where} has a chunk that is no gzip; {fix}") from None
        if len(raw) != size:
            raise UsageError(f"{where} has a chunk of {len(raw)} bytes, not {size}; {fix}")
        yield raw
