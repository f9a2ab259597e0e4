"""Connections: the change of the weights is the adjoint of the drive."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from neurosbd.connections import CONNECTIONS, INITIALISERS, POOLINGS
from neurosbd.connections.synapses import Synapses
from tests.contracts.tables import every, made, seeded


@pytest.mark.parametrize("name", ["conv2d", "local2d"])
def test_strided_outer_equals_autograd(name: str) -> None:
    geometry = CONNECTIONS[name](kernel=2, stride=2, padding=1, bias=True)
    start = geometry.start(geometry.weight_shape((3, 7, 7), (4, 4, 4)), (4, 4, 4), seeded())
    synapses = Synapses(*(torch.randn_like(s).double().requires_grad_() for s in start if s is not None))
    x, factor = torch.randn(2, 3, 7, 7).double(), torch.randn(2, 4, 4, 4).double()
    leaves = [s for s in synapses if s is not None]
    exact = torch.autograd.grad((geometry.drive(synapses, geometry.carry(x)) * factor).sum(), leaves)
    with torch.no_grad():
        outer = geometry.outer(synapses, factor, geometry.carry(x))
    for got, want in zip(outer, exact, strict=True):
        assert got is not None
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@every(POOLINGS)
@pytest.mark.parametrize("kind", ["conv2d", "local2d"])
@pytest.mark.parametrize(("window", "stride"), [(2, 0), (3, 2), (2, 1)])
def test_a_pooled_drive_has_the_outer_of_autograd(name: str, kind: str, window: int, stride: int) -> None:
    """Through the pooling, at the winners of a maximum: adjoint, autograd, and every example by itself.

    Must fail when a factor goes to the last of a patch (tried), or is not divided among an average (tried).
    """
    pool: Any = POOLINGS[name](window, stride)
    geometry: Any = CONNECTIONS[kind](kernel=3, bias=True, pool_drive=pool)
    post = (4, *pool.size((4, 7, 6))[1:])
    start = geometry.start(geometry.weight_shape((2, 9, 8), post), post, seeded())
    synapses = Synapses(*(torch.randn_like(s).double().requires_grad_() for s in start if s is not None))
    x, factor = torch.randn(3, 2, 9, 8).double(), torch.randn(3, *post).double()
    arriving, leaves = geometry.carry(x), [s for s in synapses if s is not None]
    drive = geometry.drive(synapses, arriving)
    assert drive.shape[1:] == post
    bare = dataclasses.replace(geometry, pool_drive=None)
    torch.testing.assert_close(drive, pool.pool(bare.drive(synapses, arriving)), rtol=0, atol=0)
    exact = torch.autograd.grad((drive * factor).sum(), leaves)
    with torch.no_grad():
        outer = geometry.outer(synapses, factor, arriving)
        shared = geometry.outer(synapses, factor[:, :, :1, :1].expand_as(factor), arriving)
        alone = geometry.outer(synapses, factor[:, :, :1, :1].expand_as(factor).contiguous(), arriving)
        each = geometry.each(synapses, factor[None], arriving[None])
    for got, want in zip(outer, exact, strict=True):
        assert got is not None
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(each.sum(0), outer.weight, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(shared.weight, alone.weight, rtol=1e-10, atol=1e-12)
    left = sum((a * b).sum() for a, b in zip(outer, synapses, strict=True) if a is not None and b is not None)
    torch.testing.assert_close(torch.as_tensor(left), (factor * drive).sum(), rtol=1e-10, atol=1e-10)


@every(POOLINGS)
@pytest.mark.parametrize(("window", "stride"), [(2, 0), (3, 2), (2, 1)])
def test_pooling_says_its_size(name: str, window: int, stride: int) -> None:
    pooling = POOLINGS[name](window, stride)
    assert pooling.pool(torch.randn(2, 3, 9, 7)).shape[1:] == pooling.size((3, 9, 7))


@every([name for name in INITIALISERS if name != "difference_of_gaussians"])  # which draws nothing: test_wta_stdp
def test_initialisers_have_the_stated_scale(name: str) -> None:
    """Standard deviation over 200,000 draws, within 1 % (its own spread is 0.16 %)."""
    fan_in, fan_out = 25 * 20, 25 * 16
    weight = made(INITIALISERS, name).draw((16, 20, 5, 5), torch.Generator().manual_seed(0))
    weight = torch.stack(
        [weight] + [made(INITIALISERS, name).draw((16, 20, 5, 5), torch.Generator().manual_seed(i)) for i in range(24)]
    )
    expected = {
        "kaiming": math.sqrt(2 / fan_in),
        "xavier": math.sqrt(2 / (fan_in + fan_out)),
        "normal": 0.5,  # as the contracts make it
        "uniform": 1 / math.sqrt(12),
        "log": math.sqrt((math.exp(0.9**2) - 1) * math.exp(0.9**2)),
        "zeros": 0.0,
        "constant": 0.0,
        "paired": math.sqrt(1 / fan_in),
        "on": math.sqrt(4 / fan_in * (1 / 2 - 1 / (2 * math.pi))),  # the positive half of N(0, 4 / fan_in)
        "diagonal": math.sqrt((1 / fan_in) * (1 - 1 / fan_in)),  # 16 ones in [16, 20, 5, 5]
    }[name.split("_")[0]]
    assert weight.std().item() == pytest.approx(expected, rel=1e-2, abs=1e-9)


def test_uniform_and_log_normal_weights_have_their_quantiles() -> None:
    """Must fail when sigma is that of the weights and not of their logarithm."""
    generator = torch.Generator().manual_seed(0)
    even = INITIALISERS["uniform"](low=-0.2, high=0.6).draw((200, 500), generator)
    assert even.min() >= -0.2 and even.max() <= 0.6
    assert even.quantile(torch.tensor([0.25, 0.5])).tolist() == pytest.approx([0.0, 0.2], abs=5e-3)
    skewed = INITIALISERS["log_normal"](median=0.1, sigma=0.5).draw((200, 500), generator)
    assert skewed.min() > 0 and skewed.median().item() == pytest.approx(0.1, rel=0.01)
    assert skewed.log().std().item() == pytest.approx(0.5, rel=0.01)
    with pytest.raises(ValueError, match=r"uniform weights need low < high, got low = 1.0 and high = 0.1"):
        INITIALISERS["uniform"](low=1.0)
