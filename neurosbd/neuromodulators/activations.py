"""Functions g(h) of the activity that can be decorrelated from the score, with their derivatives."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

ActivationName = Literal["identity", "square", "cube", "tanh", "cosine", "sine"]


class Activation(NamedTuple):
    """g and g', elementwise; g' is None where it is 1."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor] | None


def _sech2(h: Tensor) -> Tensor:
    return 1 - torch.tanh(h).square()


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda h: h, None),
    "square": Activation(torch.square, lambda h: 2 * h),
    "cube": Activation(lambda h: h.pow(3), lambda h: 3 * h.square()),
    "tanh": Activation(torch.tanh, _sech2),
    "cosine": Activation(torch.cos, lambda h: -torch.sin(h)),
    "sine": Activation(torch.sin, torch.cos),
}
