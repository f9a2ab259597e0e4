"""How much of a target is explained: the part of its deviance that is gone, against the best constant prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.losses import PredictsMean
from neurosbd.losses.deviance import Deviance
from neurosbd.losses.pinball import Pinball
from neurosbd.losses.targets import row


@dataclass(frozen=True)
class ExplainedDeviance:
    """Share of the deviance that the predicted means explain; 1 is perfect, 0 a constant, below 0 worse than that.

        D^2 = 1 - sum_nk d(y, m) / sum_nk d(y, mean of y_k over the split),   d the deviance of the loss

    Since d(y, m) = 2 (phi(y) - phi(m) - phi'(m) (y - m)), the denominator is 2 (sum phi(y) - N phi(mean)): sums of y
    and of phi(y) are enough, and no second pass. Values of different losses are not comparable.

    Args:
        loss: poisson, negative_binomial, gamma, bernoulli.
    Source: Cameron, Windmeijer 1997, J. Econometrics 77:329.
    """

    name, title, percent, higher_is_better = "explained_deviance", "explained deviance", False, True

    loss: PredictsMean

    def width(self, targets: int) -> int:
        """N, the deviance, phi(y), and y of every variable."""
        return 3 + targets

    def sums(self, batch: Batch, result: BatchResult) -> Tensor:
        """Over a batch."""
        return _sums(self.loss, batch, result)

    def value(self, sums: Sequence[float]) -> float:
        """1 - left / whole."""
        return _explained(self.loss.deviance, sums)


@dataclass(frozen=True)
class RSquared:
    """Coefficient of determination: share of the variance that the predicted means explain.

        R^2 = 1 - sum_nk (y - m)^2 / sum_nk (y - mean of y_k over the split)^2

    Several values are pooled. Targets are in units of their deviation in the training split, so all weigh alike.

    Args:
        loss: squared_error, gaussian, crps.
    Source: standard; the explained deviance of a Gaussian.
    """

    name, title, percent, higher_is_better = "r_squared", "R²", False, True

    loss: PredictsMean

    def width(self, targets: int) -> int:
        """As of the explained deviance."""
        return 3 + targets

    def sums(self, batch: Batch, result: BatchResult) -> Tensor:
        """Over a batch."""
        return _sums(self.loss, batch, result)

    def value(self, sums: Sequence[float]) -> float:
        """1 - left / whole."""
        return _explained(self.loss.deviance, sums)


def _sums(loss: PredictsMean, batch: Batch, result: BatchResult) -> Tensor:
    # float64: phi(y) and N phi(mean) are large and nearly equal
    y, output = batch.target.double(), result.output.double()
    left = loss.deviance(y, loss.mean(output)).sum()
    single = torch.stack((torch.full_like(left, len(y)), left, loss.deviance.generator(y).sum()))
    return torch.cat((single, y.sum(0)))


def _explained(deviance: Deviance, sums: Sequence[float]) -> float:
    count, left, generated, *total = sums
    if not count:
        return float("nan")
    mean = torch.tensor(total, dtype=torch.float64) / count
    whole = 2 * (generated - count * deviance.generator(mean).sum().item())
    return 1 - left / whole if whole > 0 else float("nan")


@dataclass(frozen=True)
class ExplainedPinball:
    """Share of the quantile loss that is gone, against the quantiles of the training targets.

        R1 = 1 - sum_n loss(q(x_n), y_n) / sum_n loss(q_train, y_n)

    Args:
        loss: pinball.
        constant: quantiles of the training targets as an output, one per level and value, level by level.
    Source: Koenker, Machado 1999, J. Am. Stat. Assoc. 94:1296.
    Differs: their constant is that of the same data; ours is known before the test.
    """

    name, title, percent, higher_is_better = "explained_pinball", "explained quantile loss", False, True

    loss: Pinball
    constant: tuple[float, ...]

    @classmethod
    def against(cls, loss: Pinball, targets: Tensor) -> "ExplainedPinball":
        """With the quantiles of training targets [N, k]."""
        levels = torch.tensor(loss.levels, dtype=torch.float64)
        quantiles = torch.quantile(targets.double().cpu(), levels, 0)
        return cls(loss, tuple(quantiles.flatten().tolist()))

    def width(self, targets: int) -> int:
        """Both losses."""
        return 2

    def sums(self, batch: Batch, result: BatchResult) -> Tensor:
        """Over a batch."""
        y, output = batch.target.double(), result.output.double()
        constant = row(self.constant, output).expand_as(output)
        return torch.stack((self.loss.per_example(output, y).sum(), self.loss.per_example(constant, y).sum()))

    def value(self, sums: Sequence[float]) -> float:
        """1 - left / whole."""
        left, whole = sums
        return 1 - left / whole if whole > 0 else float("nan")
