"""Deviances: how far values are from predicted means, in the terms of a likelihood."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]
_TINY = 1e-300  # of a mean that has vanished: its logarithm stays finite


@dataclass(frozen=True)
class Deviance:
    """Twice the Bregman divergence of y from m: 2 (log p(y|y) - log p(y|m)) of an exponential family.

        d(y, m) = 2 ( phi(y) - phi(m) - phi'(m) (y - m) )

    generator: phi, elementwise, finite at every legal y.
    slope: phi', elementwise, finite at every legal mean.
    Source: McCullagh, Nelder 1989, Generalized Linear Models, section 2.3; as a divergence Banerjee, Guo, Wang 2005,
        IEEE Trans. Inf. Theory 51:2664.
    """

    generator: Function
    slope: Function

    def __call__(self, y: Tensor, m: Tensor) -> Tensor:
        """d(y, m) of every value, >= 0."""
        return 2 * (self.generator(y) - self.generator(m) - self.slope(m) * (y - m))


SQUARE = Deviance(lambda y: 0.5 * y.square(), lambda m: m)  # (y - m)^2
BERNOULLI = Deviance(lambda y: torch.xlogy(y, y) + torch.xlogy(1 - y, 1 - y), lambda m: torch.logit(m, 1e-15))
POISSON = Deviance(lambda y: torch.xlogy(y, y) - y, lambda m: m.clamp_min(_TINY).log())
GAMMA = Deviance(lambda y: -y.log(), lambda m: -1 / m)


def negative_binomial(r: float) -> Deviance:
    """That of counts with variance m + m^2 / r."""
    return Deviance(
        lambda y: torch.xlogy(y, y) - (y + r) * torch.log(y + r),
        lambda m: torch.log(m.clamp_min(_TINY)) - torch.log(m + r),
    )
