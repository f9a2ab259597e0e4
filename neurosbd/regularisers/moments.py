"""What homeostases that follow a running moment of the activity share: the ranges of their constants."""

import math


def check_cost(owner: object, weight: float) -> None:
    """Raise ValueError unless 0 <= weight < infinity."""
    if not 0 <= weight < math.inf:
        raise ValueError(f"{type(owner).__name__}.weight must be a number >= 0, got {weight}")


def check_forgetting(owner: object, forgetting: float) -> None:
    """Raise ValueError unless 0 <= forgetting < 1."""
    if not 0 <= forgetting < 1:
        raise ValueError(f"{type(owner).__name__}.forgetting must be in 0 <= lam < 1, got {forgetting}")
