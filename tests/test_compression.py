"""Our own deflate: whatever it writes, zlib reads back."""

import zlib

import numpy as np
import pytest

from neurosbd.tracefiles.compression import compress


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 1000, 65_537])
@pytest.mark.parametrize("density", [0.0, 0.001, 0.03, 0.05, 0.3, 0.9, 1.0])
def test_what_is_compressed_comes_back(length: int, density: float) -> None:
    """Must fail when a bit is off by one place, or the checksum is of something else."""
    rng = np.random.default_rng(length)
    spikes = (rng.random(length) < density).astype(np.uint8)
    assert zlib.decompress(compress(spikes)) == spikes.tobytes()


def test_other_bytes_are_left_to_zlib() -> None:
    values = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)
    assert zlib.decompress(compress(values)) == values.tobytes()
    assert zlib.decompress(compress(values.reshape(50, 10, 10) % 3)) == (values % 3).tobytes()


def test_dense_spikes_take_less_than_two_bits_each() -> None:
    spikes = (np.random.default_rng(0).random(80_000) < 0.2).astype(np.uint8)
    assert len(compress(spikes)) < 80_000 * 1.25 / 8
