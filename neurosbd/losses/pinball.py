"""Quantile regression."""

from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from neurosbd.losses.targets import REALS, as_values, row
from neurosbd.schema.constants import Legal, constants


def _rising(levels: tuple[float, ...]) -> bool:
    return bool(levels) and all(a < b for a, b in pairwise((0.0, *levels, 1.0)))


@constants
class Pinball:
    """Quantile loss: every output is the value that y stays below with probability tau.

        loss = sum_{tau, k} (y_k - q_{tau k}) (tau - 1[y_k < q_{tau k}])
        score = 1[y < q] - tau

    Outputs are [B, L k]: k quantiles of the first level, then of the second, and so on. Targets are values [B, k].
    The loss has a kink at q = y, which does no harm as long as no single y has probability of its own: for counts
    and other discrete targets the conditional mean of the score is not exactly 0 at the minimiser.

    Args:
        levels: tau, each between 0 and 1, rising; (0.5,) is the median.
    Source: Koenker, Bassett 1978, Econometrica 46:33.
    """

    targets = REALS

    levels: Annotated[tuple[float, ...], Legal("rising numbers between 0 and 1", _rising)] = (0.5,)

    @property
    def parameters(self) -> int:
        """Outputs per value."""
        return len(self.levels)

    @property
    def interval_level(self) -> float:
        """Probability between the first and the last level; 0 of a single one."""
        return self.levels[-1] - self.levels[0]

    def in_units(self, output: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        """offset + scale q for every level, [B, L k]."""
        return offset.repeat(len(self.levels)) + scale.repeat(len(self.levels)) * output

    def interval(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """First and last quantile, [B, k] each."""
        quantile = output.reshape(len(output), len(self.levels), -1)
        return quantile[:, 0], quantile[:, -1]

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example in units of the target, [B]."""
        y, quantile = self._parts(output, target)
        # The indicator as a factor, not a maximum: so autograd agrees with the score at y = q as well.
        return -((y - quantile) * self._indicated(y, quantile)).sum((1, 2))

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, L k]."""
        return self._indicated(*self._parts(output, target)).flatten(1)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Values [B, k] with these quantiles: uniform between them, exponential beyond; put in order if they cross."""
        quantile = output.reshape(len(output), len(self.levels), -1).sort(1).values
        level = row(self.levels, output)
        u = torch.rand(quantile[:, 0].shape, dtype=output.dtype, device=output.device, generator=generator)
        u = u.clamp_min(torch.finfo(output.dtype).tiny)
        below, above = u < level[0], u >= level[-1]
        value = torch.where(below, quantile[:, 0] + torch.log(u / level[0]), quantile[:, -1])
        value = torch.where(above, quantile[:, -1] - torch.log((1 - u) / (1 - level[-1])), value)
        for i in range(len(self.levels) - 1):
            inside = (u >= level[i]) & (u < level[i + 1])
            part = (u - level[i]) / (level[i + 1] - level[i])
            value = torch.where(inside, torch.lerp(quantile[:, i], quantile[:, i + 1], part), value)
        return value

    def information(self, output: Tensor, target: Tensor) -> Tensor:
        """E[score score^T] = min(tau, tau') - tau tau' for the same value, else 0, [B, L k, L k]."""
        level, values = row(self.levels, output), output.shape[1] // len(self.levels)
        same = torch.minimum(level[:, None], level) - level[:, None] * level
        eye = torch.eye(values, dtype=output.dtype, device=output.device)
        return torch.kron(same, eye).expand(len(output), -1, -1)

    def _parts(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        y = as_values(target, output, REALS, tuple(f"{level:g} quantiles" for level in self.levels))
        return y[:, None], output.reshape(len(output), len(self.levels), -1)

    def _indicated(self, y: Tensor, quantile: Tensor) -> Tensor:
        return (y < quantile).to(quantile.dtype) - row(self.levels, quantile)[:, None]
