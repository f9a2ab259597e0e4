"""Decode once: a set is kept as plain .npy files that are memory-mapped from then on."""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.locate import actual, cache_folder, required
from neurosbd.datasets.samples import EventSamples, Samples, Splits

_FORMAT = 4
_KINDS = {kind.__name__: kind for kind in (Samples, EventSamples)}
_SAID = tuple(field.name for field in fields(Splits) if field.name not in ("train", "test"))  # of a set, in words


def cached(definition: DatasetFile, folder: Path, decode: Callable[[], Splits[Any]]) -> Splits[Any]:
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
    tops = [actual(definition, folder, name) for name in required(definition)] or [folder]
    files = [p for top in tops for p in ([top] if top.is_file() else sorted(top.rglob("*"))) if p.is_file()]
    stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    identity = json.dumps([_FORMAT, definition.model_dump(mode="json"), stamps])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _write(splits: Splits[Any], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=".decoding-", dir=place.parent))
    try:
        about: dict[str, Any] = {"samples": type(splits.train).__name__}
        about |= {name: getattr(splits, name) for name in _SAID}
        for split, samples in (("train", splits.train), ("test", splits.test)):
            content = {field.name: getattr(samples, field.name) for field in fields(samples)}
            for name, value in content.items():
                if isinstance(value, np.ndarray):
                    np.save(workplace / f"{split}_{name}.npy", np.ascontiguousarray(value))
            about[split] = {name: value for name, value in content.items() if isinstance(value, tuple)}
        (workplace / "about.json").write_text(json.dumps(about))
        workplace.replace(place)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _read(place: Path) -> Splits[Any]:
    about = json.loads((place / "about.json").read_text())

    def samples(split: str) -> Any:
        # Copy-on-write, so that torch may wrap it; nothing is ever written back.
        arrays = {
            path.stem.removeprefix(f"{split}_"): np.load(path, mmap_mode="c", allow_pickle=False)
            for path in place.glob(f"{split}_*.npy")
        }
        plain: dict[str, Any] = {name: tuple(value) for name, value in about[split].items()}
        return _KINDS[about["samples"]](**arrays, **plain)

    said = {name: tuple(about[name]) if isinstance(about[name], list) else about[name] for name in _SAID}
    return Splits(samples("train"), samples("test"), **said)
