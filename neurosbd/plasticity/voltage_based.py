"""Voltage-based plasticity: what the postsynaptic membrane does, not when it spikes, says how a synapse changes."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local, Site, membrane_of
from neurosbd.filters import decay
from neurosbd.neurons.neuron import Compartmental
from neurosbd.plasticity.plasticity import no_eligibility
from neurosbd.plasticity.spike_timing import check_bounds, within
from neurosbd.schema.constants import NotNegative, NotNegativeSeconds, Positive, Seconds, Volts, constants


class VoltageTraces(NamedTuple):
    """What the rule remembers of both sides."""

    pre: Tensor  # x_bar, 1/s, [B, *arriving]
    minus: Tensor  # u_minus of the last D + 1 steps, the oldest first, D = delay / dt, [D + 1, B, *size]
    plus: Tensor  # u_plus, likewise
    depolarised: Tensor  # mean depolarisation, V, [B, *size]
    spiking: Tensor  # steps that a spike still lasts, [B, *size]


@constants(called="voltage_based")
class VoltageBased:
    """Depression by what arrives at a depolarised membrane, potentiation where it is driven above a second threshold.

        what arrives:   w <- w - a_minus [u_minus - theta_minus]+ (d / u_ref)^2,   then x_bar <- x_bar + 1 / tau_x
        at every step:  w <- w + dt a_plus x_bar [u - theta_plus]+ [u_plus - theta_minus]+
        in between:     x_bar decays with tau_x; u_minus, u_plus and d follow u, u and u - v_rest with tau_minus,
                        tau_plus and tau_ref

    u is the membrane; for `width` after a spike it is `peak`, since neurons here reset at once and make no spike. The
    averages u_minus and u_plus are those of `delay` earlier, at least of the step before, so that a spike does not
    meet itself. Without `u_ref` the factor (d / u_ref)^2 is left out. Potentials are in volts, as those of the neuron
    must be. The defaults are those of the visual cortex.

    Args:
        a_minus: depression, 1/V, >= 0.
        a_plus: potentiation, 1/V^2, >= 0.
        theta_minus: above it u_minus depresses and u_plus lets potentiation happen, V.
        theta_plus: above it the membrane itself potentiates, V.
        tau_minus: s, > 0.
        tau_plus: s, > 0.
        tau_x: s, > 0.
        u_ref: depolarisation at which depression is a_minus, V, > 0; None: depression is a_minus always.
        tau_ref: of the mean depolarisation, s, > 0.
        v_rest: from which depolarisation is counted, V.
        peak: of a spike, V.
        width: that it lasts, s, >= 0; 0: the membrane as it is.
        delay: of the averages, s, >= 0.
        w_min: lower bound of the weights.
        w_max: upper bound, > w_min.
    Raises:
        ValueError: if a constant is out of range.
    Source: Clopath, Busing, Vasilaki, Gerstner 2010, Nat. Neurosci. 13:344, equations 1-3, table 1 (visual cortex);
        peak, width and delay as their code and NEST's aeif_psc_delta_clopath have them (t_clamp, delay_u_bars).
    Differs: in their code d^2 is an average of the square.
    """

    a_minus: NotNegative = 0.14
    a_plus: NotNegative = 80.0
    theta_minus: Volts = -70.6e-3
    theta_plus: Volts = -45.3e-3
    tau_minus: Seconds = 10e-3
    tau_plus: Seconds = 7e-3
    tau_x: Seconds = 15e-3
    u_ref: Positive | None = None
    tau_ref: Seconds = 1.0
    v_rest: Volts = -70.6e-3
    peak: Volts = 33e-3
    width: NotNegativeSeconds = 2e-3
    delay: NotNegativeSeconds = 4e-3
    w_min: float = 0.0
    w_max: float = 1.0

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    rate_regulated: ClassVar[bool] = False
    eligibilities: ClassVar[tuple[str, ...]] = ()
    per_synapse: ClassVar[bool] = True
    eligibility = no_eligibility

    def __post_init__(self) -> None:
        check_bounds("voltage_based", self.w_min, self.w_max)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and largest weight."""
        return self.w_min, self.w_max

    def check(self, site: Site) -> None:
        """Raise ValueError of neurons without a membrane."""
        neuron, silence = site.neuron, torch.zeros(1, *site.size)
        if isinstance(neuron, Compartmental) or membrane_of(neuron.init(silence, torch.Generator())) is None:
            raise ValueError(
                f"a voltage-based plasticity looks at the membrane of the post neuron, and {type(neuron).__name__} has "
                f"none; give it 'lif' or 'adex' with potentials in volts"
            )

    def init(self, local: Local) -> VoltageTraces:
        """No spike yet, and a membrane that has long been where it is."""
        u = _membrane(local)
        silent = torch.zeros_like(u)
        return VoltageTraces(torch.zeros_like(local.pre), u[None], u[None], silent, silent)

    def step(self, state: VoltageTraces, local: Local, dt: float) -> tuple[Synapses, VoltageTraces]:
        """Depression where the pre unit spikes, then potentiation under a depolarised membrane."""
        spiking = torch.where(local.post.value > 0, float(round(self.width / dt)), (state.spiking - 1).clamp(min=0))
        u = torch.where(spiking > 0, self.peak, _membrane(local))
        depressed = (state.minus[0] - self.theta_minus).clamp_(min=0).mul_(self.a_minus)
        if self.u_ref is not None:
            depressed = depressed * (state.depolarised / self.u_ref).square()
        pre = state.pre * decay(self.tau_x, dt) + local.pre / self.tau_x
        potentiated = (u - self.theta_plus).clamp_(min=0) * (state.plus[0] - self.theta_minus).clamp_(min=0)
        examples = len(local.pre)
        down = local.outer(depressed, local.pre).weight.div_(examples)
        up = local.outer(potentiated.mul_(dt * self.a_plus), pre).weight.div_(examples)
        down = within(down, up, local, self.bounds)
        kept = round(self.delay / dt) + 1
        minus = _later(state.minus, u, 1 - decay(self.tau_minus, dt), kept)
        plus = _later(state.plus, u, 1 - decay(self.tau_plus, dt), kept)
        depolarised = torch.lerp(state.depolarised, u - self.v_rest, 1 - decay(self.tau_ref, dt))
        return Synapses(down.sub_(up), None), VoltageTraces(pre, minus, plus, depolarised, spiking)


def _membrane(local: Local) -> Tensor:
    """Which `check` has found to be there."""
    assert local.membrane is not None
    return local.membrane


def _later(averages: Tensor, u: Tensor, share: float | Tensor, kept: int) -> Tensor:
    """Averages of the last `kept` steps, one step later; before the first one they have long been the same."""
    latest = torch.lerp(averages[-1], u, share)[None]
    return torch.cat((averages.expand(kept, *u.shape)[1:], latest))
