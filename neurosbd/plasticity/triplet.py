"""Triplet spike-timing-dependent plasticity: a pairing counts for more after another spike of the same side."""

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local
from neurosbd.filters import decay
from neurosbd.plasticity.pairing import latest
from neurosbd.plasticity.plasticity import no_eligibility
from neurosbd.plasticity.spike_timing import check_bounds, within
from neurosbd.schema.constants import NotNegative, Seconds, constants


class TripletTraces(NamedTuple):
    """What earlier spikes have left behind."""

    r1: Tensor  # of all that has arrived, fading with tau_plus, [B, *arriving]
    r2: Tensor  # the same with tau_x
    o1: Tensor  # of the spikes before those of the last step, fading with tau_minus, [B, *size]
    o2: Tensor  # the same with tau_y
    fired: Tensor  # spikes of the last step, which end as the next one begins, [B, *size]


@constants(called="triplet")
class Triplet:
    """Triplet STDP, of all spikes or of the latest ones.

        what arrives:   w <- w - o1 (a2_minus + a3_minus r2),   then r1 <- r1 + 1, r2 <- r2 + 1
        a post spike:   w <- w + r1 (a2_plus + a3_plus o2),     then o1 <- o1 + 1, o2 <- o2 + 1
        in between:     r1, r2, o1, o2 decay with tau_plus, tau_x, tau_minus, tau_y

    With pairing = 'nn_symm' a trace remembers the latest spike alone: it goes to 1 in place of one up.

    In units of the weight, which stays in w_min..w_max. What arrives in a step comes before its spikes, as in
    `Window`. The defaults are those of the visual cortex.

    Args:
        a2_plus: potentiation by pairs, >= 0.
        a2_minus: depression by pairs, >= 0.
        a3_plus: potentiation by post-pre-post triplets, >= 0.
        a3_minus: depression by pre-post-pre triplets, >= 0.
        tau_plus: s, > 0.
        tau_minus: s, > 0.
        tau_x: of the earlier pre spikes, s, > 0.
        tau_y: of the earlier post spikes, s, > 0.
        w_min: lower bound of the weights.
        w_max: upper bound, > w_min.
        pairing: 'all_to_all' or 'nn_symm', see `Window`.
    Raises:
        ValueError: if a constant is out of range.
    Source: Pfister, Gerstner 2006, J. Neurosci. 26:9673, equations 3 and 4, table 4 (visual cortex, all to all);
        'nn_symm' is nearest-spike there.
    """

    a2_plus: NotNegative = 5e-10
    a2_minus: NotNegative = 7e-3
    a3_plus: NotNegative = 6.2e-3
    a3_minus: NotNegative = 2.3e-4
    tau_plus: Seconds = 16.8e-3
    tau_minus: Seconds = 33.7e-3
    tau_x: Seconds = 101e-3
    tau_y: Seconds = 125e-3
    w_min: float = 0.0
    w_max: float = 1.0
    pairing: Literal["all_to_all", "nn_symm"] = "all_to_all"

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    rate_regulated: ClassVar[bool] = False
    per_synapse: ClassVar[bool] = True
    by_events: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ()
    eligibility = no_eligibility

    def __post_init__(self) -> None:
        check_bounds("triplet", self.w_min, self.w_max)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and largest weight."""
        return self.w_min, self.w_max

    def init(self, local: Local) -> TripletTraces:
        """No spike yet."""
        pre, post = torch.zeros_like(local.pre), torch.zeros_like(local.post.value)
        return TripletTraces(pre, pre, post, post, post)

    def movers(self, state: TripletTraces, local: Local) -> tuple[Tensor, Tensor]:
        """What arrives, and the spikes of the last step."""
        return local.pre, state.fired

    def step(self, state: TripletTraces, local: Local, dt: float) -> tuple[Synapses, TripletTraces]:
        """Depression where the pre unit spikes, then potentiation where the post unit does."""
        follow = torch.add if self.pairing == "all_to_all" else latest
        r1, r2 = follow(state.r1 * decay(self.tau_plus, dt), local.pre), state.r2 * decay(self.tau_x, dt)
        o1, o2 = state.o1 * decay(self.tau_minus, dt), state.o2 * decay(self.tau_y, dt)
        examples, fired = len(local.pre), state.fired
        down = local.outer(o1, local.pre * (self.a2_minus + self.a3_minus * r2)).weight.div_(examples)
        up = local.outer(fired * (self.a2_plus + self.a3_plus * o2), r1).weight.div_(examples)
        down = within(down, up, local, self.bounds)
        after = TripletTraces(r1, follow(r2, local.pre), follow(o1, fired), follow(o2, fired), local.post.value)
        return Synapses(down.sub_(up), None), after
