"""Values on their way between the host and a GPU, for which neither waits.

A copy between a GPU and memory that the system may move is over before the next line of Python begins. Memory of the
host that is pinned stays where it is, so that a copy from or to it goes on by itself.
"""

from functools import cache
from typing import Protocol

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. It goes to a GPU by way of pinned memory, so that the host does not wait for it."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class HostMemory(Protocol):
    """Memory of the host that takes copies of one block of memory, again and again.

    values: as many bytes as the block has; they are those of the block from `wait` to the next `copy`.
    """

    values: Tensor

    def copy(self) -> None:
        """Begin to copy what the block holds after everything launched so far; it must not change before `wait`."""
        ...

    def wait(self) -> None:
        """Return when the copy is there; another thread may do so."""
        ...


class SameMemory:
    """A block of the host itself, of which there is no copy.

    Args:
        block: on the CPU.
    """

    def __init__(self, block: Tensor) -> None:
        self.values = block

    def copy(self) -> None:
        """Nothing."""

    def wait(self) -> None:
        """Nothing: what has been put into the block is there."""


class PinnedMemory:
    """Pinned memory for a block of a GPU. Copies are made beside the kernels of the run, behind those before them.

    Args:
        block: on the GPU.
    Source: torch.cuda.Stream, torch.cuda.Event.
    """

    def __init__(self, block: Tensor) -> None:
        self.values = _pinned(block)
        self._block = block
        self._there = torch.cuda.Event(blocking=True)  # a thread that waits for it sleeps

    def copy(self) -> None:
        """See `HostMemory`."""
        device = self._block.device
        beside = _stream_of_copies(device)
        beside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(beside):
            self.values.copy_(self._block, non_blocking=True)
        self._there.record(beside)

    def wait(self) -> None:
        """See `HostMemory`."""
        self._there.synchronize()


def host_memory(block: Tensor) -> HostMemory:
    """Where the copies of a block go."""
    return PinnedMemory(block) if block.device.type == "cuda" else SameMemory(block)


def _pinned(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


@cache
def _stream_of_copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
