"""A step over weights as they lie in memory is the step of torch, and leaves no other trace."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurosbd.learning.optimizer_step import apply
from neurosbd.learning.optimizers import OPTIMIZERS
from neurosbd.learning.schedules import SCHEDULES
from tests.contracts.tables import made

LAYOUTS = {
    "in order": lambda w: w,
    "channels last": lambda w: w.contiguous(memory_format=torch.channels_last),
    "transposed": lambda w: w.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "with gaps": lambda w: torch.stack((w, w), -1)[..., 0],
    "one value": lambda w: w[:1, :1, :1, :1].permute(3, 2, 1, 0),
}


def pair(name: str, layout: str) -> tuple[nn.Parameter, Any, nn.Parameter, Any]:
    """Equal weights, one in the layout and one in order, and an optimizer of each."""
    weight = LAYOUTS[layout](torch.randn(4, 3, 2, 5, dtype=torch.float64))
    one, other = nn.Parameter(weight.clone(memory_format=torch.preserve_format)), nn.Parameter(weight.contiguous())
    optimizers = [made(OPTIMIZERS, name).build([{"params": [p], "lr": 0.1}]) for p in (one, other)]
    return one, optimizers[0], other, optimizers[1]


def gradients(one: nn.Parameter, other: nn.Parameter) -> None:
    """The same gradient for both, each laid out as its weight."""
    gradient = torch.randn_like(other)
    one.grad, other.grad = torch.empty_like(one).copy_(gradient), gradient


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_step_in_any_layout(name: str, layout: str) -> None:
    # Must fail when the gradient is lined up in another order than the weight.
    one, mine, other, plain = pair(name, layout)
    strides = one.stride()
    for step in range(4):
        gradients(one, other)
        apply(mine) if step != 2 else mine.step()  # what it remembers serves both
        plain.step()
        torch.testing.assert_close(one.data, other.data, rtol=1e-12, atol=1e-14, check_stride=False)
    assert one.stride() == strides and one.grad is not None and one.grad.shape == one.shape
    for key, value in plain.state[other].items():
        torch.testing.assert_close(mine.state[one][key], value, check_stride=False)


def test_gradient_in_another_order() -> None:
    weight = torch.randn(4, 3, 2, 5).contiguous(memory_format=torch.channels_last)
    one, other = nn.Parameter(weight), nn.Parameter(weight.contiguous())
    other.grad = torch.randn_like(other)
    one.grad = other.grad.clone()  # in order, the weight is not
    for parameter in (one, other):
        apply(torch.optim.SGD([parameter], lr=0.1))
    torch.testing.assert_close(one.data, other.data, check_stride=False)


def test_an_optimizer_that_remembers_nothing_goes_on_remembering_nothing() -> None:
    """Kernels under plain SGD: an empty entry in its state would make the checkpoint one that cannot be resumed.

    Must fail when the state of a parameter is asked for by its key (tried).
    """
    weight = torch.randn(4, 3, 2, 5).contiguous(memory_format=torch.channels_last)
    parameter = nn.Parameter(weight)
    parameter.grad = torch.ones_like(weight)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    apply(optimizer)
    assert not optimizer.state_dict()["state"]


def test_a_step_that_fails_leaves_the_weights_in_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    one, mine, other, _ = pair("adam", "channels last")
    gradients(one, other)
    apply(mine)
    before: Tensor = one.detach().clone()

    def fail() -> None:
        assert one.ndim == 1  # it was lined up
        raise MemoryError

    monkeypatch.setattr(mine, "step", fail)
    with pytest.raises(MemoryError):
        apply(mine)
    assert torch.equal(one, before) and one.grad is not None and one.grad.shape == one.shape
    assert mine.state[one]["exp_avg"].shape == one.shape


@pytest.mark.parametrize(("rise", "steps"), [(0.1, 10), (0.25, 4), (0.5, 2), (1.0, 7), (0.0, 7), (0.3, 1)])
def test_one_cycle_of_any_length(rise: float, steps: int) -> None:
    """Also where its rise takes one step or all of them. Must fail with torch's own division (tried)."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = OPTIMIZERS["sgd"](lr=2.0).build([{"params": [parameter], "lr": 2.0}])
    schedule, rates = SCHEDULES["one_cycle"](rise=rise).build(optimizer, 1, steps), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert all(0 < rate <= 2.0 for rate in rates) and (steps < 3 or max(rates) > 1.8)
