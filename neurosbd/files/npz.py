"""Arrays of an .npz file from a stranger: sizes are checked before memory is asked for, nothing is unpickled."""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from neurosbd.errors import UsageError, nearest
from neurosbd.files.deflate import unpacked_at_most

DAMAGED = (  # what numpy and zipfile raise of bytes that are not theirs
    zipfile.BadZipFile, zlib.error, struct.error, OSError, ValueError, EOFError, RuntimeError, NotImplementedError,
    TypeError, LookupError, SyntaxError, RecursionError, MemoryError, OverflowError, tokenize.TokenError,
)  # fmt: skip
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def keys(path: Path) -> list[str]:
    """Names of the arrays; none if the file is no .npz, of which `load` says what it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except DAMAGED:
        return []


def load(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays by name.

    Raises:
        UsageError: if one is missing, damaged, of Python objects, or says that it is larger than its bytes can be.
    """
    there = keys(path)
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [key for key in wanted if key not in there]
            if missing:
                raise UsageError(
                    f"{path}: no array '{missing[0]}'{nearest(missing[0], there[:50])}; needed: {', '.join(wanted)}"
                )
            return {key: _array(archive, key, path) for key in wanted}
    except UsageError:
        raise
    except DAMAGED as problem:
        raise UsageError(
            f"{path}: not a readable .npz file of plain arrays ({str(problem)[:100] or type(problem).__name__})"
        ) from None


def _array(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    member = next(info for info in reversed(archive.infolist()) if info.filename.removesuffix(".npy") == key)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UsageError(
            f"{path}: '{key}' is packed in a way that numpy never does; write it with numpy.savez_compressed"
        )
    packed = min(member.compress_size, path.stat().st_size)
    if member.file_size > unpacked_at_most(packed, deflated=True) + 1024:
        raise UsageError(
            f"{path}: '{key}' says that it is {member.file_size:,} bytes, but the {packed:,} that are there cannot "
            f"hold them; the file is damaged or hostile"
        )
    with archive.open(member) as stream:
        shape, dtype = _header(stream)
        needed = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise UsageError(
                f"{path}: '{key}' holds Python objects; give plain arrays of numbers (and names as dtype=str)"
            )
        if stream.tell() + needed != member.file_size:
            raise UsageError(
                f"{path}: '{key}' says that it is {list(shape)} of {dtype}, {needed:,} bytes, but with its header "
                f"there are {member.file_size:,}; the file is damaged"
            )
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of what follows."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"a format {version} of .npy that is not read here")
    shape, _, dtype = _HEADERS[version](stream)
    if any(length < 0 for length in shape):
        raise ValueError(f"a negative length in {shape}")
    return shape, dtype
