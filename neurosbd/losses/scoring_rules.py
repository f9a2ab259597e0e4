"""Proper scoring rules of a softmax forecast, other than its likelihood.

Their score is bounded, and fades where the forecast is sure, right or wrong.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.losses.predictive_distribution import information_of_labels
from neurosbd.losses.targets import CLASSES, as_vector


def _forecast(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return torch.softmax(output, 1), as_vector(target, output)


def _through_softmax(p: Tensor, slope: Tensor) -> Tensor:
    """d loss / d output of d loss / d p: J^T slope with J = diag p - p p^T."""
    weighed = p * slope
    return weighed - p * weighed.sum(1, keepdim=True)


def _drawn(self: object, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Labels [B] from softmax(output)."""
    return torch.multinomial(torch.softmax(output, 1), 1, generator=generator)[:, 0]


def _probabilities(self: object, output: Tensor) -> Tensor:
    """Probabilities of the labels, [B, C]."""
    return torch.softmax(output, 1)


def _information(self: "Brier | Spherical | RankedProbability", output: Tensor, target: Tensor) -> Tensor:
    """E[score score^T] over all labels, [B, C, C]."""
    return information_of_labels(self.score, output, torch.softmax(output, 1))


@dataclass(frozen=True)
class Brier:
    """Squared distance of softmax(output) from the target.

        loss = sum_c (p_c - y_c)^2,   p = softmax(output)
        score = 2 J^T (p - y),   J = diag p - p p^T     (its components sum to 0)

    Targets are labels [B] or probabilities [B, C].

    Source: Brier 1950, Mon. Weather Rev. 78:1; Gneiting, Raftery 2007, JASA 102:359, section 3.
    """

    targets, parameters = CLASSES, 1
    sample, probabilities, information = _drawn, _probabilities, _information

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, 0 to 2, [B]."""
        p, y = _forecast(output, target)
        return (p - y).square().sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]."""
        p, y = _forecast(output, target)
        return _through_softmax(p, 2 * (p - y))


@dataclass(frozen=True)
class Spherical:
    """One minus the spherical score: the angle between softmax(output) and the target.

        loss = 1 - (p . y) / |p|,   p = softmax(output)
        score = p ((p . y) p / |p|^2 - y) / |p|         (its components sum to 0)

    Targets are labels [B] or probabilities [B, C].

    Source: Gneiting, Raftery 2007, JASA 102:359, section 3 (pseudospherical with exponent 2); the sign is ours.
    """

    targets, parameters = CLASSES, 1
    sample, probabilities, information = _drawn, _probabilities, _information

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, 0 to 1, [B]."""
        p, y = _forecast(output, target)
        return 1 - (p * y).sum(1) / p.square().sum(1).sqrt()

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]."""
        # The rule does not depend on the length of p, so J^T leaves only p times the slope.
        p, y = _forecast(output, target)
        square = p.square().sum(1, keepdim=True)
        return p * ((p * y).sum(1, keepdim=True) * p / square - y) / square.sqrt()


@dataclass(frozen=True)
class RankedProbability:
    """Ranked probability score, for ordered classes: mistakes cost more the farther they are.

        loss = sum_{c < C} (P_c - Y_c)^2,   P, Y the cumulative sums of p = softmax(output) and y
        score = J^T g,   g_j = 2 sum_{j <= c < C} (P_c - Y_c),   J = diag p - p p^T     (its components sum to 0)

    Targets are labels [B] or probabilities [B, C]; the order of the classes is that of the outputs.

    Source: Epstein 1969, J. Appl. Meteorol. 8:985; Murphy 1971, J. Appl. Meteorol. 10:155. Not divided by C - 1.
    """

    targets, parameters = CLASSES, 1
    sample, probabilities, information = _drawn, _probabilities, _information

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, 0 to C - 1, [B]."""
        p, y = _forecast(output, target)
        return (p - y)[:, :-1].cumsum(1).square().sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]."""
        p, y = _forecast(output, target)
        excess = (p - y)[:, :-1].cumsum(1)
        slope = torch.zeros_like(p)
        slope[:, :-1] = 2 * excess.flip(1).cumsum(1).flip(1)
        return _through_softmax(p, slope)
