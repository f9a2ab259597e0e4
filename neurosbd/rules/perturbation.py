"""Perturbation of nodes and of weights: what noise does to the loss, times the noise, is the gradient on average."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Pass, Run, add_gradient
from neurosbd.learning.rule import Rule, TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import Network
from neurosbd.noise import new_key, normal, normal_by_place
from neurosbd.schema.constants import Positive, constants

Difference = Literal["forward", "central"]


@constants(called="node_perturbation")
class NodePerturbation(Rule[TensorState]):
    """Node perturbation: every unit tries noise in its drive, and all are told how much worse the loss became.

        drive~ = drive + size xi,  xi[b] ~ N(0, 1)
        d weight = mean_b (l~[b] - l[b]) / size xi[b] pre[b]^T

    The same for the readout: nothing but one number per example is sent. It is the gradient on average, with noise that
    grows with the number of units: a control for rules that are told more.

    Args:
        size: of the noise, in units of the drive, > 0.
        difference: 'forward': against the loss without noise; 'central': half of that with the noise less that with
            its opposite, which takes one showing more and is exact up to size^2.
    Source: Widrow, Lehr 1990, Proc. IEEE 78 (MRIII); Werfel, Xie, Seung 2005, Neural Comput. 17.
    Differs: the loss of each example counts, not that of the batch. Where examples share their drives (standardised
        units), what they do to each other is left out.
    """

    one_step: ClassVar[str] = "node_perturbation compares showings step by step"
    showings: ClassVar[int] = 3
    estimates: ClassVar[bool] = True
    sums_over_examples: ClassVar[bool] = True  # each has the noise of its place in the whole batch

    size: Positive = 1e-3
    difference: Difference = "forward"

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """Keys of the noise, one per population, and how many batches there have been."""
        device = next(network.parameters()).device
        keys = {name: new_key(generator, f"the perturbation of '{name}'", device) for name in network.incoming}
        return TensorState({**keys, "batches": torch.zeros((), dtype=torch.int64, device=device)})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """A showing without noise, then with it; a change of each unit by its own noise."""
        network, keys, steps = run.network, state.tensors, len(batch.weights)
        sizes = {name: network.populations[name].size for name in network.incoming}
        some = next(network.parameters())
        step, count = keys["batches"] * steps, len(batch.target_at(0))
        placed = {name: torch.stack((keys[name], torch.full_like(keys[name], batch.first))) for name in sizes}
        noise = [
            {name: normal_by_place(placed[name], step + t, some.new_empty((count, *sizes[name]))) for name in sizes}
            for t in range(steps)
        ]

        def perturbed(sign: float) -> Iterator[Pass]:
            return run(batch, lambda t, frame: {name: sign * self.size * xi for name, xi in noise[t].items()})

        firsts, forward = list(run(batch)), self.difference == "forward"
        below, span = (firsts, self.size) if forward else (perturbed(-1.0), 2 * self.size)
        for first, minus, plus in zip(firsts, below, perturbed(1.0), strict=True):
            worse = (_losses(plus) - _losses(minus)) * (first.weight / span / batch.examples(count))
            for name, xi in noise[first.t].items():
                for connection in network.incoming[name]:
                    first.deposit(connection, xi * worse.view(-1, *(1,) * len(sizes[name])))
        keys["batches"] += 1
        return run.result()


@constants(called="weight_perturbation")
class WeightPerturbation(Rule[TensorState]):
    """Weight perturbation: all synapses try noise at once, and all are told how much worse the loss became.

        weight~ = weight + size xi,  xi ~ N(0, 1), one draw for all examples
        d weight = (l~ - l) / size xi

    It is the gradient on average, with noise that grows with the number of synapses: the weakest control there is.
    A connection that is stored as a list tries noise at the synapses that are there, by their places in the list, so
    that it is other noise than that of a matrix, of the same kind.

    Args:
        size: of the noise, in units of the weight, > 0.
        difference: 'forward': against the loss without noise; 'central': half of that with the noise less that with
            its opposite, which takes one showing more and is exact up to size^2.
    Source: Jabri, Flower 1992, IEEE Trans. Neural Netw. 3; Cauwenberghs 1993, NeurIPS; all at once: Spall 1992, IEEE
        Trans. Autom. Control 37 (there with signs for Gaussian noise).
    """

    sums_over_examples: ClassVar[bool] = True
    showings: ClassVar[int] = 3
    estimates: ClassVar[bool] = True
    takes_lists: ClassVar[bool] = True
    spares_silent: ClassVar[bool] = False  # each synapse moves, whatever arrives at it

    size: Positive = 1e-3
    difference: Difference = "forward"

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """Keys of the noise, one per parameter that learns, and how many batches there have been."""
        names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        device = next(network.parameters()).device
        keys = {name: new_key(generator, f"the perturbation of '{name}'", device) for name in names}
        return TensorState({**keys, "batches": torch.zeros((), dtype=torch.int64, device=device)})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """A showing without noise, then with it; a change of each synapse by its own noise."""
        parameters = {name: p for name, p in run.network.named_parameters() if p.requires_grad}
        keys = state.tensors
        noise = {name: normal(keys[name], keys["batches"], p) for name, p in parameters.items()}
        for name, connection in run.network.connections.items():
            if connection.plastic and (present := run.network.present(connection)) is not None:
                noise[f"weights.{name}"] *= present
        minus, span = _mean_loss(run, batch), self.size  # the first showing has no noise, whatever the difference
        with _shifted(parameters, noise, self.size):
            plus = _mean_loss(run, batch)
        if self.difference == "central":
            span = 2 * self.size
            with _shifted(parameters, noise, -self.size):
                minus = _mean_loss(run, batch)
        for name, parameter in parameters.items():
            add_gradient(Synapses(parameter, None), Synapses(noise[name] * ((plus - minus) / span), None))
        keys["batches"] += 1
        return run.result()


def _losses(p: Pass) -> Tensor:
    """Of each example at one step, [B]."""
    assert p.run.loss is not None
    return p.run.loss.per_example(p.value(p.run.network.readout), p.target)


def _mean_loss(run: Run, batch: Batch) -> Tensor:
    """Mean loss of a showing, weighted over its steps, []."""
    losses = [(_losses(p), p.weight) for p in run(batch) if p.weight]
    return torch.stack([each.sum() * (weight / batch.examples(len(each))) for each, weight in losses]).sum()


@contextmanager
def _shifted(parameters: Mapping[str, Tensor], noise: Mapping[str, Tensor], size: float) -> Iterator[None]:
    """Parameters a step away for a while; they come back bit for bit."""
    start = {name: parameter.clone() for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.add_(noise[name], alpha=size)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.copy_(start[name])
