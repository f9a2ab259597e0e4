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
    about: str


def _sech2(h: Tensor) -> Tensor:
    return 1 - torch.tanh(h).square()


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda h: h, None, "g(h) = h: the activity itself, as in EBD."),
    "square": Activation(torch.square, lambda h: 2 * h, "g(h) = h^2."),
    "cube": Activation(lambda h: h.pow(3), lambda h: 3 * h.square(), "g(h) = h^3."),
    "tanh": Activation(torch.tanh, _sech2, "g(h) = tanh h, bounded."),
    "cosine": Activation(
        torch.cos, lambda h: -torch.sin(h), "g(h) = cos h, with sine a random feature of frequency 1."
    ),
    "sine": Activation(torch.sin, torch.cos, "g(h) = sin h, with cosine a random feature of frequency 1."),
}
