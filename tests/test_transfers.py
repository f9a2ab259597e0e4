"""Copies to the host beside a run. A GPU is stood in for by streams that do their work when somebody waits for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd import transfers
from neurosbd.datasets import events
from neurosbd.learning.batch import Batch
from neurosbd.network.inputs import Frames
from neurosbd.runs.batches import DatasetBatches
from neurosbd.training import session
from neurosbd.transfers import PinnedMemory, SameMemory, host_memory, to_device


class Stream:
    """Work in order, none of which is done before somebody waits for it."""

    current: "Stream"

    def __init__(self, device: torch.device | None = None) -> None:
        self.work: list[Callable[[], object]] = []

    def launch(self, work: Callable[[], object]) -> None:
        self.work.append(work)

    def wait_stream(self, other: "Stream") -> None:
        before = len(other.work)
        self.launch(lambda: other.run(before))

    def run(self, length: int) -> None:
        """Carry out the first pieces, which are nothing from then on."""
        for place in range(length):
            work, self.work[place] = self.work[place], lambda: None
            work()


class Event:
    """A place in a stream."""

    waits = 0

    def __init__(self, blocking: bool = False) -> None:
        self.blocking = blocking

    def record(self, stream: Stream) -> None:
        self.stream, self.length = stream, len(stream.work)

    def synchronize(self) -> None:
        Event.waits += 1
        self.stream.run(self.length)


class Launched:
    """A tensor whose copies are launched."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def copy_(self, source: torch.Tensor, non_blocking: bool = False) -> None:
        if not non_blocking:
            raise RuntimeError("the host waits for this copy")
        Stream.current.launch(lambda: self.tensor.copy_(source))


@contextmanager
def on(stream: Stream) -> Iterator[None]:
    before, Stream.current = Stream.current, stream
    yield
    Stream.current = before


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A GPU whose current stream is given."""
    Stream.current, Event.waits = Stream(), 0
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream.current)
    monkeypatch.setattr(transfers, "_pinned", lambda like: Launched(torch.full_like(like, -1)))
    transfers._stream_of_copies.cache_clear()
    yield Stream.current
    transfers._stream_of_copies.cache_clear()


def test_a_copy_holds_what_was_launched_before_it_and_nothing_waits(gpu: Stream) -> None:
    """The block is filled and copied, and the run goes on. Must fail when the stream of copies does not wait for that
    of the run, when the copy stops the host, or when `wait` returns at once (all tried)."""
    block = torch.zeros(3)
    memory: Any = PinnedMemory(block)
    gpu.launch(lambda: block.fill_(1))
    memory.copy()
    assert Event.waits == 0 and block.tolist() == [0, 0, 0]
    assert len(gpu.work) == 1  # the copy is not in the way of what the run launches next
    memory.wait()
    assert memory.values.tensor.tolist() == [1, 1, 1] and Event.waits == 1


def test_a_block_is_copied_again_and_again(gpu: Stream) -> None:
    """Must fail when the event is that of the first copy (tried)."""
    block = torch.zeros(3)
    memory: Any = PinnedMemory(block)
    for value in (1.0, 2.0):
        gpu.launch(lambda value=value: block.fill_(value))
        memory.copy()
        memory.wait()
        assert memory.values.tensor.tolist() == [value] * 3


def test_on_the_host_nothing_is_copied() -> None:
    """Must fail when the block has memory of its own on the host (tried)."""
    block = torch.zeros(3)
    memory = host_memory(block)
    assert isinstance(memory, SameMemory) and memory.values is block
    assert to_device(block, torch.device("cpu")) is block


def test_a_trial_goes_to_the_device_as_one_where_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when a tensor of all steps goes step by step (tried): a task of 1,000 steps would be 1,000 copies."""
    moved: list[torch.Size] = []
    monkeypatch.setattr(session, "to_device", lambda tensor, device: moved.append(tensor.shape) or tensor.to(device))
    elsewhere: Any = SimpleNamespace(device=torch.device("meta"))
    whole = Batch(torch.zeros(5, 2, 3), torch.zeros(2, dtype=torch.long))
    found = session.Session._on_device(elsewhere, whole)
    assert isinstance(found.inputs, torch.Tensor) and found.inputs.device.type == found.target.device.type == "meta"
    assert moved == [(5, 2, 3), (2,)]
    moved.clear()
    found = session.Session._on_device(elsewhere, replace(whole, inputs=Frames(5, iter(torch.zeros(5, 2, 3)))))
    assert moved == [(2,)] and [x.device.type for x in found.inputs] == ["meta"] * 5


def test_the_next_batch_is_on_its_way_before_this_one_is_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two epochs, as on a GPU: the weights are those of without, bit for bit, and every trial is made once. Must
    fail when a trial that is on its way is not taken, or is the one that has just been learned from (both tried)."""
    found, order = [], []
    for ahead in (False, True):
        settings = {"data.subset": 10, "training.epochs": 2, "training.batch_size": 16, "time.steps": 4}
        experiment = neurosbd.load_model("digits-snn", settings=settings).build()
        cpu = torch.device("cpu")
        made = session.Session(
            experiment, DatasetBatches(experiment, neurosbd.load_data("digits", subset=10), cpu), cpu
        )
        made._looks_ahead = ahead
        again, learn = made.again, made.learner.learn
        monkeypatch.setattr(made, "again", lambda n, made=made, again=again: order.append((made.epoch, n)) or again(n))
        monkeypatch.setattr(made.learner, "learn", lambda *a, learn=learn, **k: order.append("learn") or learn(*a, **k))
        order.clear()
        for _ in range(2):
            for _ in range(len(made.batches)):
                made.step()
            made.next_epoch()
        found.append(dict(made.network.named_parameters()))
    count = len(made.batches)
    assert order[:4] == [(0, 0), (0, 1), "learn", (0, 2)] and order.count("learn") == 2 * count
    assert sorted(each for each in order if each != "learn") == [(e, n) for e in range(2) for n in range(count)]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_event_frames_wait_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where frames begin is copied when they are ordered. Must fail when it is waited for then (tried)."""
    told: list[str] = []

    class Told(SameMemory):
        def copy(self) -> None:
            told.append("copy")

        def wait(self) -> None:
            told.append("wait")

    monkeypatch.setattr(events, "host_memory", Told)
    batch = events.EventBatch(torch.tensor([[0, 999, 1000, 5000]]), torch.tensor([[1, 1, 0, 2]]), (3,))
    frames = batch.frames(2, 1e-3, binary=False)
    assert told == ["copy"]
    assert [frame.tolist() for frame in frames] == [[[0.0, 2.0, 0.0]], [[1.0, 0.0, 0.0]]]
    assert told == ["copy", "wait"]
