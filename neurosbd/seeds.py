"""Randomness: one seed, one independent generator per purpose.

Streams do not depend on each other, so two rules of one seed start from the same weights and see the
same batches, and a resumed run draws what the interrupted one would have drawn.
"""

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """CPU generator of a purpose, for instance `generator(0, "order", epoch)`.

    >>> generator(0, "weights").initial_seed() == generator(0, "weights").initial_seed()
    True
    >>> generator(0, "weights").initial_seed() == generator(0, "order", 1).initial_seed()
    False
    """
    text = ":".join(map(str, (seed, *purpose)))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
