"""Damage to the bytes of a file, drawn from a seed."""

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random], bytes]

EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**40,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
HOSTILE = (
    b"", b"-1", b"0", b"1", b"1e999", b"-1e308", b"nan", b"inf", b"null", b"true", b"[]", b"{}", b'""', b"9" * 5000,
    b"1" * 18, b"1000000000", b"[" * 3000, b"{" * 3000, b'{"a":' * 2000, b"a." * 3000 + b"a = 1\n", b"../../escaped",
    b"/etc/passwd", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n\n\n", b"\t", b"'", b'"', b"'''", b'"""', b"#",
    b"=", b",", b"=1+1", b"\x1b[2J\x1b]0;title\x07", "\u202egnp.exe".encode(), "\u2028".encode(), b"a" * 100_000,
    b"\\", b"\\u0000", b"\\ud800", b"%s%n", b"{kind}", b"(0,)", b"(1000000000000, 8, 8)", b"|O", b"sbd", b"kind",
)  # fmt: skip
_TOKEN = re.compile(rb"[A-Za-z_][A-Za-z_.0-9]*|-?\d+(?:\.\d+)?(?:e-?\d+)?")


def mutated(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The content with one to three damages, and their names. What is packed is damaged packed or unpacked."""
    kinds = [*MUTATIONS, "inside", "inside", "inside"] if _packing(content) else [*MUTATIONS]
    names = rng.choices(kinds, k=rng.choice((1, 1, 1, 2, 3)))
    for name in names:
        content = (_inside if name == "inside" else MUTATIONS[name])(content, rng)
    return content, ", ".join(names)


def _span(content: bytes, rng: random.Random) -> tuple[int, int]:
    """Some bytes in a row, mostly few, often in the head or the tail, where sizes are written."""
    length = len(content)
    if not length:
        return 0, 0
    start = rng.choice(
        (rng.randrange(length), rng.randrange(min(length, 256)), length - 1 - rng.randrange(min(length, 256)))
    )
    return start, min(length, start + rng.choice((1, 2, 4, 8, 16, 64, 512, 4096)))


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if changed:
            changed[rng.choice((rng.randrange(len(changed)), rng.randrange(min(256, len(changed)))))] ^= (
                1 << rng.randrange(8)
            )
    return bytes(changed)


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((rng.randrange(len(content) + 1), max(0, len(content) - rng.randrange(1, 9)), 0))]


def _extend(content: bytes, rng: random.Random) -> bytes:
    return content + rng.choice((rng.randbytes(rng.randrange(1, 100)), bytes(rng.randrange(1, 5000)), content))


def _zero(content: bytes, rng: random.Random) -> bytes:
    start, stop = _span(content, rng)
    return content[:start] + bytes(stop - start) + content[stop:]


def _swap(content: bytes, rng: random.Random) -> bytes:
    (a, b), (c, d) = sorted((_span(content, rng), _span(content, rng)))
    b = min(b, c)
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, stop = _span(content, rng)
    return content[:stop] + content[start:stop] * rng.choice((1, 2, 100)) + content[stop:]


def _drop(content: bytes, rng: random.Random) -> bytes:
    start, stop = _span(content, rng)
    return content[:start] + content[stop:]


def _extreme(content: bytes, rng: random.Random) -> bytes:
    """An integer of some width becomes one of the largest or smallest."""
    start, _ = _span(content, rng)
    width = rng.choice("BHIQ")
    packed = struct.pack(rng.choice("<>") + width, rng.choice(EXTREMES) % 256 ** struct.calcsize(width))
    return content[:start] + packed + content[start + len(packed) :]


def _token(content: bytes, rng: random.Random) -> bytes:
    """A word or a number becomes a hostile one, or another of the file."""
    found = [match.span() for match in _TOKEN.finditer(content[:200_000])]
    if not found:
        return _extreme(content, rng)
    start, stop = rng.choice(found)
    other = slice(*rng.choice(found))
    return content[:start] + rng.choice((*HOSTILE, content[other], content[other])) + content[stop:]


def _lines(content: bytes, rng: random.Random) -> bytes:
    """A line is dropped, repeated, or put elsewhere."""
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        return _repeat(content, rng)
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.choice((0, 1, 2))):
        lines.insert(rng.randrange(len(lines) + 1), line)
    return b"".join(lines)


def _packing(content: bytes) -> bool:
    return content[:2] in (b"PK", b"\x1f\x8b")


def _inside(content: bytes, rng: random.Random) -> bytes:
    """What is packed in a zip or gzip file is damaged and packed again, so that the sums of the packing are right."""
    try:
        if content[:2] == b"\x1f\x8b":
            return gzip.compress(mutated(gzip.decompress(content), rng)[0])
        with zipfile.ZipFile(io.BytesIO(content)) as old:
            members = [(member.filename, old.read(member)) for member in old.infolist()]
    except (
        zipfile.BadZipFile,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
        struct.error,
        RuntimeError,
    ):  # damaged before
        return _flip(content, rng)
    victim = rng.randrange(len(members)) if members else 0
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as new:
        for number, (name, inner) in enumerate(members):
            new.writestr(name, mutated(inner, rng)[0] if number == victim else inner)
    return stream.getvalue()


MUTATIONS: dict[str, Mutation] = {
    "flip": _flip, "truncate": _truncate, "extend": _extend, "zero": _zero, "swap": _swap, "repeat": _repeat,
    "drop": _drop, "extreme": _extreme, "token": _token, "lines": _lines,
}  # fmt: skip
