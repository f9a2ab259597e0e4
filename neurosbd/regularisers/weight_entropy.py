"""Weight entropy: the post units of a connection shall weigh their inputs in as many ways as they can."""

from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses, has_kernels, rolled, unrolled
from neurosbd.schema.constants import Count, NotNegative, Range, constants

Which = Literal["all", "kernels"]


class HeldPull(NamedTuple):
    """State of a weight entropy."""

    pull: Tensor  # as it was last taken, like the weight
    age: Tensor  # batches since then, []; on the host, so that asking for it makes no device wait


@constants
class WeightEntropy:
    """cost = -weight/2 logdet(W W^T + epsilon I), with W the weight unrolled to [post, what one unit hears].

        pull = -weight (W W^T + epsilon I)^-1 W = -weight W (W^T W + epsilon I)^-1

    Of the two the smaller system is solved. The weight of a convolution is [out, in x kernel x kernel]; that of a
    locally connected layer is that at every position, and the cost is their sum. Weights move slowly, so a pull is
    held for `refresh` batches: at refresh = 1 it is the derivative of the cost at every batch. Kernels cost little; a
    dense weight costs a pass over memory at every batch and a solve as dear as many batches at every renewal, so that
    `on` = 'all' wants a longer `refresh`.

    Args:
        weight: of the cost, >= 0.
        epsilon: added to the diagonal, > 0.
        refresh: batches for which a pull is held, >= 1.
        on: connections with 'kernels' (convolutions, locally connected layers), as in the paper, or 'all'.
    Raises:
        ValueError: if a constant is out of range.
    Source: Erdogan, Pehlevan, Erdogan 2025 (EBD), arXiv 2504.11558: the entropy of the weights stands for that of the
        layer in convolutions and locally connected layers.
    Differs: a pull as old as `refresh` batches; dense connections, if they are wanted.
    """

    weight: NotNegative = 1e-4
    epsilon: Annotated[float, Range(above=0, hint="a weight of fewer directions has no logdet")] = 1e-2
    refresh: Count = 10
    on: Which = "kernels"

    def init(self, synapses: Synapses) -> HeldPull | tuple[()]:
        """A pull of 0, due at once; nothing where nothing is to be kept up."""
        if self.on == "kernels" and not has_kernels(synapses.weight):
            return ()
        unrolled(synapses.weight)
        return HeldPull(torch.zeros_like(synapses.weight), torch.tensor(float(self.refresh), dtype=torch.float64))

    def step(
        self, state: HeldPull | tuple[()], synapses: Synapses, present: Tensor | None
    ) -> tuple[Synapses | None, HeldPull | tuple[()]]:
        """-weight (W W^T + epsilon I)^-1 W, like the synapses."""
        if not isinstance(state, HeldPull):
            return None, state
        pull, age = state.pull, state.age
        if age >= self.refresh:
            pull, age = self._taken(synapses.weight, pull), torch.zeros_like(age)
            pull = pull if present is None else pull.mul_(present)
        return Synapses(pull, None), HeldPull(pull, age + 1)

    def _taken(self, weight: Tensor, before: Tensor) -> Tensor:
        """The pull of this weight, laid out like it; the one before if the weight is not finite."""
        heard = unrolled(weight)
        wide = heard.shape[-2] > heard.shape[-1]
        rows = heard.mT if wide else heard
        gram = rows @ rows.mT
        gram.diagonal(dim1=-2, dim2=-1).add_(self.epsilon)
        factor, failed = torch.linalg.cholesky_ex(gram)
        solved = torch.cholesky_solve(rows, factor).mul_(-self.weight)
        pull = rolled(solved.mT if wide else solved, weight)
        return torch.where((failed == 0).all(), pull, before)
