"""Plasticity of three-compartment neurons: predict the rate, decorrelate it from the error, know its correlations."""

from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses, joins_pairs
from neurosbd.eligibility.local import Local, Site
from neurosbd.neurons.neuron import Compartmental
from neurosbd.schema.constants import NotNegative, Range, constants
from neurosbd.surrogates import check_gain


class Correlated(NamedTuple):
    """State of a lateral connection after the last scored step."""

    pre: Tensor  # rates that arrived, [B, units]
    change: Tensor | None  # sum_b Phi[b] pre[b]^T, [post, units]; None while nobody asks for it


@constants(called="corinfomax")
class Correlative:
    """What a synapse does depends on the compartment it sits on; all of it is known there.

        Phi[b] = gain[b] third_factor[b];    v = potential of the compartment;    r = rate
        soma     d weight = Phi pre^T
        basal    d weight = Phi pre^T          - forward  mean_b (r - v) pre^T
        apical   d weight = apical Phi pre^T   - backward mean_b (r - v) pre^T
        lateral  B <- inverse(lam B^-1 + (1 - lam) mean_b pre pre^T) - lateral Phi pre^T

    Phi carries the 1/B of the score. The first three are gradients. B is no parameter that descends anything: it is a
    running statistic, so it follows the activity after the optimizer's step and no optimizer touches it.

    Args:
        forward: weight of the prediction by the layer below, >= 0.
        backward: weight of the prediction by the layer above, >= 0.
        apical: weight of the third factor at apical synapses, >= 0.
        lateral: weight of the third factor at lateral synapses, per batch, >= 0; breaks the symmetry of B.
        memory: lam of the correlations in B, per batch, 0..1.
    Raises:
        ValueError: if a constant is out of range.
    Source: Erdogan, Pehlevan, Erdogan 2025, NeurIPS, arXiv 2504.11558, algorithms 1 and 3; Bozkurt, Pehlevan, Erdogan
        2023, NeurIPS, arXiv 2306.04810 (prediction and lateral synapses).
    Differs: Phi has the neuron's gain, dt / (tau_mem epsilon) where the papers have 1. B is the exact inverse
        (Woodbury), so it stays positive definite without the third factor; the papers' B / lam - gamma mean_b z z^T,
        z = B pre, is its first order in 1 - lam.
    """

    forward: NotNegative = 0.0
    backward: NotNegative = 0.0
    apical: NotNegative = 1.0
    lateral: NotNegative = 0.0
    memory: Annotated[float, Range(above=0, most=1)] = 0.9999

    modulated: ClassVar[bool] = True
    states_changes: ClassVar[bool] = False
    waits: ClassVar[bool] = True
    rate_regulated: ClassVar[bool] = False
    eligibilities: ClassVar[tuple[str, ...]] = ("settled",)

    def check(self, site: Site) -> None:
        """Raise ValueError if a dendrite is to predict and the neuron has none, or lateral synapses are not within a
        layer."""
        weight, place = site.synapses.weight, site.compartment
        if place != "soma" and not isinstance(site.neuron, Compartmental):
            raise ValueError(
                f"corinfomax learns at '{place}' synapses from the potential of that compartment, which this neuron "
                f"does not have; use neuron 'corinfomax', or compartment = 'soma'"
            )
        check_gain(site.neuron)
        if place != "lateral":
            return
        square = joins_pairs(weight, site.size) and weight.shape[0] == weight.shape[1]
        if not square or site.synapses.bias is not None:
            raise ValueError(
                f"lateral synapses hold the inverse correlation of a layer, so they need a dense connection without a "
                f"bias from the layer onto itself; this one has weights {list(weight.shape)}"
            )

    def init(self, local: Local) -> Correlated | tuple[()]:
        """Nothing has been seen."""
        return Correlated(local.pre[:0], None) if local.compartment == "lateral" else ()

    def step(
        self, state: Correlated | tuple[()], local: Local, dt: float
    ) -> tuple[Synapses | None, Correlated | tuple[()]]:
        """Gradient at this step; of lateral synapses none, but what they will follow."""
        if local.third_factor is None:
            return None, state
        if local.compartment == "lateral":
            change = local.eligible.contract(local.third_factor).weight if self.lateral else None
            return None, Correlated(local.pre, change)
        change = local.eligible.contract(local.third_factor)
        if local.compartment == "soma":
            return change, state
        own, predicted = (self.apical, self.backward) if local.compartment == "apical" else (1.0, self.forward)
        if own != 1:
            change = Synapses(*(None if part is None else part.mul_(own) for part in change))  # type: ignore[arg-type]
        if predicted:
            error = local.post.value - local.post.cache[local.compartment]
            toward = local.outer(error, local.pre)
            for part, pull in zip(change, toward, strict=True):
                if part is not None and pull is not None:
                    part.sub_(pull, alpha=predicted / len(error))
        return change, state

    def track(self, state: Correlated | tuple[()], weight: Tensor) -> Tensor:
        """B after the trial: Woodbury, the same as one Sherman-Morrison step for each example in turn."""
        if not isinstance(state, Correlated) or not len(state.pre):
            return weight
        if self.memory < 1:
            weight = update_inverse(weight, state.pre, self.memory)
        return weight if state.change is None else torch.sub(weight, state.change, alpha=self.lateral)

    def eligibility(self, state: Correlated | tuple[()], local: Local, examples: Tensor) -> Tensor:
        """gain x pre of this step, [E, *weight]."""
        return local.eligible.of(examples, local)


def update_inverse(inverse: Tensor, pre: Tensor, memory: float) -> Tensor:
    """inverse(lam R + (1 - lam) mean_b pre pre^T) from inverse(R) = B, in O(units^2 B + B^3), [units, units].

        B <- (B - Z (B_examples lam / (1 - lam) I + H^T Z)^-1 Y^T) / lam,    H = pre^T, Z = B H, Y = B^T H

    Args:
        inverse: B; a third factor at its synapses may have made it unsymmetric.
        pre: activity, [B, units].
        memory: lam, 0 < lam < 1.
    """
    z = pre @ inverse.t()
    among = torch.mm(pre, z.t())
    among.diagonal().add_(len(pre) * memory / (1 - memory))
    left = pre @ inverse
    solved, _ = torch.linalg.solve_ex(among, left)  # without a look at whether it worked, which would stall a GPU
    return torch.addmm(inverse, z.t(), solved, alpha=-1).div_(memory)
