"""Writing files so that a reader, or a run killed at any moment, finds the old or the new one."""

import contextlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import platformdirs

from neurosbd.errors import UsageError

CACHE_VARIABLE = "NEUROSBD_CACHE"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LONGEST_PART, _LONGEST_PATH = 255, 4000  # bytes
_FORGOTTEN = 7 * 24 * 3600.0  # s after which nobody is at work any more, on whatever machine


def cache_folder() -> Path:
    """Where is kept what can be made again: NEUROSBD_CACHE, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("neurosbd"))


def legal_path(path: str | Path) -> Path:
    """A path of a user's that the system can look at.

    Raises:
        UsageError: if it is empty, has a null byte, is not text, or is longer than systems allow.
    """
    text = os.fspath(path)
    if not text:
        raise UsageError("'': an empty text is no path; give one, '.' for the folder you are in")
    try:
        longest = max(len(part.encode()) for part in text.split("/"))
    except UnicodeEncodeError:
        raise UsageError(f"{text!a}: this path is not text in UTF-8; rename the file or folder") from None
    if "\0" in text:
        raise UsageError(f"{text!r}: a path has no null byte in it; give one without")
    if longest > _LONGEST_PART or len(text.encode()) > _LONGEST_PATH:
        raise UsageError(
            f"{text[:60]}...: too long for a path; legal are {_LONGEST_PART} bytes per name, {_LONGEST_PATH} in all"
        )
    return Path(path)


def regular(path: Path) -> Path:
    """The path of a plain file. It is looked at without being opened: opening a FIFO waits forever, a device may act.

    Raises:
        UsageError: if it is missing, or anything else than a file.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError) as problem:  # a ValueError: the name has a null byte
        raise UsageError(f"{path}: {getattr(problem, 'strerror', None) or problem}") from None
    if kind != stat.S_IFREG:
        raise UsageError(f"{path}: is {_KINDS.get(kind, 'no file')}, not a file; refused without opening it")
    return path


@contextlib.contextmanager
def workplace(parent: Path, purpose: str) -> Iterator[Path]:
    """A new folder in `parent` where something is built before it moves to its place; what stays in it is removed.

    Its name says who is at work, so that `sweep` can tell what killed processes have left. It follows the umask.
    """
    parent.mkdir(parents=True, exist_ok=True)
    place = parent / f".{purpose}-{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sweep(parent: Path, purpose: str) -> None:
    """Remove the workplaces that killed processes have left in `parent`, never those of a process that lives."""
    for place in parent.glob(f".{purpose}-*"):
        owner = re.fullmatch(rf"\.{purpose}-(.*)-(\d+)-[0-9a-f]{{8}}", place.name)
        gone = owner is not None and owner[1] == platform.node() and not is_alive(int(owner[2]))
        with contextlib.suppress(OSError):
            if gone or time.time() - place.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(place, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is there; asked by signal 0, which does nothing to it."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one move.

    The new file has the rights that the user's umask leaves. A link at `path` is replaced, never followed.
    """
    temporary = beside(path)
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def beside(path: Path) -> Path:
    """A free name beside `path` for what is to take its place; a killed process leaves it behind, see `sweep_files`."""
    return path.with_name(f".{path.name}-{secrets.token_hex(4)}")


def sweep_files(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed processes left behind of the files `names` of a folder; nobody else may be writing them."""
    leftover = re.compile(rf"\.({'|'.join(map(re.escape, names))})-[a-z0-9_]{{8}}")
    for path in folder.iterdir():
        if leftover.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    write_atomic(path, lambda stream: stream.write(text.encode()))
