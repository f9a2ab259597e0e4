"""Forward-Forward: every population learns to be active for right labels and silent for wrong ones."""

import math
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neurosbd.axes import per_example
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Pass, Run
from neurosbd.learning.rule import Rule, TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import INPUT, Network
from neurosbd.neurons import UnitPower
from neurosbd.schema.constants import Positive, constants


@constants
class ForwardForward(Rule[TensorState]):
    """Forward-Forward: two showings that differ in the label written into the input, right and wrong; no error travels.

        g[b] = mean_i y[b, i]^2                                   goodness of a population
        loss[b] = log(1 + exp(-sign (g[b] - threshold)))          sign = 1 with the right label, -1 with a wrong one
        d weight = -sign sigmoid(-sign (g - threshold)) 2 gain y / units pre^T

    The first C values of an input are its label: `high` for the class, `low` for the others. A third showing has a
    neutral label, low + (high - low) / C for all; from it the readout learns by the gradient of the loss, and it is
    what observers see. Populations should be `unit_power`, which send the direction of their y alone: else what one has
    found good is plain to the next one.

    Args:
        threshold: goodness between silent and active, > 0.
        high: of the class of the label, in the units that the network sees.
        low: of all others.
        negatives: how a wrong label is drawn: 'even', all alike; 'hard', by how far the readout believes in each when
            it is shown a neutral one, P(c) proportional to exp(output[c]).
        answers: the 'readout' of an input with a neutral label; or a 'scan': each label is tried, C showings, and its
            output is the sum of the goodness of all hidden populations but the first.
    Source: Hinton 2022, arXiv 2212.13345.
    Differs: negative labels are drawn evenly unless `negatives` is 'hard', as there.
    """

    sums_over_examples: ClassVar[bool] = True
    one_step: ClassVar[str] = "the goodness of forward_forward is that of one step"
    showings: ClassVar[int] = 3
    spares_silent: ClassVar[bool] = False  # labels are written over inputs
    labelled: ClassVar[bool] = True
    estimates: ClassVar[bool] = True  # over the wrong labels that it draws

    threshold: Positive = 2.0
    high: float = 1.0
    low: float = 0.0
    negatives: Literal["even", "hard"] = "even"
    answers: Literal["readout", "scan"] = "readout"

    @property
    def hears_target(self) -> bool:
        """It is written into the input."""
        return True

    def check(self, network: Network, loss: Loss | None) -> None:
        """An input that holds the label."""
        (classes,), shown = network.populations[network.readout].size, network.populations[INPUT].size
        if torch.Size(shown).numel() < classes:
            first = next(c.name for c in network.connections.values() if c.pre == INPUT)
            raise ValueError(
                f"connection '{first}': forward_forward writes the label over the first {classes} values of the input, "
                f"which has {list(shown)}; choose a larger input, or another rule: 'mono_forward', say"
            )

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """The key of the wrong labels."""
        return TensorState({"key": torch.randint(2**31, (), generator=generator)})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """A neutral label for the readout, then the right and a wrong one."""
        network, right = run.network, batch.target
        classes = network.populations[network.readout].size[0]
        for p in run(self._labelled(batch, self._neutral(classes, len(right)))):
            third_factor = p.gate(network.readout, p.score() * p.weight)
            for connection in network.incoming[network.readout]:
                p.deposit(connection, third_factor)
        wrong = self._wrong(state, batch, run.result().output)
        for sign, label in ((1.0, right), (-1.0, wrong)):
            for p in run(self._labelled(batch, self._written(label, classes))):
                self._tell_apart(p, sign)
        return run.result()

    def answer(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """The readout of a neutral label, or the goodness of each."""
        examples = len(next(iter(batch.inputs)))
        (classes,) = run.network.populations[run.network.readout].size
        if self.answers == "readout":
            run.show(self._labelled(batch, self._neutral(classes, examples)))
            return run.result()
        columns: list[Tensor] = []
        for label in range(classes):
            label_of_all = torch.full((examples,), label)
            parts = []
            for p in run(self._labelled(batch, self._written(label_of_all, classes))):
                hidden = self._hidden(run.network)
                judges = hidden[1:] or hidden
                parts += [p.weight * _goodness(_strength(p, name)) for name in judges]
            columns.append(torch.stack(parts).sum(0) / sum(batch.weights))
        return run.judged(torch.stack(columns, 1))

    def _wrong(self, state: TensorState, batch: Batch, output: Tensor) -> Tensor:
        """Other labels than the right ones, [B]; the draws go by the places of examples in a batch.

        Args:
            state: with the key of the draws.
            batch: with the right ones.
            output: what the readout says of neutral ones, [B, C].
        """
        right, classes = batch.target, output.shape[1]
        generator = torch.Generator().manual_seed(int(state.tensors["key"]))
        state.tensors["key"].copy_(torch.randint(2**31, (), generator=generator))
        whole, here = batch.examples(len(right)), slice(batch.first, batch.first + len(right))
        if self.negatives == "even":
            return (right + torch.randint(1, classes, (whole,), generator=generator).to(right)[here]) % classes
        # The largest of output - log(-log(uniform)) is a draw by exp(output).
        uniform = torch.rand((whole, classes), generator=generator)[here].to(output)
        return (output - (-uniform.log()).log()).scatter(1, right[:, None], -torch.inf).argmax(1)

    def _tell_apart(self, p: Pass, sign: float) -> None:
        """Every hidden population descends the loss of its goodness."""
        network = p.run.network
        for name in self._hidden(network):
            y = _strength(p, name)
            miss = torch.sigmoid(-sign * (_goodness(y) - self.threshold)) * (-sign * p.weight / p.examples)
            slope = (2 * y / math.prod(y.shape[1:])) * per_example(miss, y)
            neuron, activity = network.populations[name].neuron, p.frame.activity[name]
            strong = isinstance(neuron, UnitPower)
            gated = neuron.strength_gate(activity, slope, network.dt) if strong else p.gate(name, slope)
            for connection in network.incoming[name]:
                p.deposit(connection, gated)

    def _hidden(self, network: Network) -> list[str]:
        return [name for name in network.incoming if name != network.readout]

    def _neutral(self, classes: int, examples: int) -> Tensor:
        """The label that says nothing, [B, C]."""
        return torch.full((examples, classes), self.low + (self.high - self.low) / classes)

    def _written(self, label: Tensor, classes: int) -> Tensor:
        """A label as it is written into the input, [B, C]."""
        return self.low + (self.high - self.low) * torch.nn.functional.one_hot(label, classes)

    def _labelled(self, batch: Batch, label: Tensor) -> Batch:
        """The batch with a label over the first values of its inputs."""
        return replace(batch, inputs=[_overwritten(x, label) for x in batch.inputs])

    def notes(self, network: Network, loss: Loss, generator: torch.Generator) -> list[str]:
        """Who tells the next population how good it was."""
        fed = {c.pre for c in network.connections.values() if c.post != network.readout}
        plain = [n for n in self._hidden(network) if n in fed and not isinstance(_neuron(network, n), UnitPower)]
        if not plain:
            return []
        return [f"{', '.join(plain)} are not 'unit_power', so the next population hears how good they were"]


def _neuron(network: Network, name: str) -> object:
    return network.populations[name].neuron


def _strength(p: Pass, name: str) -> Tensor:
    """y of a population, [B, *size]: what it sends, before it is divided by its power."""
    unit_power = isinstance(_neuron(p.run.network, name), UnitPower)
    return p.frame.activity[name].cache.within.value if unit_power else p.value(name)


def _goodness(y: Tensor) -> Tensor:
    """Mean square, [B]."""
    return y.square().flatten(1).mean(1)


def _overwritten(x: Tensor, label: Tensor) -> Tensor:
    """An input [B, *size] whose first C values are others, [B, C]."""
    flat = x.flatten(1).clone()
    flat[:, : label.shape[1]] = label.to(flat)
    return flat.view(x.shape)
