"""Checkpoints: everything that a run needs to go on bit for bit.

Tensors and plain Python only, so that reading one never runs code (`weights_only=True`). The file is torch's own, so
`torch.load` reads it, and a zip archive: the comment at its end is the sha256 of all bytes before it. The checkpoint
before it is kept beside it.
"""

import hashlib
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from neurosbd.errors import OUT, RESUME, UsageError, warn
from neurosbd.files.writing import beside, write_atomic

FORMAT = 1
_MARK = b"neurosbd sha256 "
_LENGTH = len(_MARK) + 2 * hashlib.sha256().digest_size  # of the comment, bytes
_PIECE = 1 << 20  # bytes read at once
StateDict = dict[str, Any]  # tensors and plain values by name, nested as their owner likes; what is read is checked


def before(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save(path: Path, content: StateDict) -> None:
    """Write a checkpoint atomically: a run killed meanwhile still has the one before, and keeps it afterwards."""
    content = {"format": FORMAT, **content}

    def write(stream: BinaryIO) -> None:
        sealed = _Sealed(stream)
        try:
            torch.save(content, sealed)  # pyright: ignore[reportArgumentType]
        except RuntimeError as problem:  # torch's own, about bytes that a full disk did not take
            raise sealed.problem or problem from None
        sealed.seal()
        _keep_before(path)

    write_atomic(path, write)


def _keep_before(path: Path) -> None:
    """Give the checkpoint that is about to be replaced a second name; at no moment is there none of its first."""
    if path.is_file() and not path.is_symlink():
        keep_as(path, before(path))


def keep_as(path: Path, other: Path) -> None:
    """Give a checkpoint a second name, atomically: it stays when that of the first is replaced."""
    second = beside(other)
    try:
        try:
            os.link(path, second)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, second)
        os.replace(second, other)
    finally:  # of two names of one file, as a kill just here leaves them, `replace` keeps both
        second.unlink(missing_ok=True)


class _Sealed:
    """Passes a zip archive on to a stream, and puts the sha256 of all of it into the comment at its end.

    An archive without a comment ends with the two bytes of its length, 0; they are held back until `seal`.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._sum = hashlib.sha256()
        self._last = b""
        self.problem: OSError | None = None  # of the stream

    def write(self, piece: bytes | memoryview) -> int:
        """Bytes of the archive, in order."""
        view = memoryview(piece).cast("B")
        if len(view) >= 2:
            self._pass(self._last)
            self._pass(view[:-2])
            self._last = bytes(view[-2:])
        else:
            together = self._last + bytes(view)
            self._pass(together[:-2])
            self._last = together[-2:]
        return len(view)

    def _pass(self, piece: bytes | memoryview) -> None:
        self._sum.update(piece)
        try:
            self._stream.write(piece)
        except OSError as problem:
            self.problem = problem
            raise

    def flush(self) -> None:
        """Nothing waits but the last two bytes."""
        self._stream.flush()

    def seal(self) -> None:
        """End the archive."""
        assert self._last == bytes(2), "torch.save ended its archive with a comment of its own"
        self._pass(_LENGTH.to_bytes(2, "little") + _MARK)
        self._stream.write(self._sum.hexdigest().encode())


def load(path: Path) -> StateDict:
    """Read a checkpoint onto the CPU.

    Raises:
        UsageError: if it is missing, damaged, of another format, or holds more than tensors and plain values.
    """
    content, sealed = _read(path)
    if not isinstance(content, dict) or "format" not in content:
        raise UsageError(f"{path}: not a checkpoint of neurosbd")
    if content["format"] != FORMAT:
        raise UsageError(
            f"{path}: has format {str(content['format'])[:40]}, this version of neurosbd reads format {FORMAT}"
        )
    if not sealed:
        warn(f"{path}: has no checksum: an older version or torch.save wrote it; it is taken as it is")
    return content


def _read(path: Path) -> tuple[object, bool]:
    """Whatever torch finds in a whole file, and whether the file has a checksum."""
    try:
        with path.open("rb") as stream:
            sealed = _verify(path, stream)
            stream.seek(0)
            return torch.load(stream, map_location="cpu", weights_only=True), sealed
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no checkpoint{_way_back(path)}") from None
    except UsageError:
        raise
    except Exception as problem:  # torch's reader fails in many ways on bytes that are not its own
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise UsageError(f"{path}: not a readable checkpoint ({first}){_way_back(path)}") from None


def _verify(path: Path, stream: BinaryIO) -> bool:
    """Compare a file with its checksum, or with those of its parts: torch looks at neither. Whether it has one.

    Raises:
        UsageError: if one bit of it is not what was written.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _LENGTH))
    if stream.read(len(_MARK)) != _MARK:
        _verify_parts(path, stream)
        return False
    noted = stream.read()
    stream.seek(0)
    left, found = size - _LENGTH + len(_MARK), hashlib.sha256()
    while left and (piece := stream.read(min(_PIECE, left))):
        found.update(piece)
        left -= len(piece)
    if found.hexdigest().encode() != noted:
        raise UsageError(
            f"{path}: is damaged: its sha256 is not the one that was noted when it was written{_way_back(path)}"
        )
    return True


def _verify_parts(path: Path, stream: BinaryIO) -> None:
    """The checksums that every zip archive has, of its parts."""
    try:
        with zipfile.ZipFile(stream) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, EOFError) as problem:
        raise UsageError(f"{path}: not a readable checkpoint ({problem}){_way_back(path)}") from None
    if damaged is not None:
        raise UsageError(f"{path}: is damaged: the CRC of '{damaged}' in it is wrong{_way_back(path)}")


def _way_back(path: Path) -> str:
    """What to do if the last checkpoint is lost, to be said after the reason."""
    earlier = before(path)
    if path.suffixes[:-1] == earlier.suffixes[-2:-1]:  # this is the earlier one
        return ""
    try:
        content = load(earlier)
    except UsageError:
        return f". There is none before it; start anew in another {OUT}"
    return (
        f". The one before it is whole ({content.get('epoch', '?')} epochs and {content.get('number', '?')} batches); "
        f"from there the run comes to the same end: mv '{earlier}' '{path}', then {RESUME}"
    )


def check(given: object, like: object, path: Path, where: str) -> None:
    """Compare something in a checkpoint with what this run has in its place, before any of it is used.

    A tensor that is empty here collects rows; there it may have any number of them.

    Args:
        given: what the checkpoint has.
        like: what is here: a tensor, a number, text, None, or a container of them.
        path: of the checkpoint.
        where: in the checkpoint.
    Raises:
        UsageError: naming the first place with other keys, another type, length or shape, or a number that is none.
    """
    problem = _difference(given, like)
    if problem is not None:
        inner, what = problem
        raise UsageError(
            f"{path}: the checkpoint does not belong to this model and rule, or was changed: {where}{inner}: {what}"
        )


def _difference(given: object, like: object) -> tuple[str, str] | None:
    """Where two structures differ, and how; None if they have the same form."""
    if isinstance(like, Tensor):
        return _other_tensor(given, like)
    if isinstance(like, dict):
        if not isinstance(given, dict) or given.keys() != like.keys():
            there = sorted(map(repr, given)) if isinstance(given, dict) else type(given).__name__
            return "", f"{str(there)[:200]} there, {str(sorted(map(repr, like)))[:200]} here"
        pairs = [(f".{key}", given[key], like[key]) for key in like]
    elif isinstance(like, list | tuple):
        if type(given) is not type(like) or len(given) != len(like):
            return "", f"{_kind(given)} there, {_kind(like)} here"
        pairs = [(f".{i}", *both) for i, both in enumerate(zip(given, like, strict=True))]
    else:
        return _other_value(given, like)
    for key, one, other in pairs:
        found = _difference(one, other)
        if found is not None:
            return key + found[0], found[1]
    return None


def _other_tensor(given: object, like: Tensor) -> tuple[str, str] | None:
    if not isinstance(given, Tensor):
        return "", f"{_kind(given)} there, {_kind(like)} here"
    fits = given.layout == torch.strided and given.dtype == like.dtype
    if fits and like.ndim and not len(like):
        fits = given.ndim == like.ndim and given.shape[1:] == like.shape[1:]
    elif fits:
        fits = given.shape == like.shape
    if not fits:
        return "", f"{_kind(given)} there, {_kind(like)} here"
    if _overlaps(given) and not _overlaps(like):
        return "", "values that share a place in memory"
    return None


def _overlaps(tensor: Tensor) -> bool:
    """Whether values along an axis share a place in memory, as `expand` makes them."""
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.numel() > 0 and any(n > 1 and not step for n, step in axes)


def _other_value(given: object, like: object) -> tuple[str, str] | None:
    number = isinstance(like, int | float) and not isinstance(like, bool)
    if number and isinstance(given, int | float) and not isinstance(given, bool):
        finite = isinstance(given, int) or abs(given) < float("inf")
        return None if finite and (isinstance(like, float) or isinstance(given, int)) else ("", f"is {given!r}")
    return None if type(given) is type(like) else ("", f"{_kind(given)} there, {_kind(like)} here")


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, list | tuple) else type(value).__name__
