"""Something tried in a process of its own, with a limit of memory and of time, and what came of it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from neurosbd.errors import RunError, UsageError, UsageWarning

MEMORY = 2 << 30  # bytes beyond what the process has at its start
SECONDS = 60.0  # of processor time; of the clock, ten times as much
TIMES = ("seconds", "samples_per_second", "peak_memory_bytes")  # differ from run to run


@dataclass(frozen=True)
class Verdict:
    """What came of an attempt.

    how: 'read', 'refused' (one clear error), 'traceback', 'hang' or 'crash'.
    said: the error, or why it ended.
    where: the last line of neurosbd in a traceback.
    value: digest of what was read.
    warned: what was said beside it as a UsageWarning; strange: warnings of another kind.
    """

    how: str
    said: str = ""
    where: str = ""
    value: str = ""
    warned: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()


def attempt(action: Callable[[], object], folder: Path, seconds: float = SECONDS, loud: bool = False) -> Verdict:
    """Try an action in a forked process that works in `folder`.

    Args:
        action: returns what it read.
        folder: the working folder; caches and data of the user are looked for in it alone.
        seconds: of processor time after which it counts as hanging.
        loud: show what it prints, with the whole traceback.
    """
    ends = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ends[0])
        confined(folder, seconds)
        if not loud:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
        with os.fdopen(ends[1], "w") as answer:
            json.dump(dataclasses.asdict(_tried(action, loud)), answer)
        sys.stdout.flush()
        os._exit(0)
    os.close(ends[1])
    answer, late = _listen(ends[0], time.monotonic() + 10 * seconds)
    if late:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if late or status == -signal.SIGXCPU:
        return Verdict("hang", f"still going after {seconds:g} s")
    if status != 0:
        return Verdict("crash", signal.Signals(-status).name if status < 0 else f"exit status {status}")
    told: dict[str, Any] = json.loads(answer)
    told |= {"warned": tuple(told["warned"]), "strange": tuple(told["strange"])}
    return Verdict(**told)


def _listen(end: int, until: float) -> tuple[bytes, bool]:
    """All that is written into a pipe, and whether it went on for too long."""
    parts: list[bytes] = []
    with os.fdopen(end, "rb", buffering=0) as stream:
        while (left := until - time.monotonic()) > 0:
            if select.select([stream], [], [], left)[0]:
                part = stream.read(1 << 16)
                if not part:
                    return b"".join(parts), False
                parts.append(part)
    return b"".join(parts), True


def confined(folder: Path, seconds: float) -> None:
    """Work in a folder with limits of memory and time; caches and data of the user are found in it alone."""
    os.chdir(folder)
    os.environ |= {"NEUROSBD_CACHE": str(folder / ".cache"), "NEUROSBD_DATA": str(folder / ".data")}
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(spent.ru_utime + spent.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _tried(action: Callable[[], object], loud: bool) -> Verdict:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)
        how, said, where, value = "read", "", "", ""
        try:
            value = digest(action())
        except (UsageError, RunError) as problem:
            how, said = "refused", str(problem)
        except BaseException as problem:
            how, said, where = "traceback", _briefly(problem), _place(problem.__traceback__)
            if loud:
                traceback.print_exc()
    usage = tuple(str(w.message) for w in caught if issubclass(w.category, UsageWarning))
    strange = tuple(f"{w.category.__name__}: {w.message}" for w in caught if not issubclass(w.category, UsageWarning))
    return Verdict(how, said, where, value, usage, strange)


def _briefly(problem: BaseException) -> str:
    return " ".join(traceback.format_exception_only(problem)[-1].split())[:200]


def _place(trace: TracebackType | None) -> str:
    """The last line of the product that an exception came through."""
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if "/neurosbd/" in frame.filename or "/analysis/" in frame.filename
    ]
    return f"{'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}" if frames else ""


def digest(value: object) -> str:
    """Of nested plain values, dataclasses, arrays and tensors: equal where all bits are. Durations do not count."""
    hashed = hashlib.sha256()
    _feed(value, hashed.update)
    return hashed.hexdigest()[:16]


def _feed(value: object, update: Callable[[bytes], object]) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes() if value.dtype != object else repr(value.tolist()).encode())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _feed({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, update)
    elif isinstance(value, Mapping):
        for key in sorted(map(str, value)):
            if key not in TIMES:
                update(f"{key}:".encode())
                _feed({str(k): v for k, v in value.items()}[key], update)
    elif isinstance(value, list | tuple):
        update(f"[{len(value)}".encode())
        for item in value:
            _feed(item, update)
    else:
        update(f"{type(value).__name__} {value!r};".encode("utf-8", "surrogatepass"))
