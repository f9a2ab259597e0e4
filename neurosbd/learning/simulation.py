"""The only loop over time."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.network import Frame, Network

Observer = Callable[[int, Frame], None]
Drives = Callable[[int, Frame | None], Mapping[str, Tensor]]


def unroll(
    network: Network,
    inputs: Tensor | Iterable[Tensor],
    observers: Sequence[Observer] = (),
    start: Frame | None = None,
    generator: torch.Generator | None = None,
    *,
    differentiable: bool = False,
) -> Frame:
    """Run a network over time and let observers watch every step.

    Observers see (step, frame) in their order and cannot change the dynamics: the next step reads
    `frame.state` alone. A learner comes last, since it takes activity out of the frame as it learns.
    No autograd graph is built, so that memory does not grow with the number of steps.

    Args:
        network: the network to run.
        inputs: [T, B, *input size], or any iterable of [B, *input size]; T >= 1.
        observers: called after every step.
        start: frame to go on from; none starts at rest.
        generator: source of the noise of this run, for networks that have any.
        differentiable: whether autograd follows the run, for backprop through time; the values are the same. Memory
            then grows with T, until the graph is let go.

    Returns:
        The last frame.

    Raises:
        UsageError: if there is no step to take, or the inputs are not such as this network can be shown. Of a tensor on
            the CPU the values are looked at, too: a spiking network would swallow NaN without a word.

    >>> import torch
    >>> from neurosbd.connections import Dense
    >>> from neurosbd.network import Connection, Population
    >>> from neurosbd.neurons import NEURONS
    >>> populations = [Population("input", (2,), None), Population("output", (3,), NEURONS["tanh"]())]
    >>> network = Network(populations, [Connection("input", "output", Dense())], torch.Generator())
    >>> frame = unroll(network, torch.ones(1, 5, 2))
    >>> frame.activity["output"].value.shape
    torch.Size([5, 3])
    """
    with torch.set_grad_enabled(differentiable):
        frame = start
        for t, frame in frames(network, inputs, start, generator):
            for observe in observers:
                observe(t, frame)
    if frame is None:
        raise UsageError("unroll needs at least one step of input, got an empty sequence")
    return frame


def frames(
    network: Network,
    inputs: Tensor | Iterable[Tensor],
    start: Frame | None = None,
    generator: torch.Generator | None = None,
    drives: Drives | None = None,
) -> Iterator[tuple[int, Frame]]:
    """The frames of a run, one after another, with the number of their step; the loop itself.

    Whether autograd follows is up to whoever asks for the next frame.

    Args:
        network: the network to run.
        inputs: [T, B, *input size], or any iterable of [B, *input size].
        start: frame to go on from; none starts at rest.
        generator: source of the noise of this run.
        drives: (step, frame before it) -> what is added to the drive of populations, {name: [B, *size]}; the frame is
            None before the first step of a run from rest.
    Raises:
        UsageError: if the inputs are not such as this network can be shown.
    """
    frame = start
    for t, x in enumerate(checked_frames(network, inputs)):
        extra = None if drives is None else drives(t, frame)
        frame = network.step(network.init(x, generator) if frame is None else frame, x, extra)
        yield t, frame


def checked_frames(network: Network, inputs: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
    """Inputs step by step, [B, *input size] each.

    Raises:
        UsageError: if they are not such as this network can be shown.
    """
    if not isinstance(inputs, Iterable) or (isinstance(inputs, Tensor) and (inputs.ndim == 0 or len(inputs))):
        network.check_shown(inputs, steps=True)
        _check_finite(cast(Tensor, inputs))
    for t, x in enumerate(inputs):
        if t == 0 and not isinstance(inputs, Tensor):
            network.check_shown(x)
        yield x


def _check_finite(inputs: Tensor) -> None:
    """One sum over inputs on the CPU; on another device they are not looked at, since that would wait for it."""
    if inputs.device.type == "cpu" and not math.isfinite(inputs.detach().sum().item()) and not inputs.isfinite().all():
        wrong = ~inputs.isfinite()
        first = int(wrong.flatten(1).any(1).nonzero()[0])
        count = f"{int(wrong.sum())} of {inputs.numel()}"
        raise UsageError(f"{count} input values are NaN or infinite, the first at step {first}")
