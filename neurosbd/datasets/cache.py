"""Decode once: a set is kept as plain .npy files that are memory-mapped from then on."""

import contextlib
import hashlib
import json
import re
import stat
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.locate import actual, required
from neurosbd.datasets.samples import EventSamples, S, Samples, Splits
from neurosbd.errors import warn
from neurosbd.files.parsing import JsonTable
from neurosbd.files.writing import CACHE_VARIABLE, cache_folder, regular, sweep, workplace

_PURPOSE = "decoding"
_FORMAT = 5
_PIECE = 1 << 20  # bytes that are looked at at once
_KINDS = {kind.__name__: kind for kind in (Samples, EventSamples)}
_SAID = tuple(field.name for field in fields(Splits) if field.name not in ("train", "test"))  # of a set, in words


def cached(definition: DatasetFile, folder: Path, decode: Callable[[], Splits[S]]) -> Splits[S]:
    """The decoded set, from the cache if it is whole there and the files have not changed since.

    What is cut short, damaged or not ours is decoded anew and replaced. Where the cache cannot be written the set is
    decoded each time, which is said.
    """
    store = cache_folder() / "decoded"
    place = store / f"{re.sub('[^A-Za-z0-9_.-]', '_', definition.name)[:64]}-{_fingerprint(definition, folder)}"
    sweep(store, _PURPOSE)
    splits = _read(place)
    if splits is None:
        decoded = decode()
        problem = _kept(decoded, place)
        splits = _read(place)  # also where another process was faster
        if splits is None:
            warn(
                f"{definition.name}: the decoded set cannot be kept in {store} ({problem}), so it is decoded each "
                f"time; let {CACHE_VARIABLE} name a folder that can be written"
            )
            return decoded
    return splits


def _kept(splits: Splits[S], place: Path) -> str:
    """Write the set; what hinders that, or nothing."""
    try:
        _write(splits, place)
    except OSError as problem:
        return problem.strerror or str(problem)
    return "it is damaged as soon as it is written"


def _fingerprint(definition: DatasetFile, folder: Path) -> str:
    tops = [actual(definition, folder, name) for name in required(definition)] or [folder]
    stamps = [stamp for top in tops for stamp in _stamps(top)]
    identity = json.dumps([_FORMAT, definition.model_dump(mode="json"), stamps])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _stamps(top: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the files there, as deep as any reader looks: <split>/<class>/images/<file>."""
    paths = [top] if top.is_file() else [path for deep in ("*", "*/*", "*/*/*") for path in sorted(top.glob(deep))]
    stamps = []
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                stamps.append((str(path), status.st_size, status.st_mtime_ns))
    return stamps


def _write(splits: Splits[S], place: Path) -> None:
    """Build the folder beside its place, then exchange it for what is there."""
    with workplace(place.parent, _PURPOSE) as new, workplace(place.parent, _PURPOSE) as old:
        content: JsonTable = {"place": place.name, "samples": type(splits.train).__name__}
        content |= {name: getattr(splits, name) for name in _SAID}
        for split, samples in (("train", splits.train), ("test", splits.test)):
            values = {field.name: getattr(samples, field.name) for field in fields(samples)}
            arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
            for name, value in arrays.items():
                np.save(new / f"{split}_{name}.npy", np.ascontiguousarray(value))
            content[split] = {name: value for name, value in values.items() if isinstance(value, tuple)}
            content[f"{split}_arrays"] = {name: _stamp(new / f"{split}_{name}.npy") for name in arrays}
        about = {"content": content, "crc32": zlib.crc32(json.dumps(content).encode())}
        (new / "about.json").write_text(json.dumps(about))
        with contextlib.suppress(FileNotFoundError):
            place.replace(old / "replaced")
        new.replace(place)


def _read(place: Path) -> Splits[Any] | None:
    """What is kept there; none if it is not whole, whatever the reason."""
    try:
        about = json.loads(regular(place / "about.json").read_text())
        content = about["content"]
        if about["crc32"] != zlib.crc32(json.dumps(content).encode()) or content["place"] != place.name:
            return None
        said: JsonTable = {name: content[name] for name in _SAID}
        said = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
        return Splits(_samples(content, "train", place), _samples(content, "test", place), **said)
    except (OSError, EOFError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _samples(content: JsonTable, split: str, place: Path) -> Any:
    arrays = {}
    for name, stamp in content[f"{split}_arrays"].items():
        path = place / f"{split}_{name}.npy"
        if _stamp(path, stamp[0]) != stamp:
            raise ValueError(f"{path} is damaged")
        # Copy-on-write, so that torch may wrap it; nothing is ever written back. A file that is shorter than its header
        # says, since it was cut a moment ago, is refused by the mapping itself.
        arrays[name] = np.load(path, mmap_mode="c", allow_pickle=False)
    plain: JsonTable = {name: tuple(value) for name, value in content[split].items()}
    return _KINDS[content["samples"]](**arrays, **plain)


def _stamp(path: Path, expected: int | None = None) -> list[int]:
    """Size and CRC-32 of a file; of one whose size is not the expected one the size alone.

    It is read, not mapped: where a mapped file is cut short meanwhile, the process would end by SIGBUS.
    """
    size, crc = path.stat().st_size, 0
    if expected not in (None, size):
        return [size]
    size = 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            size, crc = size + len(piece), zlib.crc32(piece, crc)
    return [size, crc]
