"""Backpropagation: the reference that every local rule is measured against."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Backprop:
    """Fill the same `.grad` by automatic differentiation through the same network."""

    loss: str | None = None


def bp() -> Backprop:
    """Backpropagation by autograd, not local: baseline and test oracle.

    Source: Rumelhart, Hinton, Williams 1986, Nature 323.
    """
    return Backprop()
