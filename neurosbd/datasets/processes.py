"""Processes that generate regression data with a known truth: every one is the model of a loss with known outputs."""

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from neurosbd.datasets.samples import Samples, Truth
from neurosbd.losses import Gaussian, NegativeBinomial, Poisson
from neurosbd.schema.constants import Count, NotNegative, Positive, Range, Seconds, constants


class Drawn(NamedTuple):
    """Inputs and the distribution of their targets."""

    values: Tensor  # float32 [N, n], or images uint8 [N, height, width, 1]
    targets: Tensor  # [N, k]
    mean: Tensor  # E[y|x], [N, k]
    std: Tensor  # of y given x, [N, k]


class Process(Protocol):
    """Where generated data come from."""

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """`count` examples, from the generator alone."""
        ...


@constants(called="heteroscedastic")
class Heteroscedastic:
    """A sine with Gaussian noise that grows towards both ends.

        x ~ U(-span, span),  mean = sin(2 x),  std = floor + growth x^2,  y ~ N(mean, std^2)

    Args:
        span: > 0.
        floor: noise at x = 0, > 0.
        growth: >= 0; 0 is noise of one size.
    Source: this project; the problem is that of Nix, Weigend 1994, ICNN 1:55.
    """

    span: Positive = 2.0
    floor: Positive = 0.1
    growth: NotNegative = 0.1

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """Examples with n = k = 1."""
        x = self.span * (2 * torch.rand(count, 1, generator=generator) - 1)
        mean, std = torch.sin(2 * x), self.floor + self.growth * x.square()
        return Drawn(x, Gaussian().sample(torch.cat((mean, 2 * std.log()), 1), generator), mean, std)


@constants(called="orientation_tuned")
class OrientationTuned:
    """Spike counts of complex cells of the primary visual cortex that look at gratings.

        pixel(r) = 1/2 + c/2 cos(2 pi frequency (r . (cos theta, sin theta)) + phase)
        rate_i = baseline + peak c^n / (c^n + c50^n) exp(kappa (cos 2 (theta - pi i / cells) - 1))
        count_i ~ negative binomial of mean m = window rate_i and variance m + m^2 / r      (Poisson without r)

    theta, phase and contrast c are uniform in [0, pi), [0, 2 pi) and [0, 1); the cells do not depend on the phase.

    Args:
        side: of an image, pixels, >= 2.
        cells: with preferred orientations evenly spaced over 180 degrees, >= 1.
        frequency: of the gratings, cycles per pixel, in (0, 0.5].
        baseline: Hz, > 0.
        peak: Hz, > 0.
        kappa: sharpness of tuning, > 0.
        exponent: n of the contrast response, > 0.
        c50: contrast of half the response, in (0, 1].
        window: s, > 0.
        r: > 0, the smaller the more the gain of a cell varies from one presentation to the next; none: Poisson.
    Source: contrast response Albrecht, Hamilton 1982, J. Neurophysiol. 48:217; counts with a gamma-distributed gain
        Goris, Movshon, Simoncelli 2014, Nat. Neurosci. 17:858, where 1/r is the variance of the gain. The constants
        are ours.
    """

    side: Annotated[int, Range(least=2)] = 8
    cells: Count = 8
    frequency: Annotated[float, Range(above=0, most=0.5)] = 0.2
    baseline: Positive = 2.0
    peak: Positive = 40.0
    kappa: Positive = 2.0
    exponent: Positive = 2.0
    c50: Annotated[float, Range(above=0, most=1)] = 0.3
    window: Seconds = 0.5
    r: Positive | None = 5.0

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """Images and counts."""
        u = torch.rand(3, count, 1, generator=generator)
        theta, phase, contrast = math.pi * u[0], 2 * math.pi * u[1], u[2]
        drive = contrast**self.exponent
        preferred = math.pi * torch.arange(self.cells) / self.cells
        tuning = torch.exp(self.kappa * (torch.cos(2 * (theta - preferred)) - 1))
        rate = self.baseline + self.peak * drive / (drive + self.c50**self.exponent) * tuning
        mean = self.window * rate
        model = Poisson() if self.r is None else NegativeBinomial(self.r)
        variance = mean if self.r is None else mean + mean.square() / self.r
        counts = model.sample(mean.log(), generator)
        return Drawn(self._gratings(theta, phase, contrast), counts, mean, variance.sqrt())

    def _gratings(self, theta: Tensor, phase: Tensor, contrast: Tensor) -> Tensor:
        """uint8 [N, side, side, 1] of constants [N, 1]."""
        place = torch.arange(self.side) - (self.side - 1) / 2
        y, x = torch.meshgrid(place, place, indexing="ij")
        theta, phase, contrast = (c[:, :, None, None] for c in (theta, phase, contrast))
        wave = torch.cos(2 * math.pi * self.frequency * (x * torch.cos(theta) + y * torch.sin(theta)) + phase)
        return (255 * (0.5 + 0.5 * contrast * wave)).round().to(torch.uint8).permute(0, 2, 3, 1)


PROCESSES: dict[str, Callable[..., Process]] = {
    "heteroscedastic": Heteroscedastic,
    "orientation_tuned": OrientationTuned,
}


def generated(process: Process, count: int, generator: torch.Generator) -> Samples:
    """A split drawn from a process, with the truth."""
    values, targets, mean, std = process.draw(count, generator)

    def array(tensor: Tensor) -> np.ndarray:
        return tensor.contiguous().numpy()

    return Samples(array(values), array(targets.float()), Truth(array(mean), array(std)))
