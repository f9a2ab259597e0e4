"""Rules of spikes and rewards by name: stdp, rstdp, rmax."""

from neurosbd.neuromodulators import Reward
from neurosbd.plasticity.spike_timing import Bounds, Pairing, PolicyGradient, RewardedSpikeTiming, SpikeTiming, Window
from neurosbd.rules.local_rule import LocalRule, Readout


def stdp(
    a_plus: float = 1.0,
    a_minus: float = 1.0,
    tau_plus: float = 20e-3,
    tau_minus: float = 20e-3,
    w_min: float = -1.0,
    w_max: float = 1.0,
    bounds: Bounds = "additive",
    pairing: Pairing = "all",
    readout: Readout = "gradient",
) -> LocalRule:
    """Spike-timing-dependent plasticity: pre before post strengthens, post before pre weakens; nobody is told why.

    Args:
        a_plus: size of potentiation, >= 0.
        a_minus: size of depression, >= 0.
        tau_plus: of its window, s, > 0.
        tau_minus: of its window, s, > 0.
        w_min: lower bound of the weights.
        w_max: upper bound, > w_min.
        bounds: 'additive' (constant steps, clamped) or 'multiplicative' (steps shrink towards the bounds).
        pairing: 'all' pairs of spikes, or the 'nearest'.
        readout: the last population learns by the 'gradient' of the loss or by the same 'rule'.
    Source: Morrison, Diesmann, Gerstner 2008, Biol. Cybern. 98.
    """
    window = Window(a_plus, a_minus, tau_plus, tau_minus, w_min, w_max, bounds, pairing)
    return LocalRule(SpikeTiming(window), None, readout=readout, bounds=(w_min, w_max), states_changes=True)


def rstdp(
    a_plus: float = 1.0,
    a_minus: float = 1.0,
    tau_plus: float = 20e-3,
    tau_minus: float = 20e-3,
    w_min: float = -1.0,
    w_max: float = 1.0,
    bounds: Bounds = "additive",
    pairing: Pairing = "all",
    tau_e: float = 0.5,
    baseline: float = 0.1,
    tasks: int = 1,
    channels: int = 1,
    delay: int = 0,
    readout: Readout = "gradient",
) -> LocalRule:
    """Reward-modulated STDP: pairings wait in an eligibility until a reward, less its mean, makes them a change.

    Args: as stdp, and
        tau_e: time constant of the eligibility, s, > 0.
        baseline: rate of the running mean of the reward, per batch, 0..1; 0: none.
        tasks: number of separate running means, >= 1.
        channels: rewards per example, >= 1; several reach the units through a fixed random projection.
        delay: steps from the reward to the third factor, >= 0.
    Source: Florian 2007, Neural Comput. 19; Izhikevich 2007, Cereb. Cortex 17; Fremaux, Gerstner 2016.
    """
    window = Window(a_plus, a_minus, tau_plus, tau_minus, w_min, w_max, bounds, pairing)
    return LocalRule(
        RewardedSpikeTiming(window, tau_e),
        Reward(baseline, tasks, channels),
        delay=delay,
        readout=readout,
        rewarded=True,
        bounds=(w_min, w_max),
        states_changes=True,
    )


def rmax(
    tau_e: float = 0.5,
    baseline: float = 0.1,
    tasks: int = 1,
    channels: int = 1,
    delay: int = 0,
    readout: Readout = "gradient",
) -> LocalRule:
    """Policy gradient for neurons that draw their spikes: reward times surprise, whatever the network does.

    Args:
        tau_e: time constant of the eligibility, s, > 0.
        baseline: rate of the running mean of the reward, per batch, 0..1; 0: none.
        tasks: number of separate running means, >= 1.
        channels: rewards per example, >= 1; several reach the units through a fixed random projection.
        delay: steps from the reward to the third factor, >= 0.
        readout: the last population learns by the 'gradient' of the loss or by the same 'rule'.
    Source: Xie, Seung 2004, Phys. Rev. E 69; Pfister et al. 2006, Neural Comput. 18; Fremaux, Gerstner 2016.
    """
    return LocalRule(
        PolicyGradient(tau_e), Reward(baseline, tasks, channels), delay=delay, readout=readout, rewarded=True
    )
