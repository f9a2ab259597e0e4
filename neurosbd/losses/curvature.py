"""How the score moves with the output: the Hessian of a loss, times a direction."""

import torch
from torch import Tensor

from neurosbd.losses.generic import PerExample


def curved(per_example: PerExample, output: Tensor, target: Tensor, direction: Tensor) -> Tensor:
    """(d score / d output) direction of every example, [B, C].

    The Hessian of the loss is symmetric, so this is also the derivative of score . direction. It is taken by autograd
    at the output alone, twice through the loss itself: forward mode through `score` would do for the losses of the
    table, but not for a user's own, whose score is made by autograd already.

    Args:
        per_example: of a loss, (output, target) -> [B].
        output: [B, C].
        target: legal for the loss.
        direction: [B, C].

    >>> from neurosbd.losses import SquaredError
    >>> curved(SquaredError().per_example, torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([[3., 4.]])
    """
    with torch.enable_grad():
        leaf = output.detach().requires_grad_()
        (score,) = torch.autograd.grad(per_example(leaf, target).sum(), leaf, create_graph=True)
        if not score.requires_grad:  # a loss of straight lines
            return torch.zeros_like(direction)
        (moved,) = torch.autograd.grad(score, leaf, direction, materialize_grads=True)
    return moved
