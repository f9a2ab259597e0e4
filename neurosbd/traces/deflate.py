"""Compression of spikes in the plain zlib format, several times as fast as zlib finds its matches."""

import zlib
from typing import Any

import numpy as np

SPARSE = 1 / 32  # spikes per place; below it runs are long, so that looking for them is fast and saves more

# One block whose symbols are 0, 1 and the end; RFC 1951, section 3.2.7. Numbers have their lowest bit first.
_HEADER = (
    "1 01"  # the last block, with a code of its own
    " 00000 00000 0111"  # 257 literals, 1 distance; 18 lengths of the code that tells the lengths:
    " 000 000 010 010 000 000 000 000 000 000 000 000 000 000 000 010 000 010"  # 2 bits each for 18, 0, 2 and 1
    " 01"  # literal 0: 1 bit
    " 10"  # literal 1: 2 bits
    " 11 1111111 11 1001011"  # 138 and 116 literals that do not occur
    " 10"  # the end: 2 bits
    " 00"  # no distance
)
_BITS = np.array([int(bit) for bit in _HEADER if bit != " "], np.uint8)


def compress(values: np.ndarray) -> bytes:
    """Bytes in the zlib format, as every reader of HDF5 knows it.

    Where there are many spikes, silence becomes the bit 0, a spike the bits 1 0, and nothing is looked for: a spike is
    a 1 that moves every later bit on by one place. Few spikes, and other values than 0 and 1, are left to zlib.

    Args:
        values: uint8, contiguous.

    Source: RFC 1950, RFC 1951.

    >>> zlib.decompress(compress(np.array([0, 1, 1, 0, 0], np.uint8)))
    b'\\x00\\x01\\x01\\x00\\x00'
    """
    places: Any = values.reshape(-1)
    if places.max(initial=0) > 1 or np.count_nonzero(places.view(bool)) < SPARSE * len(places):
        stream = zlib.compressobj(1, strategy=zlib.Z_RLE)
        return stream.compress(places) + stream.flush()
    spikes = np.flatnonzero(places.view(bool))
    first, end = len(_BITS), len(_BITS) + len(places) + len(spikes)
    bits = np.zeros(end + 2, np.uint8)
    bits[:first] = _BITS
    bits[spikes + np.arange(first, first + len(spikes))] = 1
    bits[end:] = 1
    return b"\x78\x01" + np.packbits(bits, bitorder="little").tobytes() + zlib.adler32(places).to_bytes(4, "big")
