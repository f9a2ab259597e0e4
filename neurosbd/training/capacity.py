"""Whether a training fits the machine, told from its figures before it begins."""

from math import prod
from typing import TYPE_CHECKING

import torch

from neurosbd.allocator import room
from neurosbd.errors import UsageError
from neurosbd.learning.optimizers import remembered

if TYPE_CHECKING:
    from neurosbd.training.session import Session

_NUMBER = 4  # bytes; weights and activity are float32
_MOST_STEPS = 10_000_000  # of a trial, as `time.steps` has it


def check_capacity(session: "Session") -> None:
    """Refuse a training of which the least that it will ask for does not fit: gradients, what the optimizer keeps, and
    of one batch the input, the largest population and what is on its way. The weights are there already.

    Raises:
        UsageError: with figures, and what to make smaller.
    """
    definition, batches, network = session.definition, session.batches, session.network
    if batches.steps > _MOST_STEPS:
        raise UsageError(
            f"{definition.name}: a trial of the task has {_count(batches.steps)} steps; legal are {_MOST_STEPS:,}"
        )
    kept = remembered(session.experiment.optimizer)
    copies = 1 + sum(isinstance(value, torch.Tensor) and value.ndim > 0 for value in kept.values())
    learning = _NUMBER * copies * sum(p.numel() for p in network.parameters())
    batch = min(batches.widths["train"], batches.examples)
    units = {name: prod(population.size) for name, population in network.populations.items()}
    underway = sum(delay * units[network.connections[name].pre] for name, delay in network.delays.items())
    activity = _NUMBER * batch * (units["input"] + max(units.values()) + underway)
    there = _memory(session.device)
    if learning + activity > there:
        raise UsageError(
            f"{definition.name}: gradients and what the optimizer keeps take {_gigabytes(learning)}, a batch of "
            f"{_count(batch)} examples at least {_gigabytes(activity)}, but {session.device} has {_gigabytes(there)}; "
            f"make training.batch_size, populations or delays smaller"
        )


def _memory(device: torch.device) -> int:
    """Bytes."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else room()


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**15 else f"{float(number):.1e}"


def _gigabytes(size: int) -> str:
    return f"{_count(size // 10**9)} GB" if size >= 10**11 else f"{size / 1e9:.1f} GB"
