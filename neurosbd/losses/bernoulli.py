"""Cross-entropy of independent yes-or-no outputs."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from neurosbd.losses.cross_entropy import Weights, laid_out
from neurosbd.losses.deviance import BERNOULLI
from neurosbd.losses.predictive_distribution import one_hot_covariance
from neurosbd.losses.targets import BINARY, as_vector
from neurosbd.noise import happens
from neurosbd.schema.constants import Share, constants


@constants
class Bernoulli:
    """Sigmoid cross-entropy: every output is a yes or no of its own, so that several can be true at once.

        loss = -sum_k ( w_k t_k log q_k + (1 - t_k) log(1 - q_k) ),   q = sigmoid(output),   t = (1 - e) y + e / 2
        score = q (w t + 1 - t) - w t        (q - y without options)

    Targets are values from 0 to 1 [B, k], or labels [B] (then y is one-hot: one against the rest). With e > 0 or w
    the minimiser is another one (the odds are w times those of (1 - e) E[y|x] + e / 2), where the conditional mean
    of the score is 0 as ever.

    Args:
        label_smoothing: e, in [0, 1).
        positive_weights: w > 0, one per output, weight of a yes; none: all 1.
    Source: Cox 1958, J. R. Stat. Soc. B 20:215 (logistic regression).
    """

    targets, parameters, deviance = BINARY, 1, BERNOULLI

    label_smoothing: Share = 0.0
    positive_weights: Weights | None = None

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in nats, [B]."""
        yes, no = self._aims(target, output)
        return -(yes * logsigmoid(output) + no * logsigmoid(-output)).sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, k]."""
        yes, no = self._aims(target, output)
        return torch.sigmoid(output) * (yes + no) - yes

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Values 0 or 1 [B, k] from the model of which sigmoid(output) is the optimum."""
        return happens(self.probabilities(output), generator).to(output.dtype)

    def probabilities(self, output: Tensor) -> Tensor:
        """Probabilities of a yes of which sigmoid(output) is the optimum, [B, k].

        With smoothing no optimum is surer than e / 2; there the nearest model is taken.
        """
        if self.positive_weights is not None:
            output = output - laid_out(self.positive_weights, output, "positive_weights").log()
        e = self.label_smoothing
        return ((torch.sigmoid(output) - e / 2) / (1 - e)).clamp(0, 1)

    def mean(self, output: Tensor) -> Tensor:
        """E[y|x], [B, k]: the chance of a yes."""
        return self.probabilities(output)

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T], [B, k, k]: of one-hot labels, or of values 0 and 1 that are independent of each other."""
        probabilities, yes = self.probabilities(output), torch.ones_like(output)
        slope = self.score(output, yes) - self.score(output, yes - 1)
        if target.ndim == 1:
            return slope[:, :, None] * one_hot_covariance(probabilities) * slope[:, None, :]
        return torch.diag_embed(slope.square() * probabilities * (1 - probabilities))

    def _aims(self, target: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Weight of yes and of no."""
        y = as_vector(target, output)
        if target.shape == output.shape:
            BINARY.check(y)
        if self.label_smoothing:
            y = (1 - self.label_smoothing) * y + self.label_smoothing / 2
        if self.positive_weights is None:
            return y, 1 - y
        return y * laid_out(self.positive_weights, output, "positive_weights"), 1 - y
