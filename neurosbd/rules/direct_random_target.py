"""Direct random target projection: the target itself goes to every population, through random weights."""

from dataclasses import field
from typing import ClassVar

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Pass, Run
from neurosbd.learning.rule import Rule, RuleSignals, TensorState
from neurosbd.losses import Loss
from neurosbd.losses.targets import as_vector
from neurosbd.network.network import Network
from neurosbd.neuromodulators import Full, Layout
from neurosbd.neuromodulators.projection import draw_projection
from neurosbd.schema.constants import NotNegative, constants


@constants(called="drtp")
class DirectRandomTarget(Rule[TensorState]):
    """Direct random target projection: the target, not the score, is sent to every population through random weights.

        third_factor[b] = y[b] B / batch;    d weight[i, j] = sum_b third_factor[b, i] gain[b, i] pre[b, j]

    with y one-hot for classes. Nothing of the output is needed, so that populations learn one after another while the
    batch goes up, and what no other needs is let go at once. The readout descends the loss. A hidden population goes on
    where the score is 0: only its gain stops it.

    Args:
        layout: which units share a column of B, see LAYOUTS.
        scale: standard deviation of the entries of B, >= 0.
    Source: Frenkel, Lefebvre, Bol 2021, Front. Neurosci. 15:629892.
    Differs: B is Gaussian and of one size for all populations, there uniform in +-sqrt(6 / units).
    """

    sums_over_examples: ClassVar[bool] = True
    one_step: ClassVar[str] = "drtp sends the target of one step"

    layout: Layout = field(default_factory=Full)
    scale: NotNegative = 0.02

    @property
    def hears_target(self) -> bool:
        """And nothing else."""
        return True

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """B [C, M] of every hidden population, and the basis of its layout."""
        state, some = TensorState(), next(network.parameters())
        (outputs,) = network.populations[network.readout].size
        count = outputs // getattr(loss, "parameters", 1)
        for name in self.signals(network).third_factors:
            value = some.new_zeros((1, *network.populations[name].size))
            b, basis = draw_projection(value, count, self.layout, self.scale, generator)
            state.tensors |= {name: b, f"{name}.basis": basis}
        return state

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """One showing, from the input up."""
        network = run.network
        answer: Tensor | float = 0.0
        for name, p in run.upward(batch, network.readout):
            if not p.weight:
                p.rest(name)
                continue
            signal = p.gate(name, self._third_factor(state, p, name) * p.weight)
            for connection in network.incoming[name]:
                p.deposit(connection, signal)
            answer = answer + p.value(name) * p.weight if name == network.readout else answer
            del signal, p  # the next population is to find nothing but its input
        assert isinstance(answer, Tensor)
        return run.judged(answer / sum(batch.weights))

    def _third_factor(self, state: TensorState, p: Pass, name: str) -> Tensor:
        """The target through B, each row with its 1 / B; of the readout the score, [B, *size]."""
        if name == p.run.network.readout:
            return p.score()
        b, value = state.tensors[name], p.value(name)
        target = as_vector(p.target, value.new_empty((len(value), len(b))))
        return self.layout.spread(target @ b / p.batch.examples(len(value)), value, state.tensors[f"{name}.basis"])

    def signals(self, network: Network) -> RuleSignals:
        """Third factors of all hidden populations."""
        return RuleSignals(tuple(name for name in network.incoming if name != network.readout))

    def projections(self, state: TensorState) -> dict[str, Tensor]:
        """B."""
        return {name: b for name, b in state.tensors.items() if f"{name}.basis" in state.tensors}
