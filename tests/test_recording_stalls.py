"""Recording never makes the device wait for the host: told without a device, by the operations of recorded steps."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_recording import SPIKING, model
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import neurosbd
from neurosbd.recording.gathering import SeriesRows
from neurosbd.runs.batches import DatasetBatches
from neurosbd.tracefiles import series
from neurosbd.training.session import Session

BLOCK, BATCHES = 6, 5  # rows, training steps
WAITING = {  # the shape or the value of their result has to come to the host
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "masked_select", "_unique", "_unique2",
    "unique_dim", "unique_consecutive", "repeat_interleave", "bincount",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
MOVING = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.item, Tensor.__array__, Tensor.cuda, torch.from_numpy}


class Stalls(TorchDispatchMode):
    """Keeps the names of operations that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in WAITING or masks:
            self.found.append(f"{name} with a mask" if masks else name)
        return func(*args, **(kwargs or {}))


class Moves(TorchFunctionMode):
    """Keeps the names of calls that move values between host and device, or would if there were two."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*args[1:], *(kwargs or {}).values()]
        to = func is Tensor.to and any(isinstance(value, str | torch.device) for value in given)
        if to or func in MOVING:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


def session(folder: Path, net: str) -> Session:
    """A recorded training that has not begun, of a spiking net with maps or without."""
    changes: dict[str, Any] = {
        "record.signals": SPIKING, "data.subset": 10, "training.batch_size": 16, "training.epochs": 1,
        "training.optimizer": {"kind": "sgd", "lr": 0.1}, "training.rates": {}, "time.steps": 4,
    }  # fmt: skip
    source: Any = "digits-snn" if net == "dense" else model(folder, spiking=True)
    experiment = neurosbd.load_model(source, settings=changes).build()
    batches = DatasetBatches(experiment, neurosbd.load_data("digits", subset=10), torch.device("cpu"))
    return Session(experiment, batches, torch.device("cpu"))


def step(training: Session) -> tuple[list[str], list[str]]:
    """What waits and what moves in a recorded training step, from the frames on their device to the changed weights."""
    assert training.recorder is not None
    batches, number = training.batches, training.number
    trials = [replace(trial, inputs=list(trial.inputs)) for trial in (batches.batch(0, number) for _ in range(2))]
    sample = batches.samples("train", 0, number)
    noise = [torch.Generator().manual_seed(number) for _ in range(2)]
    training.optimizer.zero_grad()
    with Stalls() as stalls, Moves() as moves:
        trial_recorder = training.recorder.trial("train", 0, number, trials[0], sample)
        training.learner.learn(trials[0], trial_recorder.observers, noise[0], trial_recorder.learning_observer)
        trial_recorder.on_gradients(lambda: (trials[1], noise[1]))
        training.optimizer.step()
        trial_recorder.on_update()
    training.number += 1
    return stalls.found, moves.found


@pytest.fixture(params=["dense", "conv"])
def training(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session with blocks of few rows, one step after its beginning: that moves indices to the device, once."""
    monkeypatch.setattr(series, "MOST_ROWS", BLOCK)
    made = session(tmp_path, request.param)
    assert made.recorder is not None
    made.recorder.start(tmp_path / "trace.h5", "{}", "stalls")
    step(made)
    return made


def test_a_recorded_step_never_waits_and_a_block_moves_once(training: Session) -> None:
    """Every kind of signal, every step. Must fail if a row, not a block, is moved, or each series by itself."""
    assert training.recorder is not None
    gatherings = training.recorder.gatherings
    told = {s.what for gathering in gatherings for s in gathering.series.values()}
    assert told >= {"spikes", "v", "eligibility", "third_factor", "alignment", "hebbian", "dweight", "projection"}
    whole = 0
    for _ in range(BATCHES):
        steps = training.batches.steps
        full = [g for g in gatherings if g.count + (steps // g.clock.steps if g.clock.per == "step" else 1) > g.length]
        waits, moves = step(training)
        assert waits == []
        # Once it is on the host, the part of each series is taken as an array.
        assert sorted(moves) == sorted(["cpu"] * len(full) + ["numpy"] * sum(len(g.series) for g in full))
        whole += len(full)
    training.recorder.close(complete=False)
    assert whole >= 3


STALLING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda value: value.sum().item(),
    "bool": lambda value: bool(value.any()),
    "float": lambda value: float(value.max()),
    "mask": lambda value: value[value > 0],
    "nonzero": lambda value: value.nonzero(),
    "where": lambda value: torch.where(value > 0),
    "masked_select": lambda value: torch.masked_select(value, value > 0),
    "equal": lambda value: torch.equal(value, value),
    "unique": lambda value: torch.unique(value),
    "cpu": lambda value: value.cpu(),
    "to": lambda value: value.to("cpu", non_blocking=True),
    "tolist": lambda value: value.tolist(),
    "array": lambda value: np.asarray(value),
}


@pytest.mark.parametrize("way", STALLING)
def test_whatever_waits_is_found(training: Session, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The test above would fail for a `put` that looks at its values."""
    put = SeriesRows.put

    def looking(self: SeriesRows, at: int, value: Tensor | None, present: Tensor | None) -> None:
        if value is not None:
            STALLING[way](value.detach())
        put(self, at, value, present)

    quiet = [len(found) for found in step(training)]
    monkeypatch.setattr(SeriesRows, "put", looking)
    loud = [len(found) for found in step(training)]
    assert sum(loud) - sum(quiet) > training.batches.steps
    assert training.recorder is not None
    training.recorder.close(complete=False)
