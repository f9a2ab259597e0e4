"""One process at a time works in a run directory: a file that says which, and that nobody else can take meanwhile."""

import fcntl
import json
import os
import platform
import subprocess
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from neurosbd.errors import OUT, UsageError
from neurosbd.files.writing import is_alive

LOCK = "run.lock"
_WAY_OUT = f"wait for its end, or choose another {OUT}"


class InUse(UsageError):
    """Another process works in this directory."""


class Holder(NamedTuple):
    """Who works in a directory.

    host: the machine's name.
    pid: of the process.
    process: when that process started, as its machine counts: a later one of the same number differs.
    since: when it took the directory, for people.
    """

    host: str
    pid: int
    process: str
    since: str


class Lock:
    """The right to write into a run directory.

    Args:
        path: of the lock file.
        handle: that keeps it locked for as long as this process lives.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    def release(self) -> None:
        """Let others in."""
        self.path.unlink(missing_ok=True)
        os.close(self._handle)


def take(folder: Path) -> Lock:
    """Take a directory for this process.

    A lock is stale, and passes on without a word, if its process was of this machine and is gone, or if the number
    belongs to another process by now. Whether a process of another machine is gone cannot be known.

    Raises:
        InUse: if another process works there, or one of another machine may.
        OSError: if nothing can be written there.
    """
    path = folder / LOCK
    while True:
        handle = _open(path)
        try:
            if not _locked(handle):
                raise InUse(
                    f"{folder}: {_words(_read(handle))} is at work there; wait for its end, or choose another {OUT}"
                )
            if _is_at(handle, path):
                _refuse_holder(handle, path)
                _write(handle, path)
                return Lock(path, handle)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # it was let go between opening and locking


def is_held(folder: Path) -> bool:
    """Whether a process works in a directory, as far as this machine can tell; nothing is changed."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        holder = _read(handle)
    finally:
        os.close(handle)
    return holder is not None and (holder.host != platform.node() or _lives(holder))


def _open(path: Path) -> int:
    """The lock file: a new one if there is none; never what a link points to."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            pass
        try:
            return os.open(path, flags)
        except FileNotFoundError:  # released in between
            continue


def _locked(handle: int) -> bool:
    """Lock an open file for this process; not if another has. It ends with the process, however that ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without such locks: then what the file says has to do
        return True
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _refuse_holder(handle: int, path: Path) -> None:
    if not os.fstat(handle).st_size:  # new, or its process was killed before it could write
        return
    holder = _read(handle)
    if holder is None:
        raise InUse(f"{path}: says not who is at work there; if nobody is, remove this file and try again")
    if holder.host != platform.node():
        raise InUse(
            f"{path.parent}: {_words(holder)} is at work there, or was killed there: {platform.node()!r} cannot tell. "
            f"If it is gone, remove {path} and try again; else {_WAY_OUT}"
        )
    if _lives(holder):
        raise InUse(f"{path.parent}: {_words(holder)} is at work there; {_WAY_OUT}")


def _write(handle: int, path: Path) -> None:
    me = Holder(platform.node(), os.getpid(), _started(os.getpid()) or "", datetime.now().isoformat(" ", "seconds"))
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, (json.dumps(me._asdict()) + "\n").encode(), 0)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _read(handle: int) -> Holder | None:
    """What a lock file says, if that is legible."""
    try:
        found = json.loads(os.pread(handle, 4096, 0))
        holder = Holder(**found)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    fits = all(isinstance(value, int if name == "pid" else str) for name, value in holder._asdict().items())
    return holder if fits and 0 < holder.pid < 2**31 else None


def _words(holder: Holder | None) -> str:
    if holder is None:
        return "another process"
    return f"process {holder.pid} of {holder.host!r} (since {holder.since[:40]!r})"


def _lives(holder: Holder) -> bool:
    """Whether the process of this machine that took a lock is still there."""
    started = _started(holder.pid)
    return is_alive(holder.pid) if started is None else started == holder.process


def _started(pid: int) -> str | None:
    """When a process of this machine started, as the machine counts; '' if it is gone, None if nobody tells."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]  # ticks since the machine started; see proc(5)
    try:
        told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()
