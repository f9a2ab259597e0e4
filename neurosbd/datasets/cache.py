"""Decode once: a set is kept as plain .npy files that are memory-mapped from then on."""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.locate import cache_folder, required
from neurosbd.datasets.samples import Samples, Splits

_FORMAT = 1


def cached(definition: DatasetFile, folder: Path, decode: Callable[[], Splits]) -> Splits:
    """The decoded set, from the cache if the files have not changed since.

    Where the cache cannot be written the set is simply decoded each time.
    """
    place = cache_folder() / "decoded" / f"{definition.name}-{_fingerprint(definition, folder)}"
    if not place.is_dir():
        splits = decode()
        with contextlib.suppress(OSError):
            _write(splits, place)
        if not place.is_dir():
            return splits
    return _read(place)


def _fingerprint(definition: DatasetFile, folder: Path) -> str:
    tops = [folder / name for name in required(definition)] or [folder]
    files = [p for top in tops for p in ([top] if top.is_file() else sorted(top.rglob("*"))) if p.is_file()]
    stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    identity = json.dumps([_FORMAT, definition.model_dump(mode="json"), stamps])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _write(splits: Splits, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=".decoding-", dir=place.parent))
    try:
        for name, samples in (("train", splits.train), ("test", splits.test)):
            np.save(workplace / f"{name}_values.npy", np.ascontiguousarray(samples.values))
            np.save(workplace / f"{name}_labels.npy", samples.labels)
        (workplace / "classes.json").write_text(json.dumps(splits.classes))
        workplace.replace(place)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _read(place: Path) -> Splits:
    def samples(name: str) -> Samples:
        # Copy-on-write, so that torch may wrap it; nothing is ever written back.
        values = np.load(place / f"{name}_values.npy", mmap_mode="c", allow_pickle=False)
        return Samples(values, np.load(place / f"{name}_labels.npy", allow_pickle=False))

    return Splits(samples("train"), samples("test"), tuple(json.loads((place / "classes.json").read_text())))
