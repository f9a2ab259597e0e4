"""Processes that learn one thing together: each sees its share of every batch, and what is a sum is summed over all.

Nothing else knows torch.distributed. A local gradient is a sum over examples, and so are the statistics of a rule, so
that ranks need two things only: which examples are theirs, and sums.

    rows(n) = rank n / size : (rank + 1) n / size;    total(a, b, ..) = sum over ranks, all in one collective

Source: torch.distributed (c10d), whose variables torchrun sets; https://slurm.schedmd.com/srun.html for those of SLURM.
Differs: no wrapper around the network as in DistributedDataParallel, which reduces in hooks of autograd, and a local
    rule has no autograd.
"""

import hashlib
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, distributed

from neurosbd.errors import RunError, UsageError

__all__ = ["ALONE", "Alone", "Group", "Place", "Ranks", "check_same", "joined", "place_of"]

PATIENCE = timedelta(minutes=10)  # how long a rank waits for the others
PORTS = 15_000  # of SLURM jobs without one of their own: this and the last four digits of the job


class Ranks(Protocol):
    """One process among those that learn together."""

    @property
    def rank(self) -> int:
        """Its number, 0 to size - 1. Rank 0 writes what is written once."""
        ...

    @property
    def size(self) -> int:
        """How many processes there are."""
        ...

    def rows(self, count: int) -> slice:
        """Its examples of a batch.

        Args:
            count: examples of the whole batch, >= 0.
        Returns:
            Neighbours; the shares of two ranks differ by one example at most, and are empty if there are too few.
        """
        ...

    def total(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Sums over all ranks, the same bits on each. Every rank must call it, with parts of the same shapes.

        Args:
            parts: floating point, on the device of the ranks; they are left as they are.
        Returns:
            As many tensors of the same shapes and types.
        Raises:
            RunError: if another rank has ended, or does not come within ten minutes.
        """
        ...


@dataclass(frozen=True)
class Alone:
    """The only process: all examples are its own, and everything is its own total."""

    rank: int = 0
    size: int = 1

    def rows(self, count: int) -> slice:
        """All of them."""
        return slice(0, count)

    def total(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """The parts themselves."""
        return parts


ALONE = Alone()


@dataclass(frozen=True)
class Group:
    """A process of several, which have found each other; see `joined`."""

    rank: int
    size: int

    def rows(self, count: int) -> slice:
        """Its share of a batch, in the order of the ranks."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def total(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Sums over all ranks, in the widest type of the parts, by one collective."""
        if not parts:
            return ()
        if (other := next((p for p in parts if not p.is_floating_point()), None)) is not None:
            raise UsageError(f"parts of a total must be floating point, got {other.dtype}; use part.to(torch.float64)")
        wide = reduce(torch.promote_types, (part.dtype for part in parts))
        flat = torch.cat([part.detach().reshape(-1).to(wide) for part in parts])
        try:
            distributed.all_reduce(flat)
        except RuntimeError as problem:  # of gloo and NCCL alike
            raise RunError(
                f"rank {self.rank} of {self.size} has lost the others ({_first_line(problem)}): one of them has ended, "
                f"or has not come within {PATIENCE.seconds // 60} minutes; its own output says why. The last "
                f"checkpoint is kept"
            ) from problem
        pieces = flat.split([part.numel() for part in parts])
        return tuple(piece.view(part.shape).to(part.dtype) for piece, part in zip(pieces, parts, strict=True))


def check_same(ranks: Ranks, tensors: Mapping[str, Tensor]) -> None:
    """Whether what every rank must have is the same on all of them, bit for bit; waits for the device.

    Args:
        ranks: all of which call it, with tensors of the same names.
        tensors: by name, such as the parameters of a network.
    Raises:
        RunError: on every rank, naming the first tensor that differs and the ranks that have another than rank 0.
    """
    if ranks.size == 1 or not tensors:
        return
    own = torch.tensor([_fingerprint(tensor) for tensor in tensors.values()], dtype=torch.float64)
    table = own.new_zeros((ranks.size, len(own)))
    table[ranks.rank] = own
    (table,) = ranks.total(table.to(next(iter(tensors.values())).device))
    for name, prints in zip(tensors, table.t().tolist(), strict=True):
        others = [str(rank) for rank, found in enumerate(prints) if found != prints[0]]
        if others:
            raise RunError(
                f"'{name}' is not the same on all ranks: {', '.join(others)} of 0 to {ranks.size - 1} have another "
                f"than rank 0. They must run the same versions on the same kind of machine. The last checkpoint is kept"
            )


def _fingerprint(tensor: Tensor) -> int:
    """52 bits of a hash of the values, which float64 holds."""
    content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 12


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)[:120]


class Place(NamedTuple):
    """Where a process stands among those that were started together."""

    rank: int
    size: int
    local: int  # its number on its own machine, which is the number of its GPU
    address: str  # 'host:port', where rank 0 is found
    starter: str  # who says so, in messages


def place_of(environ: Mapping[str, str]) -> Place | None:
    """What torchrun or srun say in the environment; None: nobody has started several processes.

    Args:
        environ: such as os.environ. Of SLURM only what a step of `srun` sets counts: in a batch script, which is one
            process, SLURM_NTASKS is that of the steps to come.
    Raises:
        UsageError: if a variable is missing, is no number, or contradicts another.

    >>> place_of({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"})
    Place(rank=1, size=4, local=1, address='n1:29500', starter='torchrun')
    >>> place_of({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None
    True
    """
    if "WORLD_SIZE" in environ or "RANK" in environ:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
        rank, size, local, port = (_number(environ, name, "torchrun") for name in names)
        place = Place(rank, size, local, f"{_text(environ, 'MASTER_ADDR', 'torchrun')}:{port}", "torchrun")
    elif "SLURM_STEP_NUM_TASKS" in environ:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, size, local = (_number(environ, name, "srun") for name in names)
        if size == 1:
            return None
        place = Place(rank, size, local, _meeting(environ), "srun")
    else:
        return None
    if not 0 <= place.rank < place.size or place.local > place.rank:
        raise UsageError(
            f"{place.starter} says rank {place.rank} of {place.size} processes, {place.local} on its machine, which "
            f"cannot be; ranks go from 0 to {place.size - 1}"
        )
    return None if place.size == 1 else place


def _text(environ: Mapping[str, str], name: str, starter: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise UsageError(
            f"the environment variable {name} is not set, but others of {starter} are; start with {starter}, or unset "
            f"RANK and WORLD_SIZE for a single process"
        )
    return value


def _number(environ: Mapping[str, str], name: str, starter: str) -> int:
    value = _text(environ, name, starter)
    if not (value.isascii() and value.isdecimal()):
        raise UsageError(f"the environment variable {name} must be a whole number >= 0, got '{value[:40]}'")
    return int(value)


def _meeting(environ: Mapping[str, str]) -> str:
    """Where the ranks of a SLURM step meet: its first machine, and a port that other jobs do not have."""
    nodes = _text(environ, "SLURM_STEP_NODELIST", "srun")
    host = environ.get("MASTER_ADDR") or re.sub(r"\[(\w+).*", r"\1", nodes).split(",")[0]
    port = environ.get("MASTER_PORT") or str(PORTS + _number(environ, "SLURM_JOB_ID", "srun") % 10_000)
    return f"{host}:{port}"


@contextmanager
def joined(place: Place | None, device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes, and part from them at the end.

    Args:
        place: from `place_of`; None: there is nobody to meet.
        device: 'cpu', for gloo, or 'cuda', for NCCL, of this process alone.
    Yields:
        `ALONE`, or a `Group` whose ranks have all come.
    Raises:
        UsageError: if this torch cannot do it.
        RunError: if they do not all come within ten minutes.
    """
    if place is None:
        yield ALONE
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not (distributed.is_available() and distributed.is_backend_available(backend)):
        raise UsageError(f"{place.starter} has started {place.size} processes, but this torch has no {backend}")
    # torchrun holds the meeting itself, which only torch's own way of reading its variables knows.
    method = "env://" if place.starter == "torchrun" else f"tcp://{place.address}"
    try:
        with _ended_by_signals():
            distributed.init_process_group(
                backend, init_method=method, rank=place.rank, world_size=place.size, timeout=PATIENCE
            )
    except (RuntimeError, ValueError) as problem:
        raise RunError(
            f"rank {place.rank} of {place.size} has not met the others at {place.address} "
            f"({_first_line(problem)}); nothing was written"
        ) from problem
    try:
        yield Group(place.rank, place.size)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the process as the system does it: while C code waits for ranks that do not come, no
    handler of Python is called. Nothing has been written then."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM) if main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
