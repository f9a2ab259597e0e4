"""The targets that the model of a loss allows given one output, with their weights: enumerated, or by quadrature."""

import math
from typing import Any

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor

from neurosbd.losses import Bernoulli, Gamma, Gaussian, NegativeBinomial, Pinball, Poisson, SquaredError
from neurosbd.losses.targets import CLASSES
from neurosbd.testing.expansions import scored

CLASSES_OF = 4
COUNTS = 80  # of a count distribution with mean about 1; beyond, less than 1e-16 is left
NODES = 90  # of a quadrature


def outputs(loss: Any, seed: int = 0) -> Tensor:
    """A place [C] that can be an optimum: 4 classes, or 2 values of anything else."""
    generator = torch.Generator().manual_seed(seed)
    values = CLASSES_OF if loss.targets is CLASSES or getattr(loss, "positive_weights", None) else 2
    output = torch.randn(loss.parameters, values, dtype=torch.float64, generator=generator)
    output = output * (0.3 if values == CLASSES_OF else 0.6)  # with smoothing, no class is rarer than that allows
    return output.sort(0).values.flatten()


def accepted(block: Any, loss: Any) -> Any:
    """State of an expansion for a loss; None if it is refused, with a reason."""
    output = outputs(loss)
    target, _ = conditional(loss, output)
    heard = scored(loss, output.expand(len(target), -1), target)
    try:
        return block.init(heard, torch.Generator().manual_seed(3))
    except ValueError as problem:
        assert len(str(problem)) > 40
        return None


def conditional(loss: Any, output: Tensor) -> tuple[Tensor, Tensor]:
    """Targets [N] or [N, k] and weights [N] that sum to 1, for an output [C], float64."""
    if loss.targets is CLASSES:
        return torch.arange(len(output)), loss.probabilities(output[None])[0]
    if isinstance(loss, Bernoulli):
        targets, yes = loss.targets.support(len(output), torch.Generator()), loss.probabilities(output[None])
        return targets, torch.where(targets == 1, yes, 1 - yes).prod(1)
    values = len(output) // loss.parameters
    lines = [_line(loss, output.reshape(loss.parameters, values)[:, k]) for k in range(values)]
    targets = torch.cartesian_prod(*[places for places, _ in lines]).reshape(-1, values)
    weights = torch.cartesian_prod(*[weights for _, weights in lines]).reshape(-1, values).prod(1)
    return targets, weights


def _line(loss: Any, output: Tensor) -> tuple[Tensor, Tensor]:
    """Places and weights of one value of the target."""
    first = output[0].item()
    if isinstance(loss, Poisson):
        counts = np.arange(COUNTS)
        return _pair(counts, stats.poisson.pmf(counts, math.exp(first)))
    if isinstance(loss, NegativeBinomial):
        counts = np.arange(5 * COUNTS)
        return _pair(counts, stats.nbinom.pmf(counts, loss.r, loss.r / (loss.r + math.exp(first))))
    if isinstance(loss, Gamma):
        nodes, weights = special.roots_genlaguerre(NODES, loss.shape - 1)
        return _pair(nodes * math.exp(first) / loss.shape, weights / math.gamma(loss.shape))
    if isinstance(loss, Pinball):
        quantiles = output.numpy()
        between = np.concatenate(([quantiles[0] - 1], (quantiles[1:] + quantiles[:-1]) / 2, [quantiles[-1] + 1]))
        return _pair(between, np.diff((0.0, *loss.levels, 1.0)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    if isinstance(loss, SquaredError):
        spread = 1.0
    else:  # the second output is a log-variance, or a log standard deviation
        spread = math.exp((0.5 if isinstance(loss, Gaussian) else 1.0) * output[1].item())
    return _pair(first + spread * nodes, weights / math.sqrt(2 * math.pi))


def _pair(places: np.ndarray, weights: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(places, dtype=torch.float64), torch.as_tensor(weights, dtype=torch.float64)
