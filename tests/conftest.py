"""A private cache, and the small networks that tests share with `neurosbd.testing`."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

# The tensors here are small: more threads only wait for each other, and tests run beside other work. OpenMP looks once,
# when torch is loaded; a process started by a test has to find the same, since other threads give other roundings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NEUROSBD_CACHE"] = tempfile.mkdtemp(prefix="neurosbd-tests-")

import torch

from neurosbd.testing.networks import cnn, deep, lc, mlp

__all__ = ["cnn", "deep", "lc", "mlp"]
REAL = os.environ.get("NEUROSBD_DATA", "")
# As at a terminal, however the tests were started: a shell starts what it puts into the background deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """Folder with the official files of the real sets."""
    if not REAL or not Path(REAL).is_dir():
        pytest.skip("NEUROSBD_DATA does not point to the real data sets")
    return Path(REAL)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)
