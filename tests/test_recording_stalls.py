"""Recording never makes the device wait for the host: told without a device, by the operations of recorded steps."""

import threading
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
from neurosbd.recording import gathering
from neurosbd.recording.gathering import Gathering, SeriesRows
from neurosbd.runs.batches import DatasetBatches
from neurosbd.tracefiles import Clock, Series, open_trace, series
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


class Late:
    """Stands in for pinned memory: what is copied is what the block holds when somebody waits for it, which is as late
    as a GPU may come to it."""

    copies = 0
    waiting: list[str]  # names of the threads that did

    def __init__(self, block: Tensor) -> None:
        self.values = torch.full_like(block, 85)
        self.block = block

    def copy(self) -> None:
        Late.copies += 1

    def wait(self) -> None:
        Late.waiting.append(threading.current_thread().name)
        self.values.copy_(self.block)


def copied_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on all blocks are, and none has been."""
    monkeypatch.setattr(gathering, "host_memory", Late)
    Late.copies, Late.waiting = 0, []


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
    """A session with blocks of few rows that are copied late, one step after its beginning: that moves indices to the
    device, once."""
    monkeypatch.setattr(series, "MOST_ROWS", BLOCK)
    copied_late(monkeypatch)
    made = session(tmp_path, request.param)
    assert made.recorder is not None
    made.recorder.start(tmp_path / "trace.h5", "{}", "stalls")
    step(made)
    return made


def test_a_recorded_step_never_waits_and_a_block_moves_once(training: Session) -> None:
    """Every kind of signal, every step, and whole blocks that the run takes. Must fail if a row, not a block, is moved,
    or each series by itself, or if `take` waits (tried)."""
    assert training.recorder is not None
    gatherings = training.recorder.gatherings
    told = {s.what for gathering in gatherings for s in gathering.series.values()}
    assert told >= {"spikes", "v", "eligibility", "third_factor", "alignment", "hebbian", "dweight", "projection"}
    whole = 0
    for _ in range(BATCHES):
        steps = training.batches.steps
        full = [g for g in gatherings if g.count + (steps // g.clock.steps if g.clock.per == "step" else 1) > g.length]
        before = Late.copies
        waits, moves = step(training)
        assert waits == []
        # Where it will be on the host, the part of each series is taken as an array.
        assert Late.copies - before == len(full)
        assert moves == ["numpy"] * sum(len(g.series) for g in full)
        whole += len(full)
    training.recorder.close(complete=False)
    assert whole >= 3 and set(Late.waiting) == {"trace writer"} and len(Late.waiting) == Late.copies


def test_what_is_copied_late_is_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against blocks of the host itself, with a checkpoint between. Must fail when the writer does not wait (tried)."""
    monkeypatch.setattr(series, "MOST_ROWS", BLOCK)
    found = []
    for late in (False, True):
        if late:
            copied_late(monkeypatch)
        made = session(tmp_path, "dense")
        assert made.recorder is not None
        path = tmp_path / f"{late}.h5"
        made.recorder.start(path, "{}", "late")
        for number in range(BATCHES):
            step(made)
            if number == 2:
                made.recorder.state_dict()
        made.recorder.close(complete=True)
        with open_trace(path) as trace:
            found.append({name: trace[name][:] for name in trace.names})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 10
    for name, values in found[0].items():
        assert np.array_equal(values, found[1][name], equal_nan=True), name


def test_a_block_is_filled_again_once_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when `take` hands it back before `done` is called (tried)."""
    copied_late(monkeypatch)
    one = Series(
        name="hidden.v", what="v", where="hidden", unit="1", path="/acquisition/x/data", clock=0, size=(3,),
        axes=("row", "example", "neuron"), columns=(2, 3), dtype="float32",
    )  # fmt: skip
    gathered = Gathering(Clock(examples=(0, 1)), [one], 4, torch.device("cpu"))
    taken, sample = [], np.arange(2)
    for block in range(3):
        for row in range(4):
            gathered.open(0.0, row, block, 0, sample)
            gathered.put("hidden.v", torch.full((2, 3), 10.0 * block + row))
        taken.append(gathered.take())
    assert Late.waiting == []
    for block, each in enumerate(taken):
        each.wait()
        wanted = np.arange(4)[:, None, None] + 10.0 * block + np.zeros((4, 2, 3))
        assert np.array_equal(each.rows.values["hidden.v"], wanted)
    taken[1].done()
    gathered.open(0.0, 0, 3, 0, sample)
    again = gathered.take()
    assert not np.shares_memory(again.rows.values["hidden.v"], taken[1].rows.values["hidden.v"])  # one was begun before
    gathered.open(0.0, 0, 4, 0, sample)
    after = gathered.take()
    assert np.shares_memory(after.rows.values["hidden.v"], taken[1].rows.values["hidden.v"])


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
