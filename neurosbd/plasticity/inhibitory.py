"""Plasticity of inhibitory synapses that balances excitation: symmetric in time, with a target rate."""

from typing import ClassVar

from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local
from neurosbd.filters import decay
from neurosbd.plasticity.pairing import PairTraces, no_spike, paired
from neurosbd.plasticity.plasticity import no_eligibility
from neurosbd.plasticity.spike_timing import check_bounds, within
from neurosbd.schema.constants import Hertz, NotNegative, Seconds, constants


@constants(called="symmetric_inhibitory")
class SymmetricInhibitory:
    """Near-coincident spikes strengthen an inhibitory synapse, every arrival by itself weakens it.

        what arrives:   |w| <- |w| + eta (y - alpha),   then x <- x + 1,      alpha = 2 rate tau
        a post spike:   |w| <- |w| + eta x,             then y <- y + 1
        in between:     x and y decay with tau

    |w| rises as long as the post unit spikes faster than `rate`. Weights of inhibitory currents are negative, w = -|w|,
    those of inhibitory conductances are not, w = |w|: they stay in w_min..w_max, on one side of 0. What arrives in a
    step comes before its spikes, as in `Window`.

    Args:
        eta: size of a change, in units of the weight, >= 0.
        rate: that the post unit is drawn to, Hz, > 0.
        tau: s, > 0.
        w_min: lower bound of the weights, < w_max.
        w_max: upper bound, <= 0; of conductances w_min is >= 0.
    Raises:
        ValueError: if a constant is out of range.
    Source: Vogels, Sprekeler, Zenke, Clopath, Gerstner 2011, Science 334:1569, equations of its supplement.
    Differs: NEST's vogels_sprekeler_synapse clips |w| after the trace was added and again after alpha was taken off, so
        that at its upper bound an arrival takes off eta alpha, whatever y is.
    """

    eta: NotNegative = 1e-2
    rate: Hertz = 5.0
    tau: Seconds = 20e-3
    w_min: float = -1.0
    w_max: float = 0.0

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    rate_regulated: ClassVar[bool] = False
    per_synapse: ClassVar[bool] = True
    by_events: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ()
    eligibility = no_eligibility

    def __post_init__(self) -> None:
        check_bounds("symmetric_inhibitory", self.w_min, self.w_max)
        if self.w_min < 0 < self.w_max:
            raise ValueError(
                f"symmetric_inhibitory keeps weights on one side of 0: set w_max to 0 or below for currents, which "
                f"inhibit with negative weights, or w_min to 0 or above for conductances, got {self.w_min:g}.."
                f"{self.w_max:g}"
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and largest weight."""
        return self.w_min, self.w_max

    def init(self, local: Local) -> PairTraces:
        """No spike yet."""
        return no_spike("all_to_all", local)

    def movers(self, state: PairTraces, local: Local) -> tuple[Tensor, Tensor]:
        """What arrives, and the spikes of the last step."""
        return local.pre, state.fired

    def step(self, state: PairTraces, local: Local, dt: float) -> tuple[Synapses, PairTraces]:
        """What arrivals change, then what spikes do; a gradient, which is taken off a weight."""
        kept = decay(self.tau, dt)
        now, state = paired("all_to_all", state, local, kept, kept)
        sign = 1 if self.w_max <= 0 else -1
        size, alpha = sign * self.eta / len(local.pre), 2 * self.rate * self.tau
        arriving = local.outer(now.post - alpha, now.arrived).weight.mul_(size)
        firing = local.outer(now.fired, now.pre).weight.mul_(size)
        return Synapses(within(arriving, firing, local, self.bounds).add_(firing), None), state
