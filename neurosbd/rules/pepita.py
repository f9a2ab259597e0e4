"""PEPITA: what the error, sent to the input, changes in a second showing."""

import math
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neurosbd.connections.synapses import has_kernels
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Pass, Run
from neurosbd.learning.rule import Rule, TensorState
from neurosbd.losses import CrossEntropy, Loss, SquaredError
from neurosbd.losses.targets import as_vector
from neurosbd.network.network import INPUT, Network
from neurosbd.rules.mirrors import Mirrors
from neurosbd.schema.constants import Count, NotNegative, Whole, constants


@constants
class Pepita(Rule[TensorState]):
    """PEPITA: two showings, the second with the error of the first added to the input through a fixed random F.

        x~ = x - score F;    h the activity of the first showing, h~ that of the second
        d weight[l] = (h[l] - h~[l]) h~[l-1]^T                     form = 'difference'
        d weight[l] = h[l] h[l-1]^T - h~[l] h~[l-1]^T              form = 'hebbian'
        d weight[L] = score h~[L-1]^T                              the readout; 'hebbian': z h[L-1]^T - y h~[L-1]^T

    No weight is carried backwards and no gain is needed: to first order h - h~ = gain W F score, a broadcast of the
    score whose projection the weights themselves make. 'time_local' applies the first half of 'hebbian' before the
    second showing, so that nothing of the first has to be remembered.

    Args:
        form: which product synapses make.
        error: of which showing the readout learns, of form 'difference'.
        scale: F is drawn from U(-a, a), a = scale sqrt(6 / inputs), >= 0.
        sent: the 'score' itself, or its 'sign', which the published code scales by a further 0.1.
        kernels: 'descended' as all weights are; 'published': as the published code does convolutions, which it ascends
            by the mean over positions and once more over the batch, so that they hardly move.
        ahead: how far the first half of 'time_local' has moved the weights by the second showing: the lr of plain SGD.
        mirror: rate at which mirrors of the weights learn, of which F is the product, >= 0; 0: F stays.
        mirror_decay: of the mirrors, >= 0.
        mirror_before: so many epochs at the start nothing but the mirrors learns.
        mirror_every: then they learn in every epoch whose number is a multiple of this.
    Source: Dellaferrera, Kreiman 2022, ICML, arXiv 2201.11665, and their code; minus the error, mirrors and the Hebbian
        forms: Srinivasan et al. 2024, ICLR, arXiv 2302.05440.
    Differs: biases learn as synapses from a unit of value 1 do; the sources have none.
    """

    showings: ClassVar[int] = 2
    one_step: ClassVar[str] = "pepita compares two showings step by step"
    spares_silent: ClassVar[bool] = False  # the error wakes silent inputs

    form: Literal["difference", "hebbian", "time_local"] = "difference"
    error: Literal["first", "second"] = "second"
    scale: NotNegative = 0.05
    sent: Literal["score", "sign"] = "score"
    kernels: Literal["descended", "published"] = "descended"
    ahead: NotNegative = 0.01
    mirror: NotNegative = 0.0
    mirror_decay: NotNegative = 0.5
    mirror_before: Whole = 2
    mirror_every: Count = 100

    def check(self, network: Network, loss: Loss | None) -> None:
        """A score from which the Hebbian forms can tell prediction and target."""
        if self.form != "difference" and not isinstance(loss, CrossEntropy | SquaredError):
            raise ValueError(
                f"form '{self.form}' needs a score that is a prediction less its target: loss 'cross_entropy' or "
                f"'squared_error', got {type(loss).__name__}; set rule.form = 'difference'"
            )

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """Draw F, or the mirrors that make it."""
        pre, post = (network.populations[name].size for name in (INPUT, network.readout))
        bound = self.scale * math.sqrt(6 / math.prod(pre))
        if self.mirror:
            mirrors = Mirrors.draw(network, bound / math.sqrt(3), generator)
            return TensorState({**mirrors.tensors(), "epoch": torch.zeros((), dtype=torch.int64)})
        drawn = (2 * torch.rand(*post, *pre, generator=generator) - 1) * bound
        return TensorState({"feedback": drawn.to(next(network.parameters()))})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """Both showings, and what they differ by."""
        network, firsts = run.network, list(run(batch))
        feedback = self._feedback(state, network, len(firsts[0].value(INPUT)))
        if feedback is None:
            return run.result()
        inputs = torch.stack([self._second_input(first, feedback) for first in firsts])
        start = [parameter.clone() for parameter in network.parameters()] if self.form == "time_local" else []
        if self.form != "difference":
            for first in firsts:
                self._add_product(first, 1.0, self.ahead if start else 0.0)
        for first, second in zip(firsts, run(replace(batch, inputs=inputs)), strict=True):
            if self.form == "difference":
                self._add_difference(first, second)
            else:
                self._add_product(second, -1.0)
        for parameter, before in zip(network.parameters() if start else (), start, strict=True):
            parameter.copy_(before)
        return run.result()

    def _feedback(self, state: TensorState, network: Network, examples: int) -> Tensor | None:
        """F transposed, [C, *input size], once the mirrors have learned; None while nothing else is to learn."""
        if not self.mirror:
            return state.tensors["feedback"]
        mirrors, epoch = Mirrors.of(state.tensors), int(state.tensors["epoch"])
        before = epoch < self.mirror_before
        if before or (epoch + 1) % self.mirror_every == 0:
            mirrors.learn(network, examples, self.mirror, self.mirror_decay)
            mirrors.keep_size()
        return None if before else mirrors.feedback(network.populations[INPUT].size)

    def _second_input(self, first: Pass, feedback: Tensor) -> Tensor:
        """The input of the second showing, [B, *input size]."""
        error = first.score() * first.examples
        error = error.sign() * 0.1 if self.sent == "sign" else error
        return first.value(INPUT) - torch.tensordot(error, feedback, 1)

    def _add_difference(self, first: Pass, second: Pass) -> None:
        """The update of form 'difference'."""
        network = first.run.network
        for name, connections in network.incoming.items():
            if name == network.readout:
                judged = first if self.error == "first" else second
                change = judged.gate(name, judged.score() * first.weight)
            else:
                change = (first.value(name) - second.value(name)) * (first.weight / first.examples)
            for connection in connections:
                second.deposit(connection, change * self._kernel_factor(second, connection.name, change))

    def _add_product(self, shown: Pass, sign: float, ahead: float = 0.0) -> None:
        """One of the two products of the Hebbian forms, with its sign; the weights go `ahead` times it down at once."""
        network = shown.run.network
        for name, connections in network.incoming.items():
            value = shown.value(name)
            if name == network.readout:
                target = as_vector(shown.target, value)
                value = shown.score() * shown.examples + target if sign > 0 else target
            value = value * (sign * shown.weight / shown.examples)
            for connection in connections:
                slope = shown.deposit(connection, value * self._kernel_factor(shown, connection.name, value))
                if ahead and slope is not None:
                    synapses, present = network.synapses(connection), network.present(connection)
                    synapses.weight.sub_(slope.weight if present is None else slope.weight * present, alpha=ahead)
                    if synapses.bias is not None and slope.bias is not None:
                        synapses.bias.sub_(slope.bias, alpha=ahead)

    def _kernel_factor(self, shown: Pass, name: str, change: Tensor) -> float:
        """By what a change is multiplied: 1, but for kernels as they are published."""
        published = self.kernels == "published" and has_kernels(shown.run.network.weights[name])
        return -1 / (math.prod(change.shape[2:]) * shown.examples) if published else 1.0

    def why_alone(self) -> str | None:
        """Both showings are sums over examples; mirrors have noise of their own, and a step of weights between them."""
        if self.mirror or self.form == "time_local":
            part = "a mirror" if self.mirror else "form time_local"
            return f"pepita with {part} moves weights by the examples at hand"
        return None

    def after_epoch(self, state: TensorState, network: Network, epochs: int) -> None:
        """Mirrors go by the number of the epoch."""
        if self.mirror:
            state.tensors["epoch"].fill_(epochs)
