"""What is read off a run as it goes: its loss, its answer, and what adaptive neurons measure."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.learning.batch import UNSCORED, Batch, BatchResult
from neurosbd.losses import Loss
from neurosbd.network.network import Frame, Network
from neurosbd.neurons.neuron import Activity
from neurosbd.neurons.scan import apart


class AnswerMeter:
    """Observer that reads the answer of a network off its readout, or off a head, as the network says."""

    def __init__(self, weights: Sequence[float], network: Network, population: str | None = None) -> None:
        self.weights = weights
        self.network = network
        self.population = population or network.readout
        self.state: object = None

    def __call__(self, t: int, frame: Frame) -> None:
        """Count a step if its weight is not 0."""
        self.add(t, frame.activity[self.population].value)

    def add(self, t: int, output: Tensor) -> None:
        """The same of its output [B, C]."""
        if self.weights[t]:
            output, answer = output.detach(), self.network.answer
            state = answer.init(output) if self.state is None else self.state
            self.state = answer.step(state, output, t, self.weights[t])

    def value(self) -> Tensor:
        """The answer so far, [B, C]."""
        if self.state is None:
            raise UsageError(UNSCORED)
        return self.network.answer.value(self.state)


class LossMeter:
    """Observer that adds up the loss of a trial and reads its answer; without a loss or a target, the answer alone.

    Of the readout, or of a head.
    """

    def __init__(self, batch: Batch, loss: Loss | None, network: Network, population: str | None = None) -> None:
        self.batch = batch
        self.loss = loss
        self.population = population or network.readout
        self.total: Tensor | None = None
        self.answer = AnswerMeter(batch.weights, network, self.population)

    def __call__(self, t: int, frame: Frame) -> None:
        """Count a step if its weight is not 0."""
        self.add(t, frame.activity[self.population].value, 1)

    def add(self, t: int, output: Tensor, steps: int) -> None:
        """Count some steps from t on, all of one weight; output is [K B, C]."""
        weight = self.batch.weights[t]
        if not weight:
            return
        if self.loss is not None and self.batch.taught:
            losses = self.loss.per_example(output, self.batch.targets(t, steps))
            mean = self._mean(losses, steps)
            loss = mean * (weight * steps)
            self.total = loss if self.total is None else self.total + loss
        for k, each in enumerate(apart(output, steps)):
            self.answer.add(t + k, each)

    def _mean(self, losses: Tensor, steps: int) -> Tensor:
        """Over the whole batch, []; of several networks each over its own, [networks]."""
        if self.batch.networks > 1:
            return losses.unflatten(0, (-1, self.batch.networks)).mean(0)
        return losses.sum() / (self.batch.batch_size * steps) if self.batch.batch_size else losses.mean()

    def result(self) -> BatchResult:
        """The weighted mean of the loss, NaN where there is none, and the answer."""
        output = self.answer.value()
        if self.total is None:
            return BatchResult(output.new_full((), torch.nan), output)
        return BatchResult(self.total.detach() / sum(self.batch.weights), output)


class Adaptation:
    """Observer that follows what the adaptive neurons of a network measure in a trial of `steps`; at rest, nothing."""

    def __init__(self, network: Network, steps: int) -> None:
        self.network = network
        self.share = 1 / steps
        self.moments = {name: network.moments(name) for name in network.adaptive if network.training}

    def __call__(self, t: int, frame: Frame) -> None:
        """Bring the moments up to date, aside from the network."""
        for name in self.moments:
            self.follow(name, frame.activity[name])

    def follow(self, name: str, activity: Activity) -> None:
        """Bring those of one population up to date."""
        neuron = self.network.adaptive[name]
        self.moments[name] = neuron.update(self.moments[name], neuron.statistics(activity), self.share)
