"""The sets that ship whose targets are values, and a generator to draw with."""

import torch

SHIPPED = ("diabetes", "doctor-visits", "heteroscedastic", "spike-counts")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
