"""The idx files of MNIST and its kin: big-endian header, then bytes; plain or gzip."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import UsageError

_LARGEST = 1 << 32  # bytes; no idx file of bytes that fits the memory of a training machine is larger


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
        UsageError: if the gzip stream is truncated or corrupt.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as stream:
            data = stream.read(_LARGEST)
    except (EOFError, OSError, zlib.error) as problem:
        raise UsageError(f"{path}: truncated or corrupt gzip file ({problem}); fetch it again") from None
    return data


def _array(path: Path, rank: int) -> np.ndarray:
    data = content(path)
    header = 4 + 4 * rank
    if len(data) < header or data[:3] != b"\x00\x00\x08" or data[3] != rank:
        raise UsageError(
            f"{path}: not an idx file of bytes with {rank} axes (starts with {data[:4].hex() or 'nothing'})"
        )
    shape = struct.unpack(f">{rank}I", data[4:header])
    expected = header + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise UsageError(
            f"{path}: truncated or corrupt: header says {list(shape)}, {expected} bytes, but there are {len(data)}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
