"""A batch of stimuli and what they should lead to, checked where it is made."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.learning.ranks import Ranks
from neurosbd.network.inputs import Frames, gone_once_shown
from neurosbd.network.network import Frame, Network

UNTAUGHT = torch.empty(0)  # the target of a batch that has none
UNSCORED = "no step of the trial was scored: give at least one weight above 0"


class BatchResult(NamedTuple):
    """What a batch gave, for bookkeeping; on the device, without a graph."""

    loss: Tensor  # mean loss of the batch, weighted mean over the scored steps, []; of several networks [networks]
    output: Tensor  # the answer, [B, C]: mean of the readout over the scored steps, unless the network says otherwise
    heads: Mapping[str, "BatchResult"] = MappingProxyType({})  # the same of every head


class Progress(NamedTuple):
    """How much of the training is done, 0..1, for those who decide and for those who compute."""

    number: float
    tensor: Tensor  # [], float64, where the network is; at one address for all batches of a learner


START = Progress(0.0, torch.zeros((), dtype=torch.float64))


@dataclass(frozen=True)
class Batch:
    """One batch of stimuli and what they should lead to.

    Args:
        inputs: [T, B, *input size], or anything that yields [B, *input size] step by step. Of examples that stand
            still, x [B, *input size], it is x[None]: one step. Spikes may be of type bool, a byte each, and become
            numbers step by step.
        target: labels [B], or targets [B, k] for every step, or [T, B, k] for each; none where nothing but rewards is
            to be learned from.
        weights: how much the score of each step counts, T numbers >= 0 that sum to 1 or less; none: 1 / T each, the
            mean over the steps. Inputs that do not know their number of steps need them.
        task: of each example, integers [B], for rewards with a baseline per task.
        reward: the reward [B] of a step, or None, for rules that want one. Without it the reward is 1 for every
            example that the output so far classifies correctly, else 0, once, at the last scored step.
        batch_size: of the whole batch, if more examples belong to it than are here: those of other processes. Scores
            and losses are means over the whole; 0: all are here.
        first: number in the whole batch of the first example that is here.
        drives: added to the drive of populations at every step, {name: [T, B, *size]}: currents, stimuli.
        networks: that learn side by side, each from examples of its own: axis B counts examples and within them
            networks, see `connections.stacked`.
    Raises:
        UsageError: if they do not belong together; what a network can be shown is asked when it runs.
    """

    inputs: Tensor | Iterable[Tensor]
    target: Tensor = UNTAUGHT
    weights: Sequence[float] = ()
    task: Tensor | None = None
    reward: Callable[[int, Frame], Tensor | None] | None = None
    batch_size: int = 0
    first: int = 0
    drives: Mapping[str, Tensor] = field(default_factory=dict)
    networks: int = 1

    def __post_init__(self) -> None:
        for name, value in (("inputs", self.inputs), ("target", self.target), ("task", self.task)):
            _check_kind(name, value)
        if self.reward is not None and not callable(self.reward):
            raise UsageError(
                f"reward must be a function (step, frame) -> rewards [B] or None, got {type(self.reward).__name__}; "
                f"of one reward at the end: lambda t, frame: rewards if t == T - 1 else None"
            )
        steps = len(self.inputs) if isinstance(self.inputs, Sized) else None
        object.__setattr__(self, "weights", _weights(self.weights, steps))
        for name, drive in self.drives.items():
            if not isinstance(drive, Tensor) or drive.shape[:1] != (len(self.weights),):
                shape = list(drive.shape) if isinstance(drive, Tensor) else type(drive).__name__
                raise UsageError(f"the drive of '{name}' is {shape}; give [T, B, *size] with T = {len(self.weights)}")
        self._check_sizes()

    @property
    def taught(self) -> bool:
        """Whether there is a target."""
        return self.target is not UNTAUGHT

    @property
    def target_axis(self) -> int:
        """Which axis of the target counts examples: the second where there is one for every step."""
        return 1 if self.target.ndim == 3 else 0

    def examples(self, here: int) -> int:
        """B of the whole batch, of which so many examples are here; of several networks, that of each."""
        return self.batch_size or here // self.networks

    def target_at(self, t: int) -> Tensor:
        """Target of step t, where there is one."""
        return self.target[t] if self.target.ndim == 3 else self.target

    def targets(self, t: int, steps: int) -> Tensor:
        """Targets of some steps from t on, [K B] or [K B, k], step by step."""
        if self.target.ndim == 3:
            return self.target[t : t + steps].flatten(0, 1)
        return self.target if steps == 1 else self.target.repeat(steps, *(1,) * (self.target.ndim - 1))

    def frames(self) -> Tensor | Iterable[Tensor]:
        """The inputs step by step; those that do not know their number are counted.

        Raises:
            UsageError: if there are more or fewer of them than weights.
        """
        return self.inputs if isinstance(self.inputs, Sized) else self._counted()

    def _counted(self) -> Iterator[Tensor]:
        steps, wanted = 0, len(self.weights)
        for x in self.inputs:
            if steps == wanted:
                raise UsageError(f"there are {wanted} weights, but the inputs go on after {wanted} steps; one each")
            steps += 1
            yield x
        if steps < wanted:
            raise UsageError(f"there are {wanted} weights, but the inputs ended after {steps} steps; give one each")

    def _check_sizes(self) -> None:
        """The batch of inputs, target and task, as far as they know it."""
        target = self.target
        if not self.taught:
            return
        each = target.ndim == 3
        if target.ndim not in (1, 2, 3) or (each and len(target) != len(self.weights)):
            raise UsageError(
                f"target is {list(target.shape)}; give labels [B], targets [B, k] for every step, or [T, B, k] with "
                f"T = {len(self.weights)}"
            )
        batch = target.shape[1] if each else len(target)
        if not batch and not self.batch_size:  # the share of a rank may be empty, and knows of how many it is one
            raise UsageError("a batch of no examples has no loss to learn from; leave it out")
        if self.task is not None and self.task.shape != (batch,):
            raise UsageError(f"task is {list(self.task.shape)}; give an integer per example, [{batch}]")
        if isinstance(self.inputs, Tensor) and self.inputs.ndim > 1 and self.inputs.shape[1] != batch:
            shape = list(self.inputs.shape)
            what = "it has no axis of steps: x[None]" if shape[0] == batch and len(self.weights) == shape[0] else ""
            if what and len(shape) > 2:
                what = "give x[None] if it has no axis of steps, x.transpose(0, 1) if the batch comes first"
            raise UsageError(
                f"inputs are {shape}, so the batch of [T, B, *size] is {shape[1]}, but there are {batch} targets"
                f"{'; ' + what if what else ''}"
            )


def _check_kind(name: str, value: object) -> None:
    """Tensors where tensors are needed."""
    if isinstance(value, Tensor):
        if name == "inputs" and value.ndim < 2:
            raise UsageError(f"inputs are {list(value.shape)}; give [T, B, *input size]")
        return
    if name == "task" and value is None:
        return
    array = hasattr(value, "__array__")
    if name == "inputs" and isinstance(value, Iterable) and not (array or isinstance(value, str)):
        return
    how = f"; make it one with torch.as_tensor({name})" if array or isinstance(value, list) else ""
    raise UsageError(f"{name} must be a tensor, got {type(value).__name__}{how}")


def _weights(weights: Iterable[float] | None, steps: int | None) -> tuple[float, ...]:
    """One per step; their mean if none are given."""
    if steps == 0:
        raise UsageError("inputs have no step; give [T, B, *input size] with T >= 1")
    try:
        given = tuple(float(weight) for weight in (() if weights is None else weights))
    except (TypeError, ValueError):
        raise UsageError(f"weights must be numbers, one per step, got {weights!r}") from None
    if not given:
        if steps is None:
            raise UsageError("give weights, one per step, since these inputs do not know how many steps they have")
        return (1 / steps,) * steps
    if steps is not None and len(given) != steps:
        raise UsageError(f"there are {len(given)} weights for {steps} steps; give one per step, or none for their mean")
    if not all(0 <= weight < math.inf for weight in given):
        raise UsageError(f"weights must be numbers >= 0, got {list(given)}")
    return given


def share_of(batch: Batch, ranks: Ranks) -> Batch:
    """The examples of a batch that are a rank's own, which may be none."""
    if ranks.size == 1:
        return batch
    count = batch.target.shape[batch.target_axis]
    rows = ranks.rows(count)
    return replace(examples_of(batch, rows, count), first=rows.start)


def examples_of(batch: Batch, rows: slice | Tensor, count: int) -> Batch:
    """Some examples of a batch, in their order.

    Args:
        batch: the whole.
        rows: of the examples, their numbers or a slice.
        count: of the whole, over which scores and losses stay means.
    """
    shown = (x[rows] for x in batch.inputs)
    if isinstance(batch.inputs, Frames):
        shown = Frames(len(batch.inputs), shown)
    return replace(
        batch,
        inputs=shown if gone_once_shown(batch.inputs) else list(shown),
        target=batch.target[:, rows] if batch.target_axis else batch.target[rows],
        task=None if batch.task is None else batch.task[rows],
        batch_size=count,
        drives={name: drive[:, rows] for name, drive in batch.drives.items()},
    )


def check_start(
    network: Network, batch: Batch, rewarded: bool = False, scored: bool = True, labelled: bool = False
) -> None:
    """Refuse a trial that a network cannot learn from, as far as no device is waited for.

    Args:
        network: that learns.
        batch: to be shown.
        rewarded: whether its rule wants a reward.
        scored: whether its rule wants a score.
        labelled: whether its rule wants labels of classes.
    Raises:
        UsageError: with what is there and what is wanted.
    """
    if not isinstance(batch, Batch):
        raise UsageError(f"learn takes a batch, got {type(batch).__name__}; make one: neurosbd.Batch(x[None], labels)")
    weight, target = network.like, batch.target
    if labelled and (not batch.taught or target.is_floating_point()):
        there = f"a target {list(target.shape)}" if batch.taught else "no target"
        raise UsageError(f"this rule learns from labels of classes, integers [B], got {there}")
    if not batch.taught:
        if scored:
            raise UsageError("this rule learns from a target, but the batch has none; give Batch(inputs, target)")
        if rewarded and batch.reward is None:
            raise UsageError(
                "a batch needs a target, or a reward = function of (step, frame) where there is none, under a rule "
                "that is sent rewards"
            )
        return
    if target.device != weight.device:
        raise UsageError(f"target is on {target.device}, but the weights are on {weight.device}; use target.to(...)")
    if rewarded and batch.reward is None and (target.ndim > 1 or target.is_floating_point()):
        raise UsageError(
            f"without a reward of its own a trial rewards the right class, which needs integer labels [B], but target "
            f"is {target.dtype} {list(target.shape)}; give Batch(..., reward=function of (step, frame))"
        )


def checked_reward(reward: object, output: Tensor) -> Tensor | None:
    """A reward in the type of the output; None if there is none at this step.

    Raises:
        UsageError: if it is no tensor, is elsewhere, or, on the CPU, holds NaN or infinity.
    """
    if reward is None:
        return None
    if not isinstance(reward, Tensor):
        raise UsageError(f"a reward must be a tensor [B] or None, got {type(reward).__name__}; use torch.as_tensor")
    if reward.device != output.device:
        raise UsageError(f"a reward is on {reward.device}, but the output is on {output.device}; use reward.to(...)")
    if reward.device.type == "cpu" and not math.isfinite(reward.sum().item()) and not bool(reward.isfinite().all()):
        raise UsageError(f"{int((~reward.isfinite()).sum())} of {reward.numel()} rewards are NaN or infinite")
    return reward.to(output.dtype)
