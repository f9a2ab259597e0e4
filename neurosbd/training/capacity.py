"""Whether a training or an experiment fits the machine, told from its figures before it begins."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch

from neurosbd.allocator import room
from neurosbd.config.definition import Definition
from neurosbd.errors import UsageError
from neurosbd.learning.optimizers import optimizer_state
from neurosbd.network.network import Network
from neurosbd.tasks import Extent

if TYPE_CHECKING:
    from neurosbd.training.session import Session

_NUMBER = 4  # bytes; weights and activity are float32
_MOST_STEPS = 10_000_000  # of a trial, as `time.steps` has it
_MOST_TRIALS = 2**31 - 1  # of a protocol


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
    learning, activity = _needed(session)
    batch, there = _batch(session), _memory(session.device)
    if learning + activity > there:
        keys = (["training.batch_size"] if batch > 1 and activity > learning else []) + _parts(network)
        raise UsageError(
            f"{definition.name}: gradients and what the optimizer keeps take {_gigabytes(learning)}, a batch of "
            f"{_count(batch)} examples at least {_gigabytes(activity)}, but {session.device} has {_gigabytes(there)}; "
            f"{_smaller(keys)}"
        )


def too_large_at_once(session: "Session", networks: int) -> str | None:
    """Why so many networks like that of a session do not fit side by side; None: the least they ask for fits."""
    needed, there = networks * sum(_needed(session)), _memory(session.device)
    if needed <= there:
        return None
    return f"side by side they take at least {_gigabytes(needed)}, but {session.device} has {_gigabytes(there)}"


def _needed(session: "Session") -> tuple[int, int]:
    """Bytes of gradients and what the optimizer keeps, and of the activity of a batch, at least."""
    kept = optimizer_state(session.experiment.optimizer)
    copies = 1 + sum(isinstance(value, torch.Tensor) and value.ndim > 0 for value in kept.values())
    learning = _NUMBER * copies * sum(p.numel() for p in session.network.parameters())
    return learning, _NUMBER * _batch(session) * _of_an_example(session.network)


def _batch(session: "Session") -> int:
    """Examples of a batch."""
    return min(session.batches.widths["train"], session.batches.examples)


def check_extent(definition: Definition, network: Network, extent: Extent) -> None:
    """Refuse a protocol that goes on for ever, or of which the least that it will ask for does not fit: of every
    example the activity, the chances, draws and spikes of its inputs, a trace and an eligibility per synapse, and what
    it keeps for later.

    Raises:
        UsageError: with figures, and what to make smaller.
    """
    for number, most, what in ((extent.trials, _MOST_TRIALS, "trials"), (extent.steps, _MOST_STEPS, "steps per trial")):
        if number > most:
            raise UsageError(
                f"{definition.name}: the protocol has {_count(number)} {what}; legal are {most:,}: make its times and "
                f"counts in [protocol] smaller, or time.dt larger"
            )
    inputs, synapses = prod(network.input_size), sum(w.numel() for w in network.weights.values())
    each = _of_an_example(network) + 2 * inputs + 2 * synapses + extent.pending
    needed, there = _NUMBER * extent.examples * each, room()
    if needed > there:
        keys = ["protocol.batch"] if extent.examples > 1 else []
        keys += ["protocol.longest"] if extent.pending > each / 2 else []
        raise UsageError(
            f"{definition.name}: {_count(extent.examples)} examples side by side, each of {_count(each)} numbers, "
            f"take at least {_gigabytes(needed)}, but the machine has {_gigabytes(there)}; "
            f"{_smaller(keys + _parts(network))}"
        )


def check_free_run(definition: Definition, network: Network, ahead: int) -> None:
    """Refuse a free run of which the least that it will ask for does not fit: of every example its activity, and the
    stimuli of so many steps.

    Raises:
        UsageError: with figures, and what to make smaller.
    """
    assert definition.simulation is not None
    stimulated = {entry.population for entry in definition.stimulus} & network.populations.keys()
    made = sum(prod(network.populations[name].size) for name in stimulated)
    each = _of_an_example(network) + 2 * ahead * made
    needed, there = _NUMBER * definition.simulation.examples * each, room()
    if needed > there:
        raise UsageError(
            f"{definition.name}: {_count(definition.simulation.examples)} examples side by side, each of "
            f"{_count(each)} numbers, take at least {_gigabytes(needed)}, but the machine has {_gigabytes(there)}; "
            f"{_smaller(['simulation.examples', *_parts(network)])}"
        )


def _of_an_example(network: Network) -> int:
    """Numbers: the input, the largest population and what is on its way."""
    units = {name: prod(population.size) for name, population in network.populations.items()}
    underway = sum(delay * units[network.connections[name].pre] for name, delay in network.longest.items())
    return prod(network.input_size) + max(units.values()) + underway


def _parts(network: Network) -> list[str]:
    return ["populations", *(["delays"] if any(network.delays.values()) else [])]


def _smaller(keys: Sequence[str]) -> str:
    *most, last = keys
    return f"make {', '.join(most)} or {last} smaller" if most else f"make {last} smaller"


def _memory(device: torch.device) -> int:
    """Bytes."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else room()


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**15 else f"{number:.1e}"


def _gigabytes(size: int) -> str:
    return f"{_count(size // 10**9)} GB" if size >= 10**11 else f"{size / 1e9:.1f} GB"
