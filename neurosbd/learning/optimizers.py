"""Optimizers and schedules by name: plain torch.optim, applied to whatever a learner left in `.grad`.

All steps are torch's fused kernels: the same numbers in one pass over memory instead of several.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, cast

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from neurosbd.files.checkpoints import StateDict
from neurosbd.schema.constants import Count, Fraction, Legal, Range, Share, constants

Groups = list[dict[str, Any]]  # {"params": [...], "lr": float}


def apply(optimizer: Optimizer) -> None:
    """One step of an optimizer, over weights and gradients as they lie in memory.

    torch's fused kernels first copy whatever is not in the order of its axes. For the kernels of a locally connected
    map this takes ten times as long as the step itself (python benchmarks/optimizer_step.py). The numbers are those of
    `optimizer.step()`, but for their rounding.
    """
    with _lined_up(optimizer):
        optimizer.step()


@contextmanager
def _lined_up(optimizer: Optimizer) -> Iterator[None]:
    """Parameters without gaps in memory, but with axes in another order, have a single axis for a while."""
    parameters = [p for p in learned_parameters(optimizer) if _disordered(p)]
    laid = [(p, p.data, cast(Tensor, p.grad)) for p in parameters]
    remembered = optimizer.state.get  # asking for what is not there by [] would put something empty there
    try:
        for parameter, data, gradient in laid:
            state = remembered(parameter, {})
            parameter.grad = None
            parameter.data, parameter.grad = _line(data), _line(gradient)
            state.update({key: _line(value) for key, value in state.items() if _alike(value, data)})
        yield
    finally:
        for parameter, data, gradient in laid:
            state = remembered(parameter, {})
            lines = {key: value for key, value in state.items() if _alike(value, parameter)}
            state.update({key: line.as_strided(data.shape, data.stride()) for key, line in lines.items()})
            parameter.grad = None
            parameter.data, parameter.grad = data, gradient


def _disordered(parameter: Tensor) -> bool:
    """Whether a parameter and its gradient lie in memory alike, without gaps, and in another order than their axes."""
    gradient = parameter.grad
    if gradient is None or parameter.is_contiguous() or gradient.stride() != parameter.stride():
        return False
    order = sorted(range(parameter.ndim), key=lambda axis: (parameter.stride(axis), parameter.shape[axis]))
    return parameter.permute(order[::-1]).is_contiguous()


def _line(values: Tensor) -> Tensor:
    return values.as_strided((values.numel(),), (1,))


def _alike(value: object, other: Tensor) -> bool:
    """Whether something an optimizer remembers has a number for every weight, laid out as the weights are."""
    return isinstance(value, Tensor) and value.shape == other.shape and value.stride() == other.stride()


def learned_parameters(optimizer: Optimizer) -> list[torch.nn.Parameter]:
    """All that an optimizer moves, group by group."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def plain_rates(optimizer: Optimizer) -> dict[int, float | Tensor]:
    """Learning rates of the weights, by their `id`, of which SGD takes their gradients times that and nothing else."""
    plain = ("momentum", "weight_decay", "maximize", "nesterov")
    return {
        id(weight): group["lr"]
        for group in optimizer.param_groups
        if type(optimizer) is torch.optim.SGD and not any(group[key] for key in plain)
        for weight in group["params"]
    }


class Update:
    """What an optimizer makes of the gradients of a batch.

    Args:
        optimizer: that steps.
        clip_norm: largest norm of the whole gradient, > 0; none: it stays as it is.
    """

    def __init__(self, optimizer: Optimizer, clip_norm: float | None = None) -> None:
        self.optimizer = optimizer
        self.clip_norm = clip_norm

    def clip(self) -> None:
        """Scale the gradients down to the largest norm."""
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(learned_parameters(self.optimizer), self.clip_norm)

    def step(self) -> None:
        """Move the weights."""
        apply(self.optimizer)


def why_on_host(optimizer: Optimizer) -> str | None:
    """Why the steps of an optimizer cannot be launched from a graph of kernels; None: they can.

    Returns:
        The reason, to be said.
    """
    if all(group.get("fused") or group.get("capturable") for group in optimizer.param_groups):
        return None
    return f"{type(optimizer).__name__} is built with neither fused=True nor capturable=True, and counts on the host"


class RatePlaces:
    """Places for the learning rates of an optimizer, where kernels that are launched again and again find those of now.

    Schedules and checkpoints keep to the numbers in the groups of the optimizer, whatever the device.

    Args:
        optimizer: whose groups have a rate each.
        device: of its parameters.
    """

    TYPE = torch.float32  # in which kernels of a GPU read a rate

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self.places = [torch.zeros((), dtype=self.TYPE, device=device) for _ in optimizer.param_groups]
        self._filled: list[float | None] = [None] * len(self.places)

    def fill(self) -> None:
        """Put the rates of the groups in their places; what has not changed is there."""
        for number, (place, group) in enumerate(zip(self.places, self.optimizer.param_groups, strict=True)):
            if group["lr"] != self._filled[number]:
                self._filled[number] = group["lr"]
                place.fill_(group["lr"])

    @contextmanager
    def looked_up(self) -> Iterator[None]:
        """Context in which steps look the rates up in their places, and agree to being captured."""
        groups = self.optimizer.param_groups
        before = [{key: group[key] for key in ("lr", "capturable") if key in group} for group in groups]
        try:
            for group, own, place in zip(groups, before, self.places, strict=True):
                group |= dict.fromkeys(own, True) | {"lr": place}
            yield
        finally:
            for group, own in zip(groups, before, strict=True):
                group |= own


class OptimizerChoice(Protocol):
    """Constants of an optimizer."""

    @property
    def lr(self) -> float:
        """Learning rate of a population with rate multiplier 1."""
        ...

    def build(self, groups: Groups) -> Optimizer:
        """The torch optimizer over parameter groups that carry their own rate."""
        ...


class Schedule(Protocol):
    """How the learning rates move over the training."""

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """The torch scheduler, to be stepped after every batch; `steps` batches make an epoch."""
        ...


def optimizer_state(choice: OptimizerChoice) -> StateDict:
    """What an optimizer keeps of a parameter [1]: tensors [1] if there is one for every value, [] if one for all."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = choice.build([{"params": [parameter], "lr": 0.0}])
    parameter.grad = torch.zeros(1)
    optimizer.step()
    return dict(optimizer.state[parameter])


def plain_state(schedule: lr_scheduler.LRScheduler) -> StateDict:
    """What of a schedule is kept: its numbers."""
    return {key: value for key, value in schedule.state_dict().items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | bool | str | type(None)) or (
        isinstance(value, list | tuple | dict)
        and all(_is_plain(v) for v in (value.values() if isinstance(value, dict) else value))
    )


Rate = Annotated[float, Range(least=0, most=1e6)]
Floor = Annotated[float, Range(least=1e-38, most=1)]


@constants
class SGD:
    """Gradient descent with momentum: m <- momentum m + g;  w <- w - lr m.

    Args:
        lr: learning rate, 0..1e6.
        momentum: 0..1.
        weight_decay: l2 pull on weights and biases (never on projections), 0..1.
        nesterov: look ahead along the momentum.
    Source: Sutskever et al. 2013, ICML; torch.optim.SGD.
    """

    lr: Rate = 0.01
    momentum: Fraction = 0.0
    weight_decay: Fraction = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD.nesterov needs momentum > 0")

    def build(self, groups: Groups) -> Optimizer:
        """torch.optim.SGD."""
        return torch.optim.SGD(
            groups, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov, fused=True
        )


@constants
class Adam:
    """Adaptive moments, with l2 decay added to the gradient.

    Args:
        lr: learning rate, 0..1e6.
        betas: decay of the two moments, 0..1 each.
        eps: floor of the divisor, > 0.
        weight_decay: l2 pull, 0..1.
    Source: Kingma, Ba 2015, ICLR; torch.optim.Adam.
    """

    lr: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Floor = 1e-8
    weight_decay: Fraction = 0.0

    def build(self, groups: Groups) -> Optimizer:
        """torch.optim.Adam."""
        return torch.optim.Adam(groups, self.lr, self.betas, self.eps, self.weight_decay, fused=True)


@constants
class AdamW:
    """Adam with decay of the weights decoupled from the gradient.

    Args:
        lr: learning rate, 0..1e6.
        betas: decay of the two moments, 0..1 each.
        eps: floor of the divisor, > 0.
        weight_decay: decoupled decay, 0..1.
    Source: Loshchilov, Hutter 2019, ICLR; torch.optim.AdamW.
    """

    lr: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Floor = 1e-8
    weight_decay: Fraction = 1e-2

    def build(self, groups: Groups) -> Optimizer:
        """torch.optim.AdamW."""
        return torch.optim.AdamW(groups, self.lr, self.betas, self.eps, self.weight_decay, fused=True)


def beyond_scaling(optimizer: OptimizerChoice) -> list[str]:
    """What an optimizer does to a gradient besides scaling it by the learning rate, in words; plain SGD: nothing."""
    kind = type(optimizer).__name__
    found = []
    if not isinstance(optimizer, SGD):
        found.append(f"{kind} divides it by its usual size, which turns a window into steps of about lr")
    elif optimizer.momentum:
        found.append(f"momentum = {optimizer.momentum:g} repeats each change in the updates that follow")
    if decay := getattr(optimizer, "weight_decay", 0.0):
        found.append(f"weight_decay = {decay:g} pulls all weights to 0 besides")
    return found


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


@dataclass(frozen=True)
class Constant:
    """The rates stay.

    Source: torch.optim.lr_scheduler.ConstantLR.
    """

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """ConstantLR with factor 1."""
        return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


@constants
class Exponential:
    """The rates are multiplied by `gamma` after every epoch.

    Args:
        gamma: 0..1.
    Source: Erdogan et al. 2025 (EBD), appendix: gamma = 0.97; torch.optim.lr_scheduler.StepLR.
    """

    gamma: Fraction = 0.97

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """StepLR by epoch."""
        return lr_scheduler.StepLR(optimizer, step_size=steps, gamma=self.gamma)


@constants
class Cosine:
    """The rates fall along half a cosine to `floor` times their start.

    Args:
        floor: last rate as a fraction of the first, 0..1.
    Source: Loshchilov, Hutter 2017, ICLR, without restarts.
    """

    floor: Fraction = 0.0

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """LambdaLR, since CosineAnnealingLR has one floor for all groups."""
        total = epochs * steps
        return lr_scheduler.LambdaLR(
            optimizer,
            lambda step: self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(step / total, 1))),
        )


@constants
class OneCycle:
    """The rates rise from a 25th to their full value and fall to nearly nothing.

    Args:
        rise: fraction of the training spent rising, 0..1.
    Source: Smith, Topin 2018, arXiv 1708.07120; torch.optim.lr_scheduler.OneCycleLR.
    Differs: momentum and betas stay.
    """

    rise: Fraction = 0.3

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """OneCycleLR whose peaks are the rates of the groups."""
        peaks, total = [group["lr"] for group in optimizer.param_groups], max(epochs * steps, 2)
        # OneCycleLR divides by the length of its rise and of its fall, so neither may be exactly 0.
        rise = self.rise * (1 - 1e-9) if 1 in (self.rise, self.rise * total) else self.rise
        return lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=total, pct_start=rise, cycle_momentum=False)


def _rising(epochs: tuple[int, ...]) -> bool:
    return list(epochs) == sorted(set(epochs))


@constants
class Steps:
    """The rates are multiplied by `gamma` at the named epochs.

    Args:
        epochs: after which epochs, increasing.
        gamma: factor, 0..1.
    Source: torch.optim.lr_scheduler.MultiStepLR.
    """

    epochs: Annotated[tuple[Count, ...], Legal("in rising order", _rising)]
    gamma: Fraction = 0.1

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """MultiStepLR by epoch."""
        return lr_scheduler.MultiStepLR(optimizer, [e * steps for e in self.epochs], self.gamma)


SCHEDULES = {
    "constant": Constant,
    "exponential": Exponential,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "steps": Steps,
}
