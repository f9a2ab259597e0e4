"""Backpropagation by name."""

from neurosbd.learning.backprop import Backprop


def bp() -> Backprop:
    """Backpropagation by autograd, not local: baseline and test oracle.

    Source: Rumelhart, Hinton, Williams 1986, Nature 323.
    """
    return Backprop()


def bptt() -> Backprop:
    """Backpropagation through time with the neurons' pseudo-derivatives: bp, on a network that runs for many steps.

    Source: Werbos 1990, Proc. IEEE 78; pseudo-derivatives: Neftci, Mostafa, Zenke 2019, IEEE Signal Process. Mag. 36.
    Differs: the reset of a spike is not differentiated (Bellec et al. 2020).
    """
    return Backprop()
