"""Files of users: models, data sets of every reader, networks of other tools, code."""

import gzip
import os
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image

import neurosbd
from faults.formats import Format
from neurosbd.cli.catalogue import show
from neurosbd.connections import Dense
from neurosbd.datasets.archives import unpack
from neurosbd.datasets.inspect import inspect
from neurosbd.datasets.pictures import SUFFIXES
from neurosbd.files import library
from neurosbd.losses.custom import read as read_loss
from neurosbd.network.network import Connection, Population
from neurosbd.neurons import NEURONS
from neurosbd.report.analyses import chosen

_TEXT = "text without a checksum: another legal text is another legal content"
_BARE = "values without a checksum: every byte is a legal one"
_PIXELS = "no checksum over the decoded pixels: other pixels are legal pixels"
LOSS = '''"""The absolute error."""


def loss(output, target):
    return (output - target).abs().sum(1)
'''
ANALYSIS = '''"""How far the loss is from its minimum."""

from dataclasses import dataclass

from neurosbd.report import measured, panels


@dataclass(frozen=True)
class Result:
    least: float = measured("nat")


def analyse(run):
    return Result(min(line["test_loss"] for line in run.metrics))


def figure(result):
    return panels(1)[0]
'''


def _models(folder: Path) -> None:
    for name in library.names("models"):
        shutil.copy(library.find("models", name), folder)


def _shown(path: Path) -> object:
    return show(str(path))


def _definitions(folder: Path) -> None:
    """A data set of each sort of definition: embedded, generated, own files."""
    for name in ("digits", "diabetes"):
        shutil.copy(library.folder("data") / f"{name}.npz", folder)
    for name in ("digits", "diabetes", "spike-counts", "heteroscedastic"):
        shutil.copy(library.find("data", name), folder)
    _table(folder)
    head = 'about = "mine"\nlicence = "mine"\nsource = "mine"\n'
    (folder / "table.toml").write_text(f'{head}reader = "csv"\nfiles = {{ all = ["labels.csv"] }}\n')
    (folder / "far.toml").write_text(
        f'{head}reader = "idx"\nfolder = "far"\nfiles = {{ train = ["a.gz", "b.gz"], test = ["c.gz", "d.gz"] }}\n'
        f'classes = ["a", "b"]\nmean = [0.5]\nstd = [0.5]\n[[download]]\nurl = "https://127.0.0.1:1/a.gz"\n'
        f'sha256 = "{"0" * 64}"\nsize = 10\n'
    )


def _defined(path: Path) -> object:
    if path.name != "far.toml":
        return neurosbd.load_data(path, root=".")
    try:
        return neurosbd.load_data(path)
    except neurosbd.UsageError as problem:  # its files are nowhere
        if "is not here" in str(problem):
            return "not here"
        raise


def _arrays(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size, packed in (("pictures", (8, 8), True), ("features", (5,), False)):
        arrays: dict[str, np.ndarray] = {}
        for split, count in (("train", 30), ("test", 15)):
            arrays[f"{split}_values"] = rng.integers(0, 256, (count, *size), np.uint8)
            if len(size) == 1:
                arrays[f"{split}_values"] = rng.normal(size=(count, *size)).astype(np.float32)
            arrays[f"{split}_labels"] = np.arange(count) % 3
        (np.savez_compressed if packed else np.savez)(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    values = {f"{split}_{what}": rng.normal(size=size) for split in ("train", "test")
              for what, size in (("values", (20, 3)), ("targets", 20))}  # fmt: skip
    np.savez(folder / "values.npz", **values)  # type: ignore[arg-type]


def _table(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"{a:.3f},{b:.3f},{i % 3},{'test' if i % 4 == 3 else 'train'}"
        for i, (a, b) in enumerate(rng.normal(size=(40, 2)))
    ]
    (folder / "labels.csv").write_text("\n".join(("width,height,label,split", *rows)) + "\n")
    rows = [f'{a:.3e},"{b:.3f}",{a + b:.2f}' for a, b in rng.normal(size=(40, 2))]
    (folder / "values.csv").write_text("\n".join(("a,b,target:sum", *rows)) + "\n")


def _pictures(folder: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / "pictures" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (12, 12) if suffix == ".pgm" else (12, 12, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "pictures" / split / name / f"x_{i}{suffix}")


def _idx(folder: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 10)):
        arrays = {
            "images": rng.integers(0, 256, (count, 5, 5), np.uint8),
            "labels": np.arange(count, dtype=np.uint8) % 2,
        }
        for name, array in arrays.items():
            content = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
            (folder / f"{split}-{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    files = ", ".join(f'{s} = ["{s}-images{suffix}", "{s}-labels{suffix}"]' for s in ("train", "test"))
    (folder / "set.toml").write_text(
        f'about = "x"\nlicence = "x"\nsource = "x"\nreader = "idx"\nclasses = ["a", "b"]\nfiles = {{ {files} }}\n'
    )


def _cifar(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        rows = rng.integers(0, 256, (10, 3073), np.uint8)
        rows[:, 0] = np.arange(10)
        rows.tofile(folder / f"{name}.bin")


def _nmnist(folder: Path, packed: bool) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("Train", 20), ("Test", 10)):
        for number in range(count):
            path = folder / "nmnist" / split / str(number % 10) / f"{number:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            times = np.sort(rng.integers(0, 200_000, 20))
            events = zip(*rng.integers(0, [[34], [34], [2]], (3, 20)), times, strict=True)
            path.write_bytes(b"".join(int(x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for x, y, p, t in events))
        if packed:
            shutil.make_archive(str(folder / "nmnist" / split), "zip", folder / "nmnist", split)
            shutil.rmtree(folder / "nmnist" / split)


def _shd(folder: Path, packed: bool) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        path = folder / f"shd_{split}.h5"
        with h5py.File(path, "w") as file:
            for name, dtype in (("times", np.float16), ("units", np.uint16)):
                data = file.create_dataset(f"spikes/{name}", (20,), h5py.vlen_dtype(dtype))
                for i in range(20):
                    data[i] = (
                        np.sort(rng.uniform(0, 1.4, i)).astype(dtype) if name == "times" else rng.integers(0, 700, i)
                    )
            file["labels"] = np.arange(20, dtype=np.uint16)
        if packed:
            path.with_suffix(".h5.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()


def _nir(folder: Path) -> None:
    import nir

    for kind in ("lif", "cubalif"):
        neuron = partial(NEURONS[kind], tau_mem=2e-3, reset="to_value")
        people = [Population("input", (4,), None), *(Population(n, (3,), neuron()) for n in ("hidden", "output"))]
        ways = [Connection(a, b, Dense(bias=True)) for a, b in (("input", "hidden"), ("hidden", "output"))]
        network = neurosbd.Network(people, ways, torch.Generator().manual_seed(0))
        nir.write(folder / f"{kind}.nir", neurosbd.to_nir(network))


def _read_nir(path: Path) -> object:
    network = neurosbd.from_nir(path)
    return repr(network.populations), repr(network.connections), network.state_dict()


def _archives(folder: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "kept").mkdir()
    for i in range(5):
        (folder / "kept" / f"{i}.bin").write_bytes(rng.bytes(200))
    for kind in ("zip", "gztar"):
        shutil.make_archive(str(folder / "archive"), kind, folder, "kept")
    shutil.rmtree(folder / "kept")


def _unpacked(path: Path) -> object:
    place = unpack(path, Path("out"))
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def _cache(folder: Path) -> None:
    """A decoded set in the cache of an attempt."""
    _arrays(folder)
    os.environ["NEUROSBD_CACHE"] = str(folder / ".cache")
    neurosbd.load_data(folder / "pictures.npz")


def _code(folder: Path) -> None:
    (folder / "mine.py").write_text(LOSS)
    (folder / "own.py").write_text(ANALYSIS)


def _loss(path: Path) -> object:
    read_loss(path)
    return path.read_bytes()


def _analysis(path: Path) -> object:
    return [(analysis.name, analysis.about) for analysis in chosen([path])]


def _set(name: str | None = None, root: str | None = None) -> tuple[Callable[[Path], object], ...]:
    """A data set as a training and as `neurosbd data check` reads it; none: the damaged file is one."""

    def load(path: Path) -> object:
        return neurosbd.load_data(name or path, root=root)

    def check(path: Path) -> object:
        return inspect(name or str(path), root)

    return load, load, check


DATA = {
    "model.toml": Format(_models, ("*.toml",), (_shown,), _TEXT),
    "data.toml": Format(_definitions, ("*.toml",), (_defined,), _TEXT),
    "npz": Format(_arrays, ("*.npz",), _set(), _BARE),
    "csv": Format(_table, ("*.csv",), _set(), _TEXT),
    **{
        suffix[1:]: Format(partial(_pictures, suffix=suffix), (f"pictures/*/*/*{suffix}",), _set("pictures"), _PIXELS)
        for suffix in sorted(SUFFIXES)
    },
    "idx": Format(partial(_idx, suffix=""), ("*-images", "*-labels"), _set("set.toml", "."), _BARE),
    "idx.gz": Format(partial(_idx, suffix=".gz"), ("*.gz",), _set("set.toml", "."), _BARE),
    "cifar": Format(_cifar, ("*.bin",), (_set("cifar10", ".")[0],), _BARE),
    "nmnist": Format(partial(_nmnist, packed=False), ("nmnist/*/*/*.bin",), _set("nmnist", "."), _BARE),
    "nmnist.zip": Format(partial(_nmnist, packed=True), ("nmnist/*.zip",), _set("nmnist", "."), _BARE),
    "shd": Format(partial(_shd, packed=False), ("*.h5",), _set("shd", "."), _BARE),
    "shd.gz": Format(partial(_shd, packed=True), ("*.h5.gz",), _set("shd", "."), _BARE),
    "zip": Format(_archives, ("*.zip",), (_unpacked,), _BARE),
    "tar.gz": Format(_archives, ("*.gz",), (_unpacked,), _BARE),
    "nir": Format(_nir, ("*.nir",), (_read_nir,), _BARE),
    "cache": Format(_cache, (".cache/decoded/*/*",), (_set("pictures.npz")[0],)),
    "loss.py": Format(_code, ("mine.py",), (_loss,), "code of the user's"),
    "analysis.py": Format(_code, ("own.py",), (_analysis,), "code of the user's"),
}  # fmt: skip
