"""A step of an optimizer: clipped, over memory as it lies, with rates that a graph of kernels can look up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor
from torch.optim import Optimizer


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


def apply(optimizer: Optimizer) -> None:
    """One step of an optimizer, over weights and gradients as they lie in memory.

    torch's fused kernels first copy whatever is not in the order of its axes. For the kernels of a locally connected
    map this takes ten times as long as the step itself (python benchmarks/optimizer_step.py). The numbers are those of
    `optimizer.step()`, but for their rounding.
    """
    with _lined_up(optimizer):
        optimizer.step()


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


def why_on_host(optimizer: Optimizer) -> str | None:
    """Why the steps of an optimizer cannot be launched from a graph of kernels; None: they can.

    Returns:
        The reason, to be said.
    """
    if all(group.get("fused") or group.get("capturable") for group in optimizer.param_groups):
        return None
    return f"{type(optimizer).__name__} is built with neither fused=True nor capturable=True, and counts on the host"


def learned_parameters(optimizer: Optimizer) -> list[torch.nn.Parameter]:
    """All that an optimizer moves, group by group."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


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
