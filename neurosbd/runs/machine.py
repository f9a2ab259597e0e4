"""The machine a run works on: its device, its memory, and what to write down about it."""

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch

from neurosbd.errors import RunError, UsageError, nearest
from neurosbd.files.parsing import JsonTable
from neurosbd.learning.ranks import place_of


def provenance(device: torch.device) -> JsonTable:
    """Versions, git commit of the engine (if it is a checkout), device and threads."""
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "pydantic")}
    try:
        versions["neurosbd"] = metadata.version("neurosbd")
    except metadata.PackageNotFoundError:  # a plain checkout
        versions["neurosbd"] = "checkout"
    return {
        "versions": {"python": platform.python_version(), **versions},
        "commit": _commit(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else (platform.processor() or platform.machine()),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        told = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()


def peak_memory(device: torch.device) -> int:
    """Largest memory so far, bytes: of the device's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def exhausted(problem: Exception) -> bool:
    """Whether it says that there is no more memory, in Python, numpy or torch."""
    return isinstance(problem, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(problem)


def first_line(problem: Exception) -> str:
    """What an error says, in a line; its kind, if it says nothing."""
    return next(iter(str(problem).splitlines()), type(problem).__name__)[:200]


def failure(problem: Exception, path: Path) -> str | None:
    """Why a run in `path` failed, in a sentence, if the machine or the training is to blame; None: a program is."""
    if isinstance(problem, RunError):
        return str(problem)
    if isinstance(problem, OSError):
        return f"{problem.filename or path}: cannot be read or written ({problem.strerror or problem})"
    if exhausted(problem):
        return f"the memory does not suffice ({first_line(problem)}); try a smaller training.batch_size or populations"
    if "deterministic implementation" in str(problem):
        return f"training.deterministic: {first_line(problem)}; leave it out, or train on a CPU"
    return None


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Context in which torch takes no operation whose bits may differ from time to time; one without such a form fails.

    The products of cuBLAS are the same every time only with a workspace of fixed size, which is read when a process
    first uses it.
    """
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


def check_alone(environ: Mapping[str, str]) -> None:
    """Refuse a job that torchrun has started several times.

    Raises:
        UsageError: since each of the processes would train by itself, on the same batches.
    """
    place = place_of(environ) if {"RANK", "WORLD_SIZE"} <= environ.keys() else None
    if place is not None:
        raise UsageError(
            f"torchrun has started {place.size} processes, but an experiment is a single process as yet: each would "
            f"run by itself, the same trials; start it without torchrun"
        )


def check_device(name: str | torch.device, local: int = 0) -> torch.device:
    """The device of that name; 'auto' takes a CUDA device if there is one.

    Args:
        name: 'auto', 'cpu', 'cuda', 'cuda:1'.
        local: number of this process on its machine, and so of its GPU, where several learn together.
    Raises:
        UsageError: if the name is unknown or the device is not there.
    """
    name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(name, local) if local and name == "cuda" else torch.device(name)
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal() and number.isascii())):
        raise UsageError(f"there is no device '{name}'{nearest(name, ['auto', 'cpu', 'cuda', 'cuda:0'])}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device '{name}': this torch ({torch.__version__}) sees no CUDA device; use device 'cpu'")
    if colon and int(number) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UsageError(f"device '{name[:40]}': there are only cuda:0 to cuda:{last}")
    return torch.device(name)
