"""Unpack a downloaded archive where it cannot do harm."""

import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

from neurosbd.errors import UsageError
from neurosbd.files.library import path_component
from neurosbd.files.writing import sweep, workplace

LARGEST = 8 << 30  # bytes that any archive may unpack to
_MOST = 1_000_000  # members; Tiny ImageNet has 120,000
_LARGEST_READ = 1 << 24  # bytes at once; those who unpack ask for little, a header that is made up for anything


def unpack(archive: Path, target: Path, limit: int = LARGEST) -> Path:
    """Unpack a .tar.gz or .zip as `target`, whole or not at all; what lies there is replaced.

    Args:
        archive: the file.
        target: folder to make.
        limit: bytes that it may unpack to.
    Raises:
        UsageError: if the archive is truncated, corrupt, encrypted or larger, or holds links, devices or names that
            lead elsewhere.
    """
    sweep(target.parent, "unpacking")
    try:
        with workplace(target.parent, "unpacking") as place:
            (_unzip if archive.suffix == ".zip" else _untar)(archive, place, limit)
            shutil.rmtree(target, ignore_errors=True)
            place.replace(target)
    except UsageError:
        raise
    except OSError as problem:
        if problem.errno is None:
            raise _unsound(archive, problem) from None
        raise UsageError(f"{archive}: cannot be unpacked into {target.parent} ({problem.strerror})") from None
    except (*_UNSOUND, RuntimeError, ValueError, OverflowError, MemoryError) as problem:
        raise _unsound(archive, problem) from None
    return target


_UNSOUND = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error)


def _unsound(archive: Path, problem: Exception) -> UsageError:
    return UsageError(f"{archive}: truncated, corrupt or unsafe archive ({problem}); fetch it again")


def _untar(archive: Path, target: Path, limit: int) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise UsageError(f"{archive}: this Python cannot unpack tar files safely; use 3.11.4 or later")
    stream = _Bounded(archive)
    stream.end = limit + (_MOST << 10)  # the headers of the members come on top
    with stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        budget = _Budget(archive, limit)
        for member in tar:
            if not (member.isfile() or member.isdir()):
                raise UsageError(f"{archive}: the member {member.name!r} is a link or a device; refused")
            budget.spend(member.name, member.size)
        while stream.read(1 << 20):  # to the end, where gzip keeps its checksum; tar stops before
            pass
        tar.extractall(target, filter="data")


def _unzip(archive: Path, target: Path, limit: int) -> None:
    with zipfile.ZipFile(archive) as zipped:
        budget = _Budget(archive, limit)
        for member in zipped.infolist():
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UsageError(f"{archive}: the member {member.filename!r} is a link or a device; refused")
            budget.spend(member.filename, member.file_size)
        zipped.extractall(target)


class _Budget:
    """What an archive may still hold."""

    def __init__(self, archive: Path, limit: int) -> None:
        self.archive, self.limit, self.left, self.members = archive, limit, limit, _MOST

    def spend(self, name: str, size: int) -> None:
        """Take a member off; refuse what is too much, or would land outside."""
        self.left -= size
        self.members -= 1
        if size < 0 or self.left < 0 or self.members < 0:
            raise UsageError(f"{self.archive}: unpacks to more than {self.limit:,} bytes or {_MOST:,} files; refused")
        parts = name.removeprefix("./").rstrip("/").split("/")
        try:
            for part in parts if name.rstrip("/") != "." else ():
                path_component(part)
        except UsageError:
            raise UsageError(f"{self.archive}: the member {name!r} would land outside; refused") from None


class _Bounded(gzip.GzipFile):
    """A stream that is read in small pieces and up to `end`, whatever the headers in it ask for."""

    end: int

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes."""
        if size is None or not 0 <= size <= _LARGEST_READ or self.tell() > self.end:
            raise tarfile.ReadError("a header asks for an absurd size")
        return super().read(size)
