"""Oja's rule: Hebbian learning that keeps the weights of a unit finite by itself."""

from typing import ClassVar

import torch

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local
from neurosbd.plasticity.plasticity import no_eligibility
from neurosbd.plasticity.rates import Rates, averaged
from neurosbd.schema.constants import NotNegative, Seconds, constants


@constants(called="oja")
class Oja:
    """The post unit finds the first principal component of what arrives, with weights of norm 1.

        added to w at every step:   eta (y x - y^2 w),    mean over the batch

    x and y are what arrives and what the post unit sends; of spikes, averages over `tau`.

    Args:
        eta: size of a change per step, >= 0.
        tau: of the averages, s, > 0; None: the activity itself.
    Raises:
        ValueError: if a constant is out of range.
    Source: Oja 1982, J. Math. Biol. 15:267, equation 3.
    """

    eta: NotNegative = 1e-2
    tau: Seconds | None = None

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    rate_regulated: ClassVar[bool] = False
    per_synapse: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ()
    eligibility = no_eligibility

    def init(self, local: Local) -> Rates | None:
        """Nothing has been averaged."""
        return None

    def step(self, state: Rates | None, local: Local, dt: float) -> tuple[Synapses, Rates]:
        """eta (y^2 w - y x)."""
        rates = averaged(state, local, self.tau, dt)
        square = local.outer(rates.post.square(), torch.ones_like(rates.pre)).weight
        hebbian = local.outer(rates.post, rates.pre).weight
        change = square.mul_(local.synapses.weight).sub_(hebbian).mul_(self.eta / len(rates.pre))
        return Synapses(change, None), rates
