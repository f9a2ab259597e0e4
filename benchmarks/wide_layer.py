"""A wide spiking layer, Linear + LIF, in every library: one call is forward and gradients of its mean squared spike.

Used by gpu.py, whose docstring says what is compared.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neurosbd

DT, TAU = 1e-3, 10e-3


def ours(rule: str) -> Callable[[Tensor], Callable[[], object]]:
    """A layer here, as the readout of a network, under a rule."""

    def make(x: Tensor) -> Callable[[], object]:
        units = x.shape[-1]
        lif = neurosbd.neurons["lif"](tau_mem=TAU)
        populations = [neurosbd.Population("input", (units,), None), neurosbd.Population("output", (units,), lif)]
        connection = neurosbd.Connection("input", "output", neurosbd.connections["dense"]())
        network = neurosbd.Network(populations, [connection], torch.Generator().manual_seed(0), DT).to(x.device)
        learner = neurosbd.learner(network, rule, "squared_error")
        batch = neurosbd.Batch(x, torch.zeros(x.shape[1], units, device=x.device))

        def once() -> object:
            network.zero_grad()
            return learner.learn(batch).loss

        return once

    return make


def through_time(weights: Any, forward: Callable[[], Tensor]) -> Callable[[], object]:
    """Forward and backward of the mean squared spike."""

    def once() -> object:
        for weight in weights:
            weight.grad = None
        loss = forward()
        loss.backward()
        return loss.detach()

    return once


def run(x: Tensor, step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Mean loss over the frames of a layer from rest; a step gives spikes and the membrane after it."""
    v, total = torch.zeros_like(x[0]), torch.zeros((), device=x.device)
    for frame in x:
        spikes, v = step(frame, v)
        total = total + 0.5 * spikes.square().sum(1).mean()
    return total / len(x)


def snntorch(compiled: bool) -> Callable[[Tensor], Callable[[], object]]:
    """Linear and Leaky, step by step."""

    def make(x: Tensor) -> Callable[[], object]:
        snn: Any = importlib.import_module("snntorch")
        linear = nn.Linear(x.shape[-1], x.shape[-1], bias=False, device=x.device)
        lif = snn.Leaky(beta=math.exp(-DT / TAU)).to(x.device)

        def one(frame: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
            return lif(linear(frame), mem)

        step = torch.compile(one) if compiled else one

        return through_time(list(linear.parameters()), lambda: run(x, step))

    return make


def norse(compiled: bool) -> Callable[[Tensor], Callable[[], object]]:
    """Linear and LIFBoxCell, step by step."""

    def make(x: Tensor) -> Callable[[], object]:
        library: Any = importlib.import_module("norse.torch")
        functional: Any = importlib.import_module("norse.torch.functional.lif_box")
        linear = nn.Linear(x.shape[-1], x.shape[-1], bias=False, device=x.device)
        cell = library.LIFBoxCell(library.LIFBoxParameters(tau_mem_inv=torch.tensor(1 / TAU, device=x.device)))

        def one(frame: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            spikes, state = cell(linear(frame), functional.LIFBoxFeedForwardState(v=v))
            return spikes, state.v

        step = torch.compile(one) if compiled else one

        return through_time(list(linear.parameters()), lambda: run(x, step))

    return make


LAYERS: dict[str, Callable[[Tensor], Callable[[], object]]] = {
    "neurosbd sbd": ours("sbd"),
    "neurosbd bptt": ours("bptt"),
    "snntorch": snntorch(False),
    "snntorch compiled": snntorch(True),
    "norse": norse(False),
    "norse compiled": norse(True),
}
