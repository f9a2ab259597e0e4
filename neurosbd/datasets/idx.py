"""The idx files of MNIST and its kin: big-endian header, then bytes; plain or gzip."""

import contextlib
import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import UsageError
from neurosbd.files.deflate import unpacked_at_most

_LARGEST = 1 << 32  # bytes; no idx file of bytes that fits the memory of a training machine is larger
_DENSEST = 64  # times the size of a gzip file; published ones unpack to 5 times that


def read(definition: DatasetFile, folder: Path) -> Splits:
    """Four idx files: images and labels of train and test.

    Source: Y. LeCun, C. Cortes, C. Burges, the MNIST page (file format).
    """
    train, test = (
        Samples(
            _array(folder / definition.files[split][0], 3)[..., None],
            _array(folder / definition.files[split][1], 1).astype(np.int64),
        )
        for split in ("train", "test")
    )
    return Splits(train, test, definition.classes)


def content(path: Path) -> bytes:
    """Bytes of a file, unzipped if it is gzip.

    Raises:
        UsageError: if the gzip stream is truncated or corrupt, or unpacks to far more than such files do.
    """
    limit = min(_LARGEST, _DENSEST * path.stat().st_size + (1 << 20)) if path.suffix == ".gz" else _LARGEST
    data = _read(path, limit + 1)
    if len(data) > limit:
        raise UsageError(f"{path}: unpacks to more than {limit:,} bytes; refused")
    return data


def sha256_of_content(path: Path) -> str:
    """Digest of what `content` would give, in little memory."""
    digest = hashlib.sha256()
    with _readable(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """The file, unzipped as it is read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield stream
    except (EOFError, OSError, zlib.error) as problem:
        if path.suffix != ".gz":
            raise UsageError(f"{path}: {getattr(problem, 'strerror', None) or problem}") from None
        raise UsageError(f"{path}: truncated or corrupt gzip file ({problem}); fetch it again") from None


def _read(path: Path, size: int) -> bytes:
    with _readable(path) as stream:
        return stream.read(size)


def _array(path: Path, rank: int) -> np.ndarray:
    """The array, if the file has as many bytes as its header says; no memory is asked for before."""
    length = 4 + 4 * rank
    header = _read(path, length)
    if len(header) < length or header[:3] != b"\x00\x00\x08" or header[3] != rank:
        raise UsageError(
            f"{path}: not an idx file of bytes with {rank} axes (starts with {header[:4].hex() or 'nothing'})"
        )
    shape = struct.unpack(f">{rank}I", header[4:])
    expected = length + math.prod(shape)
    room = unpacked_at_most(path.stat().st_size, deflated=path.suffix == ".gz")
    data = b"" if expected > min(_LARGEST, room) else _read(path, expected + 1)
    if len(data) != expected:
        there = f"more than {expected:,}" if len(data) > expected else f"{len(data):,}" if data else "far fewer"
        raise UsageError(
            f"{path}: truncated or corrupt: header says {list(shape)}, {expected:,} bytes, but there are {there}"
        )
    return np.frombuffer(data, np.uint8, offset=length).reshape(shape)
