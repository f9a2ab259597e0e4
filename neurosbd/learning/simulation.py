"""The only loop over time."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain, islice, repeat, takewhile
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor

from neurosbd.errors import UsageError, nearest
from neurosbd.network.blocks import Block, advance, automatic, block_of
from neurosbd.network.network import Frame, Network

Observer = Callable[[int, Frame], None]
Drives = Callable[[int, Frame | None], Mapping[str, Tensor]]
Lengths = Callable[[Tensor], Iterable[int]]


def counted_from(observe: Observer, begun: int) -> Observer:
    """An observer to which the steps of a run that begins at step `begun` of a longer one are those of the longer."""
    return lambda t, frame: observe(begun + t, frame)


def unroll(
    network: Network,
    inputs: Tensor | Iterable[Tensor],
    observers: Sequence[Observer] = (),
    start: Frame | None = None,
    generator: torch.Generator | None = None,
    *,
    drives: Mapping[str, Tensor] = MappingProxyType({}),
    differentiable: bool = False,
) -> Frame:
    """Run a network over time and let observers watch every step.

    Observers see (step, frame) in their order and cannot change the dynamics: the next step reads
    `frame.state` alone. Several steps may be taken before they are seen, see `Network(block=...)`.
    No autograd graph is built, so that memory does not grow with the number of steps.

    Args:
        network: the network to run.
        inputs: [T, B, *input size], or any iterable of [B, *input size]; T >= 1. Spikes may be of type bool.
        observers: called after every step.
        start: frame to go on from; none starts at rest.
        generator: source of the noise of this run, for networks that have any.
        drives: added to the drive of populations at every step, {name: [T, B, *size]}: currents, stimuli.
        differentiable: whether autograd follows the run, for backprop through time; the values are the same. Memory
            then grows with T, until the graph is let go.

    Returns:
        The last frame.

    Raises:
        UsageError: if there is no step to take, or the inputs are not such as this network can be shown. Of a tensor on
            the CPU the values are looked at, too: a spiking network would swallow NaN without a word.

    >>> import torch
    >>> from neurosbd.connections import Dense
    >>> from neurosbd.network.network import Connection, Population
    >>> from neurosbd.neurons import NEURONS
    >>> populations = [Population("input", (2,), None), Population("output", (3,), NEURONS["tanh"]())]
    >>> network = Network(populations, [Connection("input", "output", Dense())], torch.Generator())
    >>> frame = unroll(network, torch.ones(1, 5, 2))
    >>> frame.activity["output"].value.shape
    torch.Size([5, 3])
    """
    frame = start
    with torch.set_grad_enabled(differentiable):
        for t, block in blocks(network, inputs, as_long_as(network, inputs), start, generator, given=drives):
            for k, frame in enumerate(block.frames()):
                for observe in observers:
                    observe(t + k, frame)
    if frame is None:
        raise UsageError("unroll needs at least one step of input, got none; give [T, B, *size] with T >= 1")
    return frame


def blocks(
    network: Network,
    inputs: Tensor | Iterable[Tensor],
    lengths: Lengths,
    start: Frame | None = None,
    generator: torch.Generator | None = None,
    drives: Drives | None = None,
    given: Mapping[str, Tensor] = MappingProxyType({}),
) -> Iterator[tuple[int, Block]]:
    """The steps of a run, block after block, with the number of the first of each; the loop itself.

    Whether autograd follows is up to whoever asks for the next block.

    Args:
        network: the network to run.
        inputs: [T, B, *input size], or any iterable of [B, *input size].
        lengths: first input [B, *input size] -> steps of one block after another; those that follow have one step
            each, and the last ends with the inputs.
        start: frame to go on from; none starts at rest.
        generator: source of the noise of this run.
        drives: (step, frame before it) -> what is added to the drive of populations, {name: [B, *size]}; the frame is
            None before the first step of a run from rest. Blocks must have one step then.
        given: added besides, {name: [T, B, *size]}, whatever the network does.
    Raises:
        UsageError: if the inputs or drives are not such as this network can be shown.
    """
    frame, t = start, 0
    check_given(network, given, drives is not None)
    if start is None:  # a run that goes on makes its drives itself
        for name, drive in given.items():
            _check_finite(drive, f"values of the drive of '{name}'")
    for x in _cut(checked_frames(network, inputs), lengths):
        now = {name: drive[t : t + len(x)] for name, drive in given.items()}
        before = network.init(x[0], generator) if frame is None else frame
        if drives is None:
            block = advance(network, before.state, x, now)
        else:
            extra = {name: drive[0] for name, drive in now.items()}
            for name, drive in drives(t, frame).items():
                extra[name] = extra[name] + drive if name in extra else drive
            block = block_of(before.state, network.step(before, x[0], extra))
        # The activity is that of whoever takes the block, unless the drives of the next step are made of it.
        frame = Frame(block.state, {}, {}) if drives is None else block.frames()[0]
        yield t, block
        t += len(x)


def check_given(network: Network, given: Mapping[str, Tensor], more: bool = False) -> None:
    """Refuse drives of populations that are not there, and a population that nobody drives.

    Args:
        network: that is driven.
        given: {name: [T, B, *size]}.
        more: whether other drives come as the network runs.
    Raises:
        UsageError: naming the population.
    """
    for name, drive in given.items():
        if name not in network.incoming:
            raise UsageError(f"there is no population '{name}' to drive{nearest(name, network.incoming)}")
        size = network.populations[name].size
        if drive.shape[2:] != size:
            raise UsageError(f"the drive of '{name}' is {list(drive.shape)}; give [T, B, *size] of size {list(size)}")
    silent = [name for name, onto in network.incoming.items() if not onto and name not in given]
    if silent and not more:
        raise UsageError(
            f"population '{silent[0]}' has no incoming connection and is given no drive, so that nothing would ever "
            f"reach it; connect it, or drive it: Batch(..., drives={{'{silent[0]}': [T, B, *size]}})"
        )


def _cut(inputs: Tensor | Iterator[Tensor], lengths: Lengths) -> Iterator[Tensor | Sequence[Tensor]]:
    """The inputs of one block after another."""
    if isinstance(inputs, Tensor):
        t, each = 0, iter(lengths(inputs[0]) if len(inputs) else ())
        while t < len(inputs):
            yield inputs[t : (t := t + next(each, 1))]
        return
    for first in inputs:
        each, steps = iter(lengths(first)), chain((first,), inputs)
        while x := list(islice(steps, next(each, 1))):
            yield x


def as_long_as(network: Network, inputs: object) -> Lengths:
    """How long the blocks of a run are in which nothing but the network has a say. Inputs that do not know their number
    may depend on what the network does, so nobody asks for them ahead."""
    if not isinstance(inputs, Sized) or network.block == 1:
        return lambda x: ()
    return lambda x: repeat(network.block or automatic(network, x, len(inputs)))


def of_one_kind(lengths: Lengths, kinds: Sequence[object]) -> Lengths:
    """Lengths of blocks, cut where the kind of the steps changes.

    Args:
        lengths: that are wished.
        kinds: of every step.

    >>> list(of_one_kind(lambda x: [4, 4, 4], "aaaaabb")(torch.empty(0)))
    [4, 1, 2]
    """

    def cut(x: Tensor) -> Iterator[int]:
        t = 0
        for wished in lengths(x):
            length = sum(1 for _ in takewhile(kinds[t].__eq__, kinds[t : t + wished])) if t < len(kinds) else 0
            if not length:
                return
            yield length
            t += length

    return cut


def checked_frames(network: Network, inputs: Tensor | Iterable[Tensor]) -> Tensor | Iterator[Tensor]:
    """Inputs step by step, [B, *input size] each; spikes that are kept as bool, a byte each, become numbers here.

    Raises:
        UsageError: if they are not such as this network can be shown.
    """
    if isinstance(inputs, Tensor) and inputs.dtype == torch.bool and inputs.ndim and len(inputs):
        network.check_shown(_in_numbers(network, inputs[:1]), steps=True)
        return (_in_numbers(network, x) for x in inputs)
    if not isinstance(inputs, Iterable) or (isinstance(inputs, Tensor) and (inputs.ndim == 0 or len(inputs))):
        network.check_shown(inputs, steps=True)
        _check_finite(cast(Tensor, inputs), "input values")
    return inputs if isinstance(inputs, Tensor) else _first_checked(network, inputs)


def _first_checked(network: Network, inputs: Iterable[Tensor]) -> Iterator[Tensor]:
    for t, x in enumerate(inputs):
        shown = _in_numbers(network, x)
        if t == 0:
            network.check_shown(shown)
        yield shown


def _in_numbers(network: Network, x: Tensor) -> Tensor:
    """Spikes as 0 and 1 in the type of the weights; whatever else as it is."""
    return x.to(network.like.dtype) if isinstance(x, Tensor) and x.dtype == torch.bool else x


def _check_finite(inputs: Tensor, what: str) -> None:
    """One sum over numbers on the CPU; on another device they are not looked at, since that would wait for it."""
    if inputs.device.type == "cpu" and not math.isfinite(inputs.detach().sum().item()) and not inputs.isfinite().all():
        wrong = ~inputs.isfinite()
        first = int(wrong.flatten(1).any(1).nonzero()[0])
        count = f"{int(wrong.sum())} of {inputs.numel()}"
        raise UsageError(f"{count} {what} are NaN or infinite, the first at step {first}")
