"""Rules of spikes and rewards by name: stdp, rstdp, rmax, reinforce."""

from typing import Unpack

from neurosbd.learning.online import LocalRule
from neurosbd.neuromodulators import Reward
from neurosbd.plasticity import PolicyGradient, RewardedSpikeTiming, SpikeTiming
from neurosbd.rules.composed import Parts, composed


def stdp(**parts: Unpack[Parts]) -> LocalRule:
    """Spike-timing-dependent plasticity: pre before post strengthens, post before pre weakens; nobody is told why.

    Source: Morrison, Diesmann, Gerstner 2008, Biol. Cybern. 98.
    """
    return composed(parts, {"plasticity": SpikeTiming(), "neuromodulator": None})


def rstdp(**parts: Unpack[Parts]) -> LocalRule:
    """Reward-modulated STDP: pairings wait in an eligibility until a reward, less its mean, makes them a change.

    Source: Florian 2007, Neural Comput. 19; Izhikevich 2007, Cereb. Cortex 17; Fremaux, Gerstner 2016.
    """
    return composed(parts, {"plasticity": RewardedSpikeTiming(), "neuromodulator": Reward()})


def rmax(**parts: Unpack[Parts]) -> LocalRule:
    """Policy gradient for neurons that draw their spikes: reward times surprise, whatever the network does.

    Source: Xie, Seung 2004, Phys. Rev. E 69; Pfister et al. 2006, Neural Comput. 18; Fremaux, Gerstner 2016.
    """
    return composed(parts, {"plasticity": PolicyGradient(), "neuromodulator": Reward()})


def reinforce(**parts: Unpack[Parts]) -> LocalRule:
    """REINFORCE for recurrent networks of noisy rates: how much better than expected, times what the noise has tried.

        e[t] = exp(-dt / tau_e) e[t-1] + surprise[t] pre[t],    surprise = xi f'(drive) / noise
        d weight = -sum_t mean_b (R[t] - Rbar[task]) e[t]

    for units 'leaky_rate' with noise > 0, and tau_e their time constant; of neurons that draw their spikes it is rmax.
    Rewards may come at every step; what is expected of a task moves once a trial, with the last of them.

    Source: Williams 1992, Mach. Learn. 8; Miconi 2017, eLife 6:e20899; this form: Portes, Schmid, Murray 2022, NeurIPS.
    Differs: the surprise is divided by the variance of the noise, as the gradient of a log probability is; there it is
        part of the learning rate. The first trial of a task changes nothing; there Rbar starts at 0.
    """
    own: Parts = {
        "plasticity": PolicyGradient(tau_e=10e-3),
        "neuromodulator": Reward(baseline=0.2, expects="trial"),
        "eligibility": "settled",
    }
    return composed(parts, own)
