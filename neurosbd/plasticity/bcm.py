"""The rule of Bienenstock, Cooper and Munro: Hebbian learning with a threshold that slides."""

from typing import ClassVar, NamedTuple

from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local
from neurosbd.filters import decay
from neurosbd.plasticity.plasticity import no_eligibility
from neurosbd.plasticity.rates import Rates, averaged
from neurosbd.schema.constants import NotNegative, Seconds, constants


class Sliding(NamedTuple):
    """Averages, and the threshold between depression and potentiation."""

    rates: Rates | None
    threshold: Tensor | None  # mean of y^2 over the batch and the time constant, [*size]; None before the first step


@constants(called="bcm")
class BCM:
    """A post unit that is more active than its threshold strengthens what arrives, one that is less so weakens it.

        added to w at every step:   eta x y (y - threshold),    mean over the batch
        threshold <- threshold + (1 - exp(-dt / tau_threshold)) (mean over the batch of y^2 - threshold)

    x and y are what arrives and what the post unit sends; of spikes, averages over `tau`. The threshold starts at the
    y^2 of the first step, and is part of a run: one that goes on over several batches keeps it.

    Args:
        eta: size of a change per step, >= 0.
        tau_threshold: s, > 0.
        tau: of the averages, s, > 0; None: the activity itself.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bienenstock, Cooper, Munro 1982, J. Neurosci. 2:32; Intrator, Cooper 1992, Neural Netw. 5:3 (y^2).
    """

    eta: NotNegative = 1e-2
    tau_threshold: Seconds = 1.0
    tau: Seconds | None = None

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    rate_regulated: ClassVar[bool] = False
    per_synapse: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ()
    eligibility = no_eligibility

    def init(self, local: Local) -> Sliding:
        """Nothing has been averaged."""
        return Sliding(None, None)

    def step(self, state: Sliding, local: Local, dt: float) -> tuple[Synapses, Sliding]:
        """eta x y (threshold - y), then the threshold slides."""
        rates = averaged(state.rates, local, self.tau, dt)
        y, square = rates.post, rates.post.square().mean(0)
        threshold = square if state.threshold is None else state.threshold
        change = local.outer(y * (threshold - y), rates.pre).weight.mul_(self.eta / len(y))
        return Synapses(change, None), Sliding(rates, threshold.lerp(square, 1 - decay(self.tau_threshold, dt)))
