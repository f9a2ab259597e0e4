"""Spike-timing-dependent plasticity: the pairing of spikes, and the same waiting for a reward."""

from dataclasses import field
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local, Site
from neurosbd.filters import decay
from neurosbd.neurons.membrane import is_number
from neurosbd.neurons.neuron import Stochastic
from neurosbd.neurons.scan import apart, together
from neurosbd.plasticity.pairing import PER_SYNAPSE, Instant, Pairing, PairTraces, check_site, no_spike, paired
from neurosbd.plasticity.pending import PendingEligibility
from neurosbd.plasticity.plasticity import no_eligibility
from neurosbd.schema.constants import Fraction, NotNegative, Seconds, constants

WeightDependence = Literal["additive", "multiplicative", "power_law"]


def check_bounds(name: str, w_min: float, w_max: float) -> None:
    """Raise ValueError of bounds that leave a weight no room."""
    if not w_min < w_max:
        raise ValueError(f"{name} needs w_min < w_max, got {w_min:g} and {w_max:g}; raise w_max, or lower w_min")


@constants(called="stdp")
class Window:
    """Pair-based STDP window, and how it depends on the weight.

        added to w for a pair at lag s = t_post - t_pre:   + a_plus f_plus(w) exp(-s / tau_plus)     s >= 0
                                                          - a_minus f_minus(w) exp(s / tau_minus)    s < 0
        additive:        f_plus = f_minus = 1; the learner clamps weights to w_min..w_max after each update
        multiplicative:  f_plus = w_max - w,                f_minus = w - w_min
        power_law:       f_plus = span ((w_max - w) / span)^mu,  f_minus = span ((w - w_min) / span)^mu,
                         span = w_max - w_min; mu = 1 is multiplicative

    What arrives in a step comes at its beginning, t_pre = step dt, and the spike that it may cause at its end, t_post =
    (step + 1) dt: that pair is causal, with the shortest lag that a cause can have, dt. So a change by the spikes of a
    step is made with the arrivals of the next one, in this order: arrivals find the trace of the spikes before, then
    the spikes find the trace of all arrivals. Which of them make pairs:

        all_to_all:       every arrival with every spike
        nn_symm:          every arrival with the latest spike before it, every spike with the latest arrival
        nn_pre_centered:  every arrival with the latest spike before it and with the first one after it
        nn_restr:         an arrival and a spike with no other spike or arrival between them

    The first two are kept as one trace per unit, O(B (pre + post)); 'nn_pre_centered' as one per synapse, and both it
    and 'nn_restr' make O(B synapses) values in every step.

    Args:
        a_plus: size of potentiation, >= 0.
        a_minus: size of depression, >= 0.
        tau_plus: s, > 0.
        tau_minus: s, > 0.
        w_min: lower bound of the weights.
        w_max: upper bound, > w_min.
        bounds: 'additive', 'multiplicative' or 'power_law'.
        mu: exponent of 'power_law', 0..1, which needs one.
        pairing: 'all_to_all', 'nn_symm', 'nn_pre_centered' or 'nn_restr'; the last two need a dense connection.
    Raises:
        ValueError: if a constant is out of range.
    Source: Morrison, Diesmann, Gerstner 2008, Biol. Cybern. 98, sections 4.1-4.3, figure 7 (pairing; the names are
        those of NEST's stdp_synapse, stdp_nn_symm_synapse, stdp_nn_pre_centered_synapse, stdp_nn_restr_synapse); Song,
        Miller, Abbott 2000 (additive); van Rossum, Bi, Turrigiano 2000 (multiplicative); Gutig, Aharonov, Rotter,
        Sompolinsky 2003 (power_law, as NEST's stdp_synapse with lambda = a_plus, alpha lambda = a_minus).
    Differs: none from Brian2, where a spike acts in the step in which it is sent and causes one in the next at the
        earliest: its step n is the instant at which our step n begins, and there too `on_pre` runs before `on_post`.
        NEST leaves out pairs at lag 0 (a spike that ends as another one arrives), and adds its dendritic delay to
        t_post. A spike of the last step of a trial changes nothing any more; a run that goes on takes it along.
    """

    a_plus: NotNegative = 1.0
    a_minus: NotNegative = 1.0
    tau_plus: Seconds = 20e-3
    tau_minus: Seconds = 20e-3
    w_min: float = -1.0
    w_max: float = 1.0
    bounds: WeightDependence = "additive"
    pairing: Pairing = "all_to_all"
    mu: Fraction | None = None

    def __post_init__(self) -> None:
        check_bounds("stdp", self.w_min, self.w_max)
        if (self.mu is not None) != (self.bounds == "power_law"):
            fix = "leave mu out" if self.mu is not None else "give it mu = 0.5, say"
            raise ValueError(
                f"mu is the exponent of bounds = 'power_law', got mu = {self.mu} and bounds = '{self.bounds}'; {fix}"
            )

    def init(self, local: Local) -> PairTraces:
        """No spike yet."""
        return no_spike(self.pairing, local)

    def after(self, state: PairTraces, local: Local, dt: float) -> tuple[Instant, PairTraces]:
        """(the instant at which this step begins, the traces after it, with the spikes at the end of this step)."""
        return paired(self.pairing, state, local, decay(self.tau_plus, dt), decay(self.tau_minus, dt))

    @property
    def soft(self) -> bool:
        """Whether changes depend on the weight."""
        return self.bounds != "additive"

    def factors(self, weight: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """a_plus f_plus(w) and a_minus f_minus(w)."""
        if self.mu is not None:
            span = self.w_max - self.w_min
            left, above = ((room / span).clamp_(min=0) for room in (self.w_max - weight, weight - self.w_min))
            return left.pow_(self.mu).mul_(span * self.a_plus), above.pow_(self.mu).mul_(span * self.a_minus)
        if self.bounds == "multiplicative":
            return self.a_plus * (self.w_max - weight), self.a_minus * (weight - self.w_min)
        return self.a_plus, self.a_minus


def within(arriving: Tensor, firing: Tensor, local: Local, bounds: tuple[float, float]) -> Tensor:
    """The gradient of arrivals, as far as bounds allow it where a spike changes the weight right after them.

        (w - clamp(w - rate arriving)) / rate

    Args:
        arriving: their gradient, like the weight.
        firing: that of the spikes; 0 where they leave it to the learner to clamp the weight.
        local: with the weight before both, and its rate; where nobody can say that, nothing is held back.
        bounds: lowest and largest weight.
    """
    weight, rate = local.synapses.weight, local.rate
    if rate is None:
        return arriving
    if is_number(rate, 1):
        return torch.where(firing != 0, weight - (weight - arriving).clamp_(*bounds), arriving)
    taken = (weight - (weight - rate * arriving).clamp_(*bounds)) / rate
    return torch.where(firing != 0, taken.nan_to_num_(), arriving)  # of a rate of 0 it does not matter


@constants
class SpikeTiming:
    """STDP without a third factor: the gradient is minus what the window adds, mean over the batch.

    Source: Morrison, Diesmann, Gerstner 2008, Biol. Cybern. 98.
    """

    window: Window = field(default_factory=Window)

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    rate_regulated: ClassVar[bool] = False
    per_synapse: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ()
    eligibility = no_eligibility

    @property
    def bounds(self) -> tuple[float, float]:
        """Those of the window."""
        return self.window.w_min, self.window.w_max

    @property
    def by_events(self) -> bool:
        """If it keeps nothing for each synapse."""
        return self.window.pairing not in PER_SYNAPSE

    def check(self, site: Site) -> None:
        """Raise ValueError where pairs depend on both sides and the synapses do not."""
        check_site(self.window.pairing, site)

    def init(self, local: Local) -> PairTraces:
        """No spike yet."""
        return self.window.init(local)

    def movers(self, state: PairTraces, local: Local) -> tuple[Tensor, Tensor]:
        """What arrives, and the spikes of the last step."""
        return local.pre, state.fired

    def step(self, state: PairTraces, local: Local, dt: float) -> tuple[Synapses, PairTraces]:
        """Depression where the pre unit spikes, then potentiation where the post unit does."""
        now, state = self.window.after(state, local, dt)
        weight, examples = local.synapses.weight, len(local.pre)
        down = now.depression(local).div_(examples).mul_(self.window.factors(weight)[1])
        up = now.potentiation(local).div_(examples)
        down = within(down, up, local, self.bounds)
        if self.window.soft and local.rate is not None:
            weight = weight - local.rate * down
        up.mul_(self.window.factors(weight)[0])
        return Synapses(down.sub_(up), None), state


class Tagged(NamedTuple):
    """Traces of spikes, and the pairings that wait for a reward."""

    traces: PairTraces
    pending: PendingEligibility


@constants
class RewardedSpikeTiming:
    """STDP that only becomes a change when a third factor comes, from an eligibility that fades meanwhile.

        e[b] <- exp(-dt / tau_e) e[b] + what the window adds;    d weight = sum_b third_factor[b] e[b]

    O(B synapses) memory; for a convolution O(B kernel), since the third factor is the same at all positions.

    Args:
        window: the pairing.
        tau_e: time constant of the eligibility, s, > 0.
    Raises:
        ValueError: if `tau_e` is not positive.
    Source: Florian 2007, Neural Comput. 19 (MSTDPET); Izhikevich 2007, Cereb. Cortex 17; Fremaux, Gerstner 2016.
    """

    window: Window = field(default_factory=Window)
    tau_e: Seconds = 0.5

    modulated: ClassVar[bool] = True
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = True
    adds_up: ClassVar[bool] = True
    rate_regulated: ClassVar[bool] = False
    per_synapse: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ()

    @property
    def bounds(self) -> tuple[float, float]:
        """Those of the window."""
        return self.window.w_min, self.window.w_max

    def check(self, site: Site) -> None:
        """Raise ValueError where pairs depend on both sides and the synapses do not."""
        check_site(self.window.pairing, site)

    @property
    def in_blocks(self) -> bool:
        """If all that is new in a step is made of two factors."""
        return not self.window.soft and self.window.pairing not in PER_SYNAPSE

    def init(self, local: Local) -> Tagged:
        """Nothing waits."""
        return Tagged(self.window.init(_each(local)[0]), PendingEligibility.empty(local))

    def step(self, state: Tagged, local: Local, dt: float) -> tuple[Synapses | None, Tagged]:
        """The waiting pairings times the third factor, when there is one."""
        now, traces = self.window.after(state.traces, local, dt)
        plus, minus = self.window.factors(local.synapses.weight)
        kept = decay(self.tau_e, dt)
        if self.window.soft or self.window.pairing in PER_SYNAPSE:  # no factors of two units: nothing to put off
            e = state.pending.folded.mul_(kept)
            pairs = now.potentiation_of_each(local)
            e.addcmul_(pairs, torch.as_tensor(plus).to(e))
            e.addcmul_(now.depression_of_each(local, pairs), torch.as_tensor(minus).to(e), value=-1)
            pending = state.pending._replace(folded=e)
        else:
            posts, pres = [now.fired * plus, now.post * -minus], [now.pre, now.arrived]
            pending = state.pending.append(posts, pres, kept, local)
        return pending.contract(local.third_factor, local), Tagged(traces, pending)

    def block(self, state: Tagged, local: Local, dt: float) -> tuple[Synapses | None, Tagged]:
        """The same of several steps: the traces of units go step by step, the pairs of all steps are one product."""
        instants, traces = [], state.traces
        for step in _each(local):
            now, traces = self.window.after(traces, step, dt)
            instants.append(now)
        plus, minus = self.window.factors(local.synapses.weight)
        fired, found, pre = (together([getattr(now, name) for now in instants]) for name in ("fired", "post", "pre"))
        posts, pres = [fired * plus, found * -minus], [pre, local.pre]
        kept = decay(self.tau_e, dt)
        gradient = state.pending.contract_block(posts, pres, kept, local)
        return gradient, Tagged(traces, state.pending.append(posts, pres, kept, local))

    def eligibility(self, state: Tagged, local: Local, examples: Tensor | slice) -> Tensor:
        """e of these examples after the last step, [E, *weight]; for a look now and then, it is made up anew."""
        return state.pending.materialise(local, examples)


def _each(local: Local) -> list[Local]:
    """Both sides of a synapse at every step of a block."""
    sides = zip(*(apart(each, local.steps) for each in (local.pre, local.post.value)), strict=True)
    return [local._replace(pre=pre, post=local.post._replace(value=value), steps=1) for pre, value in sides]


@constants
class PolicyGradient:
    """Reward times how surprising the spikes, or the noise of rates, were: the gradient of the expected reward.

        e[b] <- exp(-dt / tau_e) e[b] + surprise[b, i] trace[b, j],   surprise = d log P(spikes) / d drive
        d weight = sum_b third_factor[b] e[b]

    Args:
        tau_e: time constant of the eligibility, s, > 0; much longer than a trial makes it REINFORCE.
    Raises:
        ValueError: if `tau_e` is not positive, or the neurons do not draw their spikes or values.
    Source: Xie, Seung 2004, Phys. Rev. E 69; Pfister et al. 2006; Fremaux, Gerstner 2016 (R-max).
    """

    tau_e: Seconds = 0.5

    modulated: ClassVar[bool] = True
    states_changes: ClassVar[bool] = False
    waits: ClassVar[bool] = True
    adds_up: ClassVar[bool] = True
    rate_regulated: ClassVar[bool] = False
    in_blocks: ClassVar[bool] = True
    per_synapse: ClassVar[bool] = True
    eligibilities: ClassVar[tuple[str, ...]] = ("factorised", "settled")

    def check(self, site: Site) -> None:
        """Raise ValueError unless the neurons draw their spikes or their values."""
        if not isinstance(site.neuron, Stochastic) or not site.neuron.draws:
            raise ValueError(
                f"a policy gradient needs neurons that draw their spikes, such as 'escape', or a 'leaky_rate' with "
                f"noise > 0, not {type(site.neuron).__name__}; see the models xor-delayed-reward and bmi-cursor"
            )

    def init(self, local: Local) -> PendingEligibility:
        """Nothing waits."""
        return PendingEligibility.empty(local)

    def step(self, state: PendingEligibility, local: Local, dt: float) -> tuple[Synapses | None, PendingEligibility]:
        """What waits times the third factor, when there is one."""
        kept = decay(self.tau_e, dt)
        pending = state.append([local.surprise()], [local.eligible.trace], kept, local)
        return pending.contract(local.third_factor, local), pending

    def block(self, state: PendingEligibility, local: Local, dt: float) -> tuple[Synapses | None, PendingEligibility]:
        """The same of several steps, whose surprises and traces are one product."""
        posts, pres, kept = [local.surprise()], [local.eligible.trace], decay(self.tau_e, dt)
        gradient = state.contract_block(posts, pres, kept, local)
        return gradient, state.append(posts, pres, kept, local)

    def eligibility(self, state: PendingEligibility, local: Local, examples: Tensor | slice) -> Tensor:
        """e of these examples after the last step, [E, *weight]; for a look now and then, it is made up anew."""
        return state.materialise(local, examples)
