"""Rules of spikes and rewards by name: stdp, rstdp, rmax."""

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
