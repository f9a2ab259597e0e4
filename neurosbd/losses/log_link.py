"""Counts and positive quantities: likelihoods whose output is the logarithm of the mean."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from neurosbd.losses.deviance import GAMMA, POISSON, Deviance, negative_binomial
from neurosbd.losses.predictive_distribution import PredictiveDistribution, polar
from neurosbd.losses.targets import COUNTS, POSITIVE, as_values
from neurosbd.schema.constants import Positive, constants


@dataclass(frozen=True)
class Poisson:
    """Negative log-likelihood of counts with mean exp(output).

        loss = sum_k ( exp(output_k) - y_k output_k + log y_k! )
        score = exp(output) - y

    Targets are counts >= 0 [B, k]; they need not be integers.

    Source: Nelder, Wedderburn 1972, J. R. Stat. Soc. A 135:370 (log-linear models).
    """

    targets, parameters, deviance = COUNTS, 1, POISSON

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in nats, [B]."""
        y = as_values(target, output, COUNTS)
        return (torch.exp(output) - y * output + torch.lgamma(y + 1)).sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, k]."""
        return torch.exp(output) - as_values(target, output, COUNTS)

    def mean(self, output: Tensor) -> Tensor:
        """E[y|x], [B, k]."""
        return torch.exp(output)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Counts [B, k]."""
        return torch.poisson(torch.exp(output), generator=generator)

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T] = diag(mu), [B, k, k]."""
        return torch.diag_embed(torch.exp(output))

    def distribution(self, output: Tensor) -> PredictiveDistribution:
        """Poisson of every value."""
        mean, spread = torch.exp(output), torch.exp(0.5 * output)

        def characteristic(frequency: float) -> tuple[Tensor, Tensor]:
            angle = frequency / spread
            return polar(torch.exp(mean * (torch.cos(angle) - 1)), mean * (torch.sin(angle) - angle))

        return PredictiveDistribution(mean, spread, characteristic)


@constants
class Gamma:
    """Negative log-likelihood of positive values with mean exp(output) and coefficient of variation 1/sqrt(shape).

        loss = sum_k ( a output_k + a y_k exp(-output_k) - (a - 1) log y_k - a log a + log Gamma(a) )
        score = a (1 - y exp(-output))

    Targets are values > 0 [B, k].

    Args:
        shape: a > 0; 1 is the exponential distribution.
    Source: McCullagh, Nelder 1989, Generalized Linear Models, chapter 8.
    """

    targets, parameters, deviance = POSITIVE, 1, GAMMA

    shape: Positive = 1.0

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in nats, [B]."""
        y, a = as_values(target, output, POSITIVE), self.shape
        constant = math.lgamma(a) - a * math.log(a)
        return (a * (output + y * torch.exp(-output)) - (a - 1) * torch.log(y) + constant).sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, k]."""
        return self.shape * (1 - as_values(target, output, POSITIVE) * torch.exp(-output))

    def mean(self, output: Tensor) -> Tensor:
        """E[y|x], [B, k]."""
        return torch.exp(output)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Values > 0 [B, k]."""
        # torch.distributions takes no generator
        standard = torch.ops.aten._standard_gamma(torch.full_like(output, self.shape), generator)
        return (torch.exp(output) * standard / self.shape).clamp_min(torch.finfo(output.dtype).tiny)

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T] = diag(a), [B, k, k]."""
        return torch.diag_embed(torch.full_like(output, self.shape))

    def distribution(self, output: Tensor) -> PredictiveDistribution:
        """Gamma of every value."""
        mean, root = torch.exp(output), math.sqrt(self.shape)

        def characteristic(frequency: float) -> tuple[Tensor, Tensor]:
            modulus = (1 + frequency**2 / self.shape) ** (-0.5 * self.shape)
            phase = self.shape * math.atan(frequency / root) - frequency * root
            return polar(torch.full_like(mean, modulus), torch.full_like(mean, phase))

        return PredictiveDistribution(mean, mean / root, characteristic)


@constants
class NegativeBinomial:
    """Negative log-likelihood of counts that vary more than Poisson's: mean mu = exp(output), variance mu + mu^2 / r.

        loss = sum_k ( (y_k + r) log(r + mu_k) - y_k output_k - r log r - log Gamma(y_k + r) / (Gamma(r) y_k!) )
        score = (mu - y) r / (r + mu)

    Targets are counts >= 0 [B, k]. As r grows, this becomes Poisson's.

    Args:
        r: > 0, the smaller the more the counts spread.
    Source: Hilbe 2011, Negative Binomial Regression, chapter 8 (NB2).
    """

    targets, parameters = COUNTS, 1

    r: Positive = 1.0

    @property
    def deviance(self) -> Deviance:
        """That of counts with the variance m + m^2 / r."""
        return negative_binomial(self.r)

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in nats, [B]."""
        y, odds = as_values(target, output, COUNTS), output - math.log(self.r)
        constant = torch.lgamma(y + 1) - torch.lgamma(y + self.r) + math.lgamma(self.r)
        return (constant - self.r * logsigmoid(-odds) - y * logsigmoid(odds)).sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, k]."""
        # mu / (r + mu) and r / (r + mu) without ever making mu, which may be too large to hold
        y, odds = as_values(target, output, COUNTS), output - math.log(self.r)
        return self.r * torch.sigmoid(odds) - y * torch.sigmoid(-odds)

    def mean(self, output: Tensor) -> Tensor:
        """E[y|x], [B, k]."""
        return torch.exp(output)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Counts [B, k]: Poisson with a rate that is gamma-distributed."""
        return torch.poisson(Gamma(self.r).sample(output, generator), generator=generator)

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T] = diag(mu r / (r + mu)), [B, k, k]."""
        return torch.diag_embed(self.r * torch.sigmoid(output - math.log(self.r)))

    def distribution(self, output: Tensor) -> PredictiveDistribution:
        """Negative binomial of every value."""
        mean, q = torch.exp(output), torch.sigmoid(output - math.log(self.r))
        spread = torch.sqrt(mean / (1 - q))

        def characteristic(frequency: float) -> tuple[Tensor, Tensor]:
            angle = frequency / spread
            across, along = q * torch.sin(angle), 1 - q * torch.cos(angle)
            modulus = ((1 - q).square() / (across.square() + along.square())) ** (0.5 * self.r)
            return polar(modulus, self.r * torch.atan2(across, along) - angle * mean)

        return PredictiveDistribution(mean, spread, characteristic)
