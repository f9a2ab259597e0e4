"""A Gaussian whose mean and spread are both outputs: by likelihood, or by the continuous ranked probability score."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.losses.deviance import SQUARE
from neurosbd.losses.predictive_distribution import PredictiveDistribution, gaussian_distribution
from neurosbd.losses.targets import REALS, as_values

LEVEL = 0.9  # probability of the predictive interval
_REACH = math.sqrt(2) * torch.erfinv(torch.tensor(LEVEL, dtype=torch.float64)).item()  # in standard deviations


def _between(mean: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    return mean - _REACH * spread, mean + _REACH * spread


def _around(mean: Tensor, spread: Tensor, generator: torch.Generator | None) -> Tensor:
    return mean + spread * torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)


@dataclass(frozen=True)
class Gaussian:
    """Negative log-likelihood of values with mean and log-variance as outputs: heteroscedastic regression.

        output = (mu, lv),  v = exp(lv)
        loss = 1/2 sum_k ( lv_k + (mu_k - y_k)^2 / v_k + log 2 pi )
        score = ( (mu - y) / v,  1/2 (1 - (mu - y)^2 / v) )

    Outputs are [B, 2 k]: k means, then k log-variances. Targets are values [B, k].

    Source: Nix, Weigend 1994, ICNN 1:55.
    """

    targets, parameters, deviance, interval_level = REALS, 2, SQUARE, LEVEL

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in nats, [B]."""
        mean, log_variance, y = self._parts(output, target)
        # Half the square first: so no intermediate value is larger than the loss, in autograd neither.
        distance = 0.5 * (mean - y).square() * torch.exp(-log_variance)
        return (0.5 * log_variance + distance + 0.5 * math.log(2 * math.pi)).sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, 2 k]."""
        mean, log_variance, y = self._parts(output, target)
        precision = torch.exp(-log_variance)
        return torch.cat(((mean - y) * precision, 0.5 - 0.5 * (mean - y).square() * precision), 1)

    def mean(self, output: Tensor) -> Tensor:
        """E[y|x], [B, k]."""
        return output.chunk(2, 1)[0]

    def in_units(self, output: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        """(offset + scale mu, lv + 2 log scale), [B, 2 k]."""
        mean, log_variance = output.chunk(2, 1)
        return torch.cat((offset + scale * mean, log_variance + 2 * scale.log()), 1)

    def interval(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of the central interval of 90 %, [B, k] each."""
        mean, log_variance = output.chunk(2, 1)
        return _between(mean, torch.exp(0.5 * log_variance))

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Values [B, k]."""
        distribution = self.distribution(output)
        return _around(distribution.mean, distribution.spread, generator)

    def distribution(self, output: Tensor) -> PredictiveDistribution:
        """Gaussian of every value."""
        mean, log_variance = output.chunk(2, 1)
        return gaussian_distribution(mean, torch.exp(0.5 * log_variance))

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T] = diag(1 / v, 1 / 2), [B, 2 k, 2 k]."""
        _, log_variance = output.chunk(2, 1)
        return torch.diag_embed(torch.cat((torch.exp(-log_variance), torch.full_like(log_variance, 0.5)), 1))

    def _parts(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = as_values(target, output, REALS, ("means", "log-variances"))
        mean, log_variance = output.chunk(2, 1)
        return mean, log_variance, y


@dataclass(frozen=True)
class GaussianCRPS:
    """Continuous ranked probability score of a Gaussian: in the units of the target, and less moved by outliers.

        output = (mu, ls),  sigma = exp(ls),  w = (y - mu) / sigma
        loss = sum_k ( (y_k - mu_k) erf(w_k / sqrt 2) + sigma_k (2 phi(w_k) - 1 / sqrt pi) )
        score = ( -erf(w / sqrt 2),  sigma (2 phi(w) - 1 / sqrt pi) ),   phi the standard normal density

    Outputs are [B, 2 k]: k means, then k logarithms of the standard deviation. Targets are values [B, k]. Where one
    value has more than 1 / sqrt 2 = 71 % of the probability, sigma -> 0 is the optimum: there is no minimiser.

    Source: Gneiting, Raftery, Westveld, Goldman 2005, Mon. Weather Rev. 133:1098, equation 5.
    """

    targets, parameters, deviance, interval_level = REALS, 2, SQUARE, LEVEL

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in units of the target, [B]."""
        y, mean, sigma, x = self._parts(output, target)
        return ((y - mean) * torch.erf(x) + sigma * _excess(x)).sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, 2 k]."""
        _, _, sigma, x = self._parts(output, target)
        return torch.cat((-torch.erf(x), sigma * _excess(x)), 1)

    def mean(self, output: Tensor) -> Tensor:
        """E[y|x], [B, k]."""
        return output.chunk(2, 1)[0]

    def in_units(self, output: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        """(offset + scale mu, ls + log scale), [B, 2 k]."""
        mean, log_sigma = output.chunk(2, 1)
        return torch.cat((offset + scale * mean, log_sigma + scale.log()), 1)

    def interval(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of the central interval of 90 %, [B, k] each."""
        mean, log_sigma = output.chunk(2, 1)
        return _between(mean, torch.exp(log_sigma))

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Values [B, k]."""
        distribution = self.distribution(output)
        return _around(distribution.mean, distribution.spread, generator)

    def distribution(self, output: Tensor) -> PredictiveDistribution:
        """Gaussian of every value."""
        mean, log_sigma = output.chunk(2, 1)
        return gaussian_distribution(mean, torch.exp(log_sigma))

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T] = diag(1 / 3, sigma^2 (2 / sqrt 3 - 1) / pi), [B, 2 k, 2 k]."""
        # erf(w / sqrt 2) is uniform on (-1, 1); E phi = 1 / (2 sqrt pi), E phi^2 = 1 / (2 pi sqrt 3)
        _, log_sigma = output.chunk(2, 1)
        own = torch.exp(2 * log_sigma) * ((2 / math.sqrt(3) - 1) / math.pi)
        return torch.diag_embed(torch.cat((torch.full_like(own, 1 / 3), own), 1))

    def _parts(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """y, mu, sigma and w / sqrt 2."""
        y = as_values(target, output, REALS, ("means", "log standard deviations"))
        mean, log_sigma = output.chunk(2, 1)
        return y, mean, torch.exp(log_sigma), (y - mean) * torch.exp(-log_sigma) * math.sqrt(0.5)


def _excess(x: Tensor) -> Tensor:
    """2 phi(w) - 1 / sqrt pi of x = w / sqrt 2."""
    return math.sqrt(2 / math.pi) * torch.exp(-x.square()) - 1 / math.sqrt(math.pi)
