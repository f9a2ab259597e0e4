"""From the output down: a score that goes from population to population, against the connections.

What the rules with such a chain share. They differ in the weights on the way back.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from neurosbd.connections.initialisers import Initialiser
from neurosbd.connections.synapses import Synapses
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Pass, Run, add_gradient
from neurosbd.learning.rule import Rule, RuleSignals, TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import INPUT, Connection, Network

NONE: Mapping[str, nn.Parameter] = {}


class Chain(Rule[TensorState]):
    """What rules declare whose score goes from the readout down to all populations within a step."""

    sums_over_examples: ClassVar[bool] = True
    teaches_heads: ClassVar[bool] = True
    one_step: ClassVar[str] = "the signal goes back within one step"

    def check(self, network: Network, loss: Loss | None) -> None:
        """Every population has a way to the readout."""
        reaching = {network.readout}
        for name in reversed([name for name in network.incoming if name not in network.heads]):
            if name not in reaching:
                raise ValueError(f"population '{name}' does not reach the readout, so no signal comes back to it")
            reaching |= {connection.pre for connection in network.incoming[name]}

    def signals(self, network: Network) -> RuleSignals:
        """Those of all hidden populations."""
        return RuleSignals(tuple(name for name in network.incoming if name not in (network.readout, *network.heads)))


def learn_back(
    run: Run, batch: Batch, backward: Callable[[Connection], Tensor], mirrored: Mapping[str, nn.Parameter] = NONE
) -> BatchResult:
    """One showing, learned from step by step, from the readout down.

        signal[readout] = score;   signal[pre] = sum over connections of back(gain signal[post], backward)
        d weight = (gain signal[post]) pre^T

    Args:
        run: of the batch.
        batch: to be learned from.
        backward: the weights by which a signal goes back along a connection, in the shape of its own.
        mirrored: weights that are given the same gradient as those of their connection, by its name.
    """
    network = run.network
    for p in run(batch):
        if p.weight:
            _step_back(p, backward, mirrored)
        else:
            for name in network.incoming:
                p.rest(name)
    return run.result()


def _step_back(p: Pass, backward: Callable[[Connection], Tensor], mirrored: Mapping[str, nn.Parameter]) -> None:
    signals = {p.run.network.readout: p.score() * p.weight}
    for name in reversed(p.run.network.incoming):
        _population_back(p, name, signals, backward, mirrored)


def _population_back(
    p: Pass,
    name: str,
    signals: dict[str, Tensor],
    backward: Callable[[Connection], Tensor],
    mirrored: Mapping[str, nn.Parameter],
) -> None:
    """One population learns and sends its signal on, into `signals`, which no longer have its own; what else it needed
    is let go before the next."""
    network = p.run.network
    judged = name in network.heads  # by itself, and who it reads hears nothing of it
    gated = p.gate(name, p.score(name) * p.weight if judged else signals.pop(name))
    for connection in network.incoming[name]:
        change = p.deposit(connection, gated)
        present = network.present(connection)
        if change is not None and connection.name in mirrored:
            theirs = change.weight.clone() if present is None else change.weight * present
            add_gradient(Synapses(mirrored[connection.name], None), Synapses(theirs, None))
        if connection.pre != INPUT and not judged:
            weight = backward(connection)
            signal = p.back(connection, gated, weight if present is None else weight * present)
            before = signals.get(connection.pre)
            signals[connection.pre] = signal if before is None else before + signal


def draw_feedback(network: Network, how: Initialiser, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of the way back, by connection, each as if it were that of its connection; none along which nothing goes
    back."""
    found = {}
    for name, connection in network.connections.items():
        if connection.pre != INPUT and connection.post not in network.heads:
            weight = network.weights[name]
            post = network.populations[connection.post].size
            start = replace(connection.geometry, weight=how).start(tuple(weight.shape), post, generator)  # type: ignore[type-var]
            found[name] = torch.empty_like(weight, requires_grad=False).copy_(start.weight)
    return found
