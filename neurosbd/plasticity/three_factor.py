"""The three-factor product: eligibility x third factor."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local, Site
from neurosbd.surrogates import check_gain


@dataclass(frozen=True)
class ThreeFactor:
    """Gradient of a synapse = third factor x eligibility, at the very step the third factor arrives.

        d weight[i, j] = sum_b third_factor[b, i] e[b, i, j];    for a rate neuron e = gain[b, i] pre[b, j]

    With the true derivative as third factor this is the gradient of the loss; with a broadcast score it is
    DFA, EBD or SBD, depending on who makes the signal.

    Source: Fremaux, Gerstner 2016, Front. Neural Circuits 9:85; Erdogan et al. 2025 (EBD), equation 13.
    """

    modulated: ClassVar[bool] = True
    states_changes: ClassVar[bool] = False
    waits: ClassVar[bool] = True
    rate_regulated: ClassVar[bool] = True
    in_blocks: ClassVar[bool] = True
    per_synapse: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ("factorised", "exact", "settled")

    def check(self, site: Site) -> None:
        """Raise ValueError unless the neurons have a gain."""
        check_gain(site.neuron)

    def init(self, local: Local) -> tuple[()]:
        """Nothing of its own: the trace is the eligibility's."""
        return ()

    def step(self, state: tuple[()], local: Local, dt: float) -> tuple[Synapses | None, tuple[()]]:
        """sum_b third_factor e, like the synapses."""
        return (None if local.third_factor is None else local.eligible.contract(local.third_factor)), state

    def block(self, state: tuple[()], local: Local, dt: float) -> tuple[Synapses | None, tuple[()]]:
        """The same of several steps, whose eligibilities `contract` sums over."""
        return self.step(state, local, dt)

    def eligibility(self, state: tuple[()], local: Local, examples: Tensor) -> Tensor:
        """e of this step, [E, *weight]."""
        return local.eligible.of(examples, local)
