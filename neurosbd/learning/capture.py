"""A batch as one graph of kernels: taken down once and replayed with other examples, for networks bound by launches.

A small network spends its time on a GPU waiting for Python to launch the next kernel. A graph launches all kernels of
a batch at once, at the price that nothing may change but the values in memory: every tensor that one batch leaves to
the next lies at one address for good, and whatever Python decides, or computes as a number, is what it was when the
graph was taken down.

    examples, learning rates -> their places;   .grad = 0;   learn;   state of the rule -> its places;   clip;   step
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from neurosbd.errors import warn
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.batch import UNTAUGHT, Batch, BatchResult
from neurosbd.learning.learner import Learner
from neurosbd.learning.optimizer_step import RatePlaces, Update
from neurosbd.network.inputs import Frames
from neurosbd.noise import KeyPlaces, key_places, noting

_EAGER = 2  # batches before the first that is captured, in which gradients get their places and libraries their buffers


class Graph(Protocol):
    """What takes kernels down and launches them again."""

    def capture(self, work: Callable[[], None]) -> None:
        """Take down what `work` launches, without carrying it out.

        Raises:
            RuntimeError: if something in it cannot be taken down, such as waiting for the device.
        """
        ...

    def replay(self) -> None:
        """Launch it, on what lies in the same places now."""
        ...


class CudaGraph:
    """A graph of a GPU.

    Source: torch.cuda.CUDAGraph.
    """

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], None]) -> None:
        """See `Graph`."""
        with torch.cuda.graph(self._graph):
            work()

    def replay(self) -> None:
        """See `Graph`."""
        self._graph.replay()


def why_eager(learner: Learner) -> str | None:
    """Why the batches of a learner cannot be replayed; None if they can.

    Returns:
        The reason, to be said.
    """
    rule, network = learner.rule, learner.network
    reason = rule.why_eager()
    if reason is not None:
        return reason
    if learner.ranks.size > 1:
        return "several processes add up in every batch"
    device = network.like.device
    if any(tensor.device != device for tensor in _tensors(learner.state_dict())):
        return "the rule keeps numbers that the host looks at"
    return None


class Captured:
    """A learner whose batches are replayed, from the third on; batches of another shape are learned from as ever.

    What it cannot take down is said once, and learned from as ever, too.

    Args:
        learner: that learns.
        graph: makes an empty graph.
        update: made of the gradients of every batch in the same graph; none: whoever asks for a batch makes it.
    """

    def __init__(self, learner: Learner, graph: Callable[[], Graph] = CudaGraph, update: Update | None = None) -> None:
        self.learner = learner
        self.update = update
        self._rates = None if update is None else RatePlaces(update.optimizer, learner.network.like.device)
        self.reason: str | None = why_eager(learner)  # why nothing is replayed
        self.replayed = 0  # batches
        self._new = graph
        self._graph: Graph | None = None
        self._seen = 0
        self._batch: Batch | None = None  # at fixed places
        self._asked: list[str] = []  # what was random in the last batch, in order
        self._keys: KeyPlaces | None = None  # of its random numbers, at fixed places
        self._state: list[Tensor] = []  # of the rule, at fixed places
        self._result: BatchResult | None = None
        self._moments: Mapping[str, tuple[Tensor, ...]] = {}

    def learn(self, batch: Batch, noise: torch.Generator | None = None) -> BatchResult:
        """Set all gradients to those of a batch, see `Learner.learn`, and make the update of them that there is. They
        are cleared before, in their places."""
        inputs = _stacked(batch)
        batch = replace(batch, inputs=inputs)
        if self.reason is None and self._graph is None and self._seen >= _EAGER:
            self._take_down(batch, inputs)
        if self._graph is None or not self._fits(batch, inputs):
            self._seen += 1
            return self._eagerly(batch, noise)
        assert self._batch is not None and self._result is not None and self._keys is not None
        for place, value in zip(_places(self._batch), _places(batch), strict=True):
            place.copy_(value)
        if noise is not None:
            self._keys.fill(noise)
        if self._rates is not None:
            self._rates.fill()
        self._graph.replay()
        self.replayed += 1
        self.learner.learned(self._moments)
        return _copied(self._result)

    def _eagerly(self, batch: Batch, noise: torch.Generator | None) -> BatchResult:
        self._clear()
        notes = None if noise is None else noting(noise)
        result = self.learner.learn(batch, noise=notes)
        if noise is not None and notes is not None:
            noise.set_state(notes.get_state())
            self._asked = notes.asked
        self._bring_home()
        self._make_update()
        return result

    def _take_down(self, batch: Batch, inputs: Tensor) -> None:
        """Capture a batch like this one."""
        target = batch.target if batch.target is UNTAUGHT else batch.target.clone()
        task = None if batch.task is None else batch.task.clone()
        fixed = Batch(
            inputs.clone(), target, batch.weights, task, batch_size=batch.batch_size, first=batch.first,
            networks=batch.networks,
        )  # fmt: skip
        self.learner.load_state_dict(_mapped(self.learner.state_dict(), torch.clone))
        self._batch, self._state = fixed, list(_tensors(self.learner.state_dict()))
        self._keys = key_places(self._asked, self.learner.network.like.device)
        untouched, graph = self._keys.get_state(), self._new()
        try:
            graph.capture(lambda: self._work(fixed))
            if not torch.equal(self._keys.get_state(), untouched):
                raise RuntimeError("something draws random numbers that do not follow from a key")
        except RuntimeError as problem:
            told = next(iter(str(problem).splitlines()), type(problem).__name__)
            self.reason = f"a batch could not be taken down ({told})"
            warn(f"training.graph: {self.reason}; every batch is launched kernel by kernel")
        else:
            self._graph = graph
        self._bring_home(copy=False)
        if self._graph is None:
            self._state = []

    def _work(self, fixed: Batch) -> None:
        """All that a replay does."""
        self._clear()
        steps = Frames(len(fixed.weights), iter(fixed.inputs))
        self._result = self.learner.learn(replace(fixed, inputs=steps), noise=self._keys)
        self._moments = self.learner.measured
        self._bring_home()
        if self._rates is not None:
            with self._rates.looked_up():
                self._make_update()

    def _make_update(self) -> None:
        if self.update is not None:
            self.update.clip()
            self.update.step()

    def _bring_home(self, copy: bool = True) -> None:
        """The state of the rule lies at its fixed places again, with what was learned; without a copy, with what is
        there."""
        if not self._state:
            return
        homes = iter(self._state)
        if copy:
            for home, moved in zip(self._state, _tensors(self.learner.state_dict()), strict=True):
                if home.shape != moved.shape:
                    raise RuntimeError("what the rule keeps has another shape after a batch")
                if home.data_ptr() != moved.data_ptr():
                    home.copy_(moved)
        self.learner.load_state_dict(_mapped(self.learner.state_dict(), lambda _: next(homes)))

    def _clear(self) -> None:
        for parameter in self._parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.learner.network.parameters(), *self.learner.parameters.values()]

    def _fits(self, batch: Batch, inputs: Tensor) -> bool:
        """Whether a batch is one of the captured shape."""
        assert self._batch is not None
        same = [(p.shape, p.dtype) for p in _places(self._batch)] == [(p.shape, p.dtype) for p in _places(batch)]
        return same and batch.weights == self._batch.weights and batch.reward is None and not batch.drives


def _stacked(batch: Batch) -> Tensor:
    """Inputs of all steps, [T, B, *input size]."""
    return batch.inputs if isinstance(batch.inputs, Tensor) else torch.stack(list(batch.inputs))


def _places(batch: Batch) -> list[Tensor]:
    """What is another one in every batch."""
    target = [batch.target] if batch.taught else []
    return [_stacked(batch), *target, *([] if batch.task is None else [batch.task])]


def _copied(result: BatchResult) -> BatchResult:
    """A result that stays when the next batch is replayed."""
    heads = {name: _copied(head) for name, head in result.heads.items()}
    return BatchResult(result.loss.clone(), result.output.clone(), heads)


def _tensors(state: object) -> Iterator[Tensor]:
    """All tensors of a state dict, in order."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for part in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(part)


def _mapped(state: StateDict, change: Callable[[Tensor], Tensor]) -> StateDict:
    """The same containers with other tensors, taken in the same order."""
    return {key: _changed(part, change) for key, part in state.items()}


def _changed(part: object, change: Callable[[Tensor], Tensor]) -> object:
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, Mapping):
        return _mapped(dict(part), change)
    return [_changed(each, change) for each in part] if isinstance(part, list | tuple) else part
