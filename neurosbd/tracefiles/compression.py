"""Compression of spikes in the plain zlib format, several times as fast as zlib finds its matches."""

import zlib
from typing import Any, NamedTuple

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
).replace(" ", "")
_END = 0b11
_ADLER = 65521


class _Codes(NamedTuple):
    """Of all 2^16 patterns of 16 places, the first one in the lowest bit."""

    bits: np.ndarray  # their code, the first bit lowest, uint32
    length: np.ndarray  # its bits: 16 and one more per spike, uint8
    places: np.ndarray  # sum of the places of the spikes, 0..120, uint8


def _codes() -> _Codes:
    """Place by place: silence is the bit 0, a spike the bits 1 0."""
    patterns = np.arange(1 << 16)
    bits, length, places = (np.zeros(1 << 16, np.int64) for _ in range(3))
    for place in range(16):
        spike = patterns >> place & 1
        bits |= spike << length
        length += 1 + spike
        places += place * spike
    return _Codes(bits.astype(np.uint32), length.astype(np.uint8), places.astype(np.uint8))


_CODES = _codes()


def compress(values: np.ndarray) -> bytes:
    """Bytes in the zlib format, as every reader of HDF5 knows it.

    Where there are many spikes, silence becomes the bit 0, a spike the bits 1 0, and nothing is looked for: 16 places
    become a code at once. Few spikes, and other values than 0 and 1, are left to zlib.

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
    count = len(places)
    packed = np.zeros(4 * (count // 32 + 1), np.uint8)  # by 32 places; the last ones, fewer than 32, are silence
    packed[: -(-count // 8)] = np.packbits(places, bitorder="little")
    patterns = packed.view("<u2")
    bits, length, within = (table.take(patterns) for table in _CODES)
    stream = _joined(bits, length, len(packed) * 8 - count)
    return b"\x78\x01" + stream + _checksum(length, within, count).to_bytes(4, "big")


def _joined(bits: np.ndarray, length: np.ndarray, surplus: int) -> bytes:
    """The codes one behind the other, between the header and the end; `surplus` places do not exist.

    Two codes are 32 to 64 bits, so that each word of 64 has the beginning of one or two such pairs: it is the first
    one, the last one (maybe the same), and what the last one of the word before left over.
    """
    header = len(_HEADER)
    pairs = bits[0::2] | bits[1::2].astype(np.uint64) << length[0::2].astype(np.uint64)
    lengths = length[0::2] + length[1::2]
    lengths[-1] -= surplus
    pairs[-1] |= np.uint64(_END << int(lengths[-1]))
    lengths[-1] += 2
    ends = np.cumsum(lengths, dtype=np.int64) + header % 64
    begins = ends - lengths
    words, shift = begins >> 6, (begins & 63).astype(np.uint64)
    low = pairs << shift
    over = pairs >> np.uint64(1) >> (np.uint64(63) - shift)
    last = np.append(np.flatnonzero(words[1:] != words[:-1]), len(words) - 1)
    first = np.append(0, last[:-1] + 1)
    stream = np.zeros(len(last) + 1, "<u8")
    stream[:-1] = low[first] | low[last]
    stream[1:] |= over[last]
    before = header // 64 * 64
    start = int(_HEADER[::-1], 2) | int(stream[0]) << before
    size = -(-(before + int(ends[-1])) // 8)
    return (start.to_bytes(before // 8 + 8, "little") + stream[1:].tobytes())[:size]


def _checksum(length: np.ndarray, within: np.ndarray, count: int) -> int:
    """Adler-32 of `count` places: 1 plus their sum, and the sum of all sums on the way to it, modulo 65521.

    The k-th of 16 places is in 16 (n - k) of the sums on the way, less its place among the 16.
    """
    spikes = length.astype(np.int64) - 16
    total = int(spikes.sum())
    beyond = 16 * len(length) - count  # places counted though they do not exist
    sums = 16 * int(np.cumsum(spikes).sum()) - int(within.sum(dtype=np.int64)) - beyond * total
    return (count + sums) % _ADLER << 16 | (1 + total) % _ADLER
