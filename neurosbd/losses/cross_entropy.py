"""Softmax cross-entropy."""

from typing import Annotated

import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.losses.predictive_distribution import information_of_labels, one_hot_covariance
from neurosbd.losses.targets import CLASSES, as_vector, row
from neurosbd.schema.constants import Legal, Range, Share, constants

_Weight = Annotated[float, Range(above=0, hint="with a weight of 0 its output would have no minimiser")]
Weights = Annotated[tuple[_Weight, ...], Legal("one positive number per output", bool)]


def laid_out(weights: tuple[float, ...], output: Tensor, name: str) -> Tensor:
    """Weights as a row like the output.

    Raises:
        UsageError: if there is not one per output.
    """
    if len(weights) != output.shape[1]:
        raise UsageError(
            f"{name} has {len(weights)} values, but the output is {list(output.shape)}; give one per column"
        )
    return row(weights, output)


@constants
class CrossEntropy:
    """Negative log-likelihood of a class under softmax(output).

        loss = -sum_c t_c log p_c,   p = softmax(output),   t_c = w_c ((1 - e) y_c + e sum(y) / C)
        score = p sum(t) - t         (its components sum to 0)

    Targets are labels [B] or probabilities [B, C]. With e > 0 or w the loss is another one, with another minimiser
    (p is proportional to w ((1 - e) E[y|x] + e / C)), where the conditional mean of the score is 0 as ever.

    Args:
        label_smoothing: e, the share of every target that is spread over all classes, in [0, 1).
        class_weights: w > 0, one per class; none: all 1. Unlike torch's mean over a batch, which divides by the sum
            of the weights of its labels, ours divides by the number of examples.
    Source: as score of a softmax model, Bridle 1990. Smoothing: Szegedy et al. 2016,
        arXiv 1512.00567, section 7.
    """

    targets, parameters = CLASSES, 1

    label_smoothing: Share = 0.0
    class_weights: Weights | None = None

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in nats, [B]."""
        return -(self._aim(target, output) * torch.log_softmax(output, 1)).sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]."""
        y, p = self._aim(target, output), torch.softmax(output, 1)
        if self.plain and target.shape != output.shape:  # labels, which sum to 1
            return p - y
        return p * y.sum(1, keepdim=True) - y

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Labels [B] from the model of which softmax(output) is the optimum."""
        return torch.multinomial(self.probabilities(output), 1, generator=generator)[:, 0]

    def probabilities(self, output: Tensor) -> Tensor:
        """Probabilities of the labels of which softmax(output) is the optimum, [B, C].

        With smoothing no optimum has a class rarer than e / C (before weighing); there the nearest model is taken.
        """
        probabilities = torch.softmax(output, 1)
        if self.plain:
            return probabilities
        if self.class_weights is not None:
            probabilities = probabilities / laid_out(self.class_weights, output, "class_weights")
        if self.label_smoothing:
            probabilities = probabilities / probabilities.sum(1, keepdim=True)
            probabilities = (probabilities - self.label_smoothing / output.shape[1]).clamp_min(0)
        return probabilities / probabilities.sum(1, keepdim=True)

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T], [B, C, C]: diag p - p p^T without options, else over all labels."""
        probabilities = self.probabilities(output)
        return (
            one_hot_covariance(probabilities)
            if self.plain
            else information_of_labels(self.score, output, probabilities)
        )

    @property
    def plain(self) -> bool:
        """Whether the optimum is the distribution of the labels itself."""
        return not self.label_smoothing and self.class_weights is None

    def _aim(self, target: Tensor, output: Tensor) -> Tensor:
        y = as_vector(target, output)
        if self.label_smoothing:
            y = torch.lerp(y, y.mean(1, keepdim=True), self.label_smoothing)
        if self.class_weights is not None:
            y = y * laid_out(self.class_weights, output, "class_weights")
        return y
