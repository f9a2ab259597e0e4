"""Runs with traces that tests write themselves, and analyses loaded as the program loads them: by path."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from neurosbd import Run, load_model
from neurosbd.tracefiles import Clock, Rows, Series, TraceWriter
from neurosbd.tracefiles.series import Contents

ROOT = Path(__file__).resolve().parents[1]


def loaded(path: str) -> ModuleType:
    """A script of the repository, 'analysis/dimension.py'."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def analysis(name: str) -> ModuleType:
    """analysis/NAME.py."""
    return loaded(f"analysis/{name}.py")


@dataclass
class Recorded:
    """A signal: values [row, ...], and when each row was taken."""

    name: str
    values: np.ndarray
    epoch: np.ndarray
    batch: np.ndarray
    step: np.ndarray
    size: tuple[int, ...]
    items: tuple[int, ...] | None = None
    sample: np.ndarray | None = None  # none: 0, 1, 2, ...
    on: Literal["train", "test"] = "train"

    @classmethod
    def trials(cls, name: str, values: np.ndarray, batches: int = 1, **more: Any) -> "Recorded":
        """From values [trial, step, example, item], `batches` trials per epoch."""
        trials, steps, _, items = values.shape
        trial = np.repeat(np.arange(trials), steps)
        more.setdefault("size", (items,))
        rows = values.reshape(trials * steps, *values.shape[2:])
        return cls(name, rows, 1 + trial // batches, trial % batches, np.tile(np.arange(steps), trials), **more)

    @classmethod
    def snapshots(cls, name: str, values: list[np.ndarray], **more: Any) -> "Recorded":
        """From weights: the first before the first batch, then one at the end of every epoch of 10 batches."""
        n = len(values)
        epoch = np.arange(n)
        batch = np.where(np.arange(n) == 0, -1, 9)
        rows = np.stack([np.ravel(v) for v in values])
        return cls(name, rows, epoch, batch, np.zeros(n, int), values[0].shape, **more)


def run_with(path: Path, *signals: Recorded, model: str = "pattern-generation") -> Run:
    """A run of a shipped model whose trace holds these signals."""
    clocks, series = [], []
    for number, signal in enumerate(signals):
        per_step = signal.values.ndim == 3
        examples = tuple(range(signal.values.shape[1])) if per_step else ()
        clocks.append(Clock(on=signal.on, per="step" if per_step else "batch", examples=examples))
        where, _, what = signal.name.rpartition(".")
        axes = ("row", "example", "neuron") if per_step else ("row", "synapse")
        dtype = "uint8" if what == "spikes" else "float32"
        name = signal.name + ("@test" if signal.on == "test" else "")
        series.append(Series(name=name, what=what, where=where, unit="1", path=f"/acquisition/s{number}/data",
                             clock=number, axes=axes, columns=signal.values.shape[1:], dtype=dtype,
                             items=signal.items, size=signal.size))  # fmt: skip
    contents = Contents(clocks=tuple(clocks), series=tuple(series), dt=1e-3, batch_size=64, steps=1000)
    path.mkdir(parents=True, exist_ok=True)
    writer = TraceWriter.create(path / "trace.h5", contents, "{}", "a test")
    for number, signal in enumerate(signals):
        length = contents.block_rows(number)
        for start in range(0, len(signal.values), length):
            writer.append(number, _rows(signal, series[number], slice(start, start + length)))
    writer.close(complete=True)
    return Run(path, {"definition": load_model(model).model_dump(mode="json")}, [], {})


def _rows(signal: Recorded, series: Series, rows: slice) -> Rows:
    n = len(signal.values[rows])
    time = (np.arange(rows.start, rows.start + n) * 1e-3).astype(np.float64)
    places = signal.values.shape[1] if signal.values.ndim == 3 else 0
    sample = np.tile(np.arange(places), (n, 1)) if signal.sample is None else signal.sample[rows]
    whole = {name: getattr(signal, name)[rows].astype(np.int32) for name in ("step", "batch", "epoch")}
    values = signal.values[rows].astype(series.dtype)
    return Rows(time=time, sample=sample.astype(np.int64), values={series.name: values}, **whole)
