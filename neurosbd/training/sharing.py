"""A training that several processes share: each its part of a batch, what they add up after it, what they cannot do."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurosbd.config.definition import Experiment
from neurosbd.errors import UsageError
from neurosbd.learning.learner import Learner
from neurosbd.learning.ranks import Ranks
from neurosbd.network.network import Network
from neurosbd.neurons.neuron import Coupled
from neurosbd.tracefiles import Series

_OF_A_BATCH = ("alignment", "hebbian")  # signals that need all examples of a batch
_OF_A_GAIN = ("gain", "eligibility")  # signals that do, where the gain of a unit depends on other examples
_LONGEST = 4096  # bytes of what rank 0 tells the others


class Requests(NamedTuple):
    """What a signal has asked a run for."""

    stop: bool = False
    keep: bool = False  # a checkpoint


NO_REQUESTS = Requests()


def check_sharing(experiment: Experiment, learner: Learner, ranks: Ranks) -> None:
    """Refuse what processes cannot do together yet.

    Raises:
        UsageError: with the reason.
    """
    if ranks.size > 1 and (reason := learner.rule.why_alone() or _own_plasticity(learner.network)) is not None:
        raise _refusal(experiment.definition.name, ranks, reason)


def _own_plasticity(network: Network) -> str | None:
    """Why connections with a plasticity of their own learn in one process; None: there are none."""
    name = next((name for name, connection in network.connections.items() if connection.plasticity is not None), None)
    return None if name is None else f"what '{name}' changes by a plasticity of its own is no sum over examples"


def check_recording(model: str, network: Network, series: Iterable[Series], ranks: Ranks) -> None:
    """Refuse to record what rank 0, which keeps its own examples, cannot tell of them alone.

    Args:
        model: its name, for the message.
        network: that is recorded.
        series: what is asked for.
        ranks: processes that share every batch.
    Raises:
        UsageError: with the reason.
    """
    for each in series if ranks.size > 1 else ():
        population = network.connections[each.where].post if each.where in network.connections else each.where
        if each.what in _OF_A_BATCH:
            raise _refusal(model, ranks, f"{each.name} compares with the gradient of a whole batch")
        if each.what in _OF_A_GAIN and isinstance(network.adaptive.get(population), Coupled):
            raise _refusal(model, ranks, f"{each.name} depends on the examples of all, which '{population}' measures")


def _refusal(model: str, ranks: Ranks, reason: str) -> UsageError:
    return UsageError(f"{model}: {ranks.size} processes cannot share a batch here: {reason}; start it without torchrun")


def add_up(
    ranks: Ranks, parameters: Iterable[nn.Parameter], measured: Tensor, requests: Requests
) -> tuple[Tensor, Requests]:
    """After a batch, in one sum: the gradients of all ranks, what they measured, and whether one of them was asked.

    Args:
        ranks: all of which call it.
        parameters: the same ones on each, in the same order; their `.grad` becomes that of the whole batch.
        measured: sums over the examples of this rank.
        requests: to this rank.
    Returns:
        Sums over all examples, and what any rank was asked.
    """
    if ranks.size == 1:
        return measured, requests
    learned = list(parameters)
    there = measured.new_tensor([parameter.grad is not None for parameter in learned])
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
    *totals, measured, there, flags = ranks.total(*gradients, measured, there, measured.new_tensor(requests))
    for parameter, total, some in zip(learned, totals, there.tolist(), strict=True):
        if some:  # laid out as the parameter is, since fused optimizers do not look at strides
            parameter.grad = torch.empty_like(parameter).copy_(total)
    stop, keep = flags.tolist()
    return measured, Requests(stop > 0, keep > 0)


def as_first(ranks: Ranks, sums: Tensor) -> Tensor:
    """What rank 0 has, on every rank: so that all decide the same."""
    return ranks.total(sums if ranks.rank == 0 else torch.zeros_like(sums))[0]


def text_of_first(ranks: Ranks, device: torch.device, text: str = "") -> str:
    """What rank 0 says, on every rank; nobody goes on before all have come.

    Args:
        ranks: all of which call it.
        device: of the ranks.
        text: what to say, where it is rank 0 that says it.
    """
    content = text.encode()[:_LONGEST]
    sheet = torch.zeros(_LONGEST, dtype=torch.float64)
    sheet[: len(content)] = torch.tensor(list(content), dtype=torch.float64)
    return bytes(int(code) for code in as_first(ranks, sheet.to(device)).tolist() if code).decode()


@contextmanager
def in_turn(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Context that rank 0 leaves before the others enter it, as when data are fetched and decoded once."""
    if ranks.rank:
        text_of_first(ranks, device)
    yield
    if ranks.rank == 0 and ranks.size > 1:
        text_of_first(ranks, device)
