"""Mono-Forward: every population descends the loss of a head of its own."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from neurosbd.errors import nearest
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Pass, Run
from neurosbd.learning.rule import Rule, RuleSignals, TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import INPUT, Network
from neurosbd.neuromodulators import Full, Layout
from neurosbd.schema.constants import NotNegative, constants


@constants
class MonoForward(Rule[TensorState]):
    """Mono-Forward: every population descends the loss of a head of its own, and nothing comes back from above.

        q[b] = d l(M s(h[b]), y[b]) / d (M s(h[b]));    d M = q^T s(h);    d weight = (gain s^T(q M))^T pre

    with s what a layout reads of the activity and s^T its adjoint. Of a population that sends to the readout alone, the
    last hidden one, the readout is the head: it learns by the score of the readout, back through that connection.
    Heads are weights like others, which the optimizer moves at the rate of their population. Populations are run and
    learn one after another, and what no other needs is let go at once: a layer at a time is held, not the network.

    Args:
        layout: what a head reads, see LAYOUTS: 'full' every unit, 'shared' the means of channels (pooled), 'grid' of
            patches.
        heads: populations that learn by their head; the others keep their weights. (): all.
        order: 'simultaneous', or 'sequential': one population after another, from the input up, each for an equal share
            of the training, the last with the readout; those above are not run meanwhile.
        answers: what the answer is read off, the 'readout' or the sum over it and all 'heads'.
        scale: standard deviation of M at the start, times the root of the number of values it reads, >= 0. At 0 heads
            learn first.
    Source: Gong, Li, Abdulla 2025, arXiv 2501.09238; one after another: arXiv 2511.01061.
    Differs: one after another, a layer learns for a share of the training, there until it has converged.
    """

    sums_over_examples: ClassVar[bool] = True
    one_step: ClassVar[str] = (
        "a head of mono_forward judges one step (those of 'sbp' with rule.neuromodulator.own = 1 follow time)"
    )

    layout: Layout = Full()
    heads: tuple[str, ...] = ()
    order: Literal["simultaneous", "sequential"] = "simultaneous"
    answers: Literal["readout", "heads"] = "readout"
    scale: NotNegative = 1.0

    @property
    def hears_target(self) -> bool:
        """By its heads."""
        return True

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """Draw the heads; the readout is there."""
        state, some = TensorState(), next(network.parameters())
        (classes,) = network.populations[network.readout].size
        for name in self._headed(network):
            if _is_last(network, name):
                continue
            value = some.new_zeros((1, *network.populations[name].size))
            basis = self.layout.init(value, generator)
            width = self.layout.summary(value, basis).shape[1]
            drawn = torch.randn(classes, width, generator=generator) * (self.scale / width**0.5)
            state.parameters[name], state.tensors[name] = nn.Parameter(drawn.to(some)), basis
        return state

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """One showing from the input up."""
        network, turn = run.network, self._turn(run)
        total: Tensor | float = 0.0
        last: dict[str, list[Tensor]] = {}  # what arrived at those that the readout judges, which comes after them
        for name, p in run.upward(batch, turn[-1]):
            if name not in turn:
                p.rest(name)
                continue
            arrived = [p.arriving(connection) for connection in network.incoming[name]]
            if name != network.readout and name not in state.parameters:
                last[name] = arrived
                continue
            output, signal = self._descend(state, p, name)
            total = total + output * p.weight if name == turn[-1] else total
            signal = p.gate(name, signal)
            _deposit(p, name, signal, arrived)
            for pre in list(last) if name == network.readout else []:
                _deposit(p, pre, p.gate(pre, _back(p, pre, signal)), last.pop(pre))
            del output, signal, arrived, p  # the next population is to find nothing but its input
        assert isinstance(total, Tensor)
        return run.judged(total / sum(batch.weights))

    def answer(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """The readout, or all heads."""
        if self.answers == "readout":
            return super().answer(state, run, batch)
        total = torch.zeros(())
        for p in run(batch):
            parts = [self._read(state, p, name) @ head.t() for name, head in state.parameters.items()]
            output = p.value(run.network.readout)
            total = total.to(output) + p.weight * sum(parts, start=output)
        return run.judged(total / sum(batch.weights))

    def _descend(self, state: TensorState, p: Pass, name: str) -> tuple[Tensor, Tensor]:
        """What the head of a population says, [B, C], and the slope of its loss at the activity; the head learns."""
        if name == p.run.network.readout:
            return p.value(name), p.score() * p.weight
        head = state.parameters[name]
        value, basis = p.value(name), state.tensors[name]
        summary = self.layout.summary(value, basis)
        output = summary @ head.t()
        score = p.score_of(output) * p.weight
        slope = score.t() @ summary
        head.grad = slope if head.grad is None else head.grad + slope
        return output, self.layout.adjoint(score @ head, value, basis)

    def _read(self, state: TensorState, p: Pass, name: str) -> Tensor:
        """What the head of a population reads, [B, M]."""
        return self.layout.summary(p.value(name), state.tensors[name])

    def _headed(self, network: Network) -> list[str]:
        """Populations with a head, from the input up."""
        hidden = [name for name in network.incoming if name != network.readout]
        for name in self.heads:
            if name not in hidden:
                why = "shows the data" if name == INPUT else "is its own head" if name == network.readout else ""
                what = f"'{name}' {why}, so it can have none" if why else f"there is no population '{name}'"
                raise ValueError(f"heads: {what}{nearest(name, hidden)}")
        return [name for name in hidden if name in (self.heads or hidden)]

    def _turn(self, run: Run) -> list[str]:
        """Who learns now."""
        network, headed = run.network, self._headed(run.network)
        if self.order == "simultaneous":
            return [*headed, network.readout]
        last = [name for name in headed if _is_last(network, name)]
        turns = [[name] for name in headed if name not in last]
        turns += [last] if last or not turns else []
        turns[-1].append(network.readout)
        return turns[min(int(run.progress.number * len(turns)), len(turns) - 1)]

    def populations(self, network: Network) -> tuple[str, ...]:
        """Those with a head."""
        headed = self._headed(network)
        return tuple(name for name in super().populations(network) if name in headed or name == network.readout)

    def signals(self, network: Network) -> RuleSignals:
        """Third factors of all."""
        return RuleSignals(tuple(network.incoming))

    def projections(self, state: TensorState) -> Mapping[str, Tensor]:
        """The heads."""
        return {name: head.detach() for name, head in state.parameters.items()}

    def schedules(self) -> str | None:
        """Who learns."""
        return "the turns of the populations" if self.order == "sequential" else None


def _is_last(network: Network, name: str) -> bool:
    """Whether a population sends to the readout alone, so that the readout is its head."""
    return {c.post for connections in network.incoming.values() for c in connections if c.pre == name} == {
        network.readout
    }


def _back(p: Pass, pre: str, gated: Tensor) -> Tensor:
    """The score at the drive of the readout as it reaches a population, [B, *size]."""
    network = p.run.network
    parts = [p.back(connection, gated) for connection in network.incoming[network.readout] if connection.pre == pre]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def _deposit(p: Pass, name: str, signal: Tensor, arrived: list[Tensor]) -> None:
    """The synapses of a population learn from the signal at its drive, [B, *size], and from what has arrived."""
    for connection, pre in zip(p.run.network.incoming[name], arrived, strict=True):
        p.deposit(connection, signal, pre)
