"""Optimizers by name: plain torch.optim, over whatever a learner left in `.grad`.

All are torch's fused kernels: the same numbers in one pass over memory instead of several.
"""

from typing import Annotated, Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from neurosbd.files.checkpoints import StateDict
from neurosbd.schema.constants import Fraction, Range, Share, constants

Groups = list[dict[str, Any]]  # {"params": [...], "lr": float}, as torch takes them


class OptimizerChoice(Protocol):
    """Constants of an optimizer."""

    @property
    def lr(self) -> float:
        """Learning rate of a population with rate multiplier 1."""
        ...

    def build(self, groups: Groups) -> Optimizer:
        """The torch optimizer over parameter groups that carry their own rate."""
        ...


Rate = Annotated[float, Range(least=0, most=1e6)]
Floor = Annotated[float, Range(least=1e-38, most=1)]


@constants
class SGD:
    """Gradient descent with momentum: m <- momentum m + g;  w <- w - lr m.

    Args:
        lr: learning rate, 0..1e6.
        momentum: 0..1.
        weight_decay: l2 pull on weights and biases (never on projections), 0..1.
        nesterov: look ahead along the momentum.
    Raises:
        ValueError: if a constant is out of range, or `nesterov` has no momentum to look along.
    Source: Sutskever et al. 2013, ICML; torch.optim.SGD.
    """

    lr: Rate = 0.01
    momentum: Fraction = 0.0
    weight_decay: Fraction = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD.nesterov needs momentum > 0, got 0; set momentum = 0.9, say, or nesterov = false")

    def build(self, groups: Groups) -> Optimizer:
        """torch.optim.SGD."""
        return torch.optim.SGD(
            groups, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov, fused=True
        )


@constants
class Adam:
    """Adaptive moments, with l2 decay added to the gradient.

    Args:
        lr: learning rate, 0..1e6.
        betas: decay of the two moments, 0..1 each.
        eps: floor of the divisor, > 0.
        weight_decay: l2 pull, 0..1.
    Source: Kingma, Ba 2015, ICLR; torch.optim.Adam.
    """

    lr: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Floor = 1e-8
    weight_decay: Fraction = 0.0

    def build(self, groups: Groups) -> Optimizer:
        """torch.optim.Adam."""
        return torch.optim.Adam(groups, self.lr, self.betas, self.eps, self.weight_decay, fused=True)


@constants
class AdamW:
    """Adam with decay of the weights decoupled from the gradient.

    Args:
        lr: learning rate, 0..1e6.
        betas: decay of the two moments, 0..1 each.
        eps: floor of the divisor, > 0.
        weight_decay: decoupled decay, 0..1.
    Source: Loshchilov, Hutter 2019, ICLR; torch.optim.AdamW.
    """

    lr: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Floor = 1e-8
    weight_decay: Fraction = 1e-2

    def build(self, groups: Groups) -> Optimizer:
        """torch.optim.AdamW."""
        return torch.optim.AdamW(groups, self.lr, self.betas, self.eps, self.weight_decay, fused=True)


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def beyond_scaling(optimizer: OptimizerChoice) -> list[str]:
    """What an optimizer does to a gradient besides scaling it by the learning rate, in words; plain SGD: nothing."""
    kind = type(optimizer).__name__
    found = []
    if not isinstance(optimizer, SGD):
        found.append(f"{kind} divides it by its usual size, which turns a window into steps of about lr")
    elif optimizer.momentum:
        found.append(f"momentum = {optimizer.momentum:g} repeats each change in the updates that follow")
    if decay := getattr(optimizer, "weight_decay", 0.0):
        found.append(f"weight_decay = {decay:g} pulls all weights to 0 besides")
    return found


def plain_rates(optimizer: Optimizer) -> dict[int, float | Tensor]:
    """Learning rates of the weights, by their `id`, of which SGD takes their gradients times that and nothing else."""
    plain = ("momentum", "weight_decay", "maximize", "nesterov")
    return {
        id(weight): group["lr"]
        for group in optimizer.param_groups
        if type(optimizer) is torch.optim.SGD and not any(group[key] for key in plain)
        for weight in group["params"]
    }


def optimizer_state(choice: OptimizerChoice) -> StateDict:
    """What an optimizer keeps of a parameter [1]: tensors [1] if there is one for every value, [] if one for all."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = choice.build([{"params": [parameter], "lr": 0.0}])
    parameter.grad = torch.zeros(1)
    optimizer.step()
    return dict(optimizer.state[parameter])
