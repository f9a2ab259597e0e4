"""Homeostases and upkeeps: pure, proportional to their weight, however a batch is cut."""

import copy
import dataclasses
from typing import Any

import pytest
import torch

from neurosbd.connections.synapses import Synapses
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS
from tests.contracts.tables import every, made, seeded

SIZES = pytest.mark.parametrize("size", [(6,), (3, 4, 5)], ids=["units", "map"])


def _eager(homeostasis: Any, **constants: Any) -> Any:
    """The same with a weight that tolerances can see, all examples heard, and all renewed at every batch."""
    fields = {field.name for field in dataclasses.fields(homeostasis)}
    whole = {name: value for name, value in {"refresh": 1, "examples": 100}.items() if name in fields}
    return dataclasses.replace(homeostasis, **({"weight": 1.0} | whole | constants))


def _alike(one: Any, two: Any) -> None:
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)


@every(HOMEOSTASES)
@SIZES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_homeostases_are_pure_and_pull_every_unit(name: str, size: tuple[int, ...], dtype: torch.dtype) -> None:
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.randn(7, *size, dtype=dtype)
    state = homeostasis.init(value[:1], seeded())
    before, kept = copy.deepcopy(state), value.clone()
    one, after = homeostasis.step(state, value, 1.0)
    two, again = homeostasis.step(state, value, 1.0)
    assert torch.equal(one, two) and one.shape == value.shape and one.dtype == dtype and one.any()
    assert all(torch.equal(a, b) for a, b in zip((*state, value), (*before, kept), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after, again, strict=True))
    assert [t.shape for t in after] == [t.shape for t in state] and [t.dtype for t in after] == [t.dtype for t in state]


@every(HOMEOSTASES)
@SIZES
def test_homeostases_grow_with_their_weight_and_leave_silence_alone(name: str, size: tuple[int, ...]) -> None:
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.randn(7, *size).double()
    state = homeostasis.init(value, seeded())
    one, _ = homeostasis.step(state, value, 1.0)
    for factor in (0.0, 3.0):
        scaled, _ = _eager(homeostasis, weight=factor * homeostasis.weight).step(state, value, 1.0)
        torch.testing.assert_close(scaled, factor * one)
    assert not homeostasis.step(state, torch.zeros_like(value), 1.0)[0].any()
    with pytest.raises(ValueError, match=r"weight must be a number >= 0, got -1"):
        dataclasses.replace(homeostasis, weight=-1.0)


@every(HOMEOSTASES)
@SIZES
def test_homeostases_descend_a_mean_over_the_batch(name: str, size: tuple[int, ...]) -> None:
    """Every example twice: half the pull on each. Must fail when 1/B is left out (tried)."""
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.randn(7, *size).double()
    state = homeostasis.init(value, seeded())
    once, after = homeostasis.step(state, value, 1.0)
    twice, same = homeostasis.step(state, torch.cat((value, value)), 1.0)
    torch.testing.assert_close(twice, torch.cat((once, once)) / 2)
    _alike(after, same)


@every(HOMEOSTASES)
@SIZES
def test_homeostases_remember_a_batch_however_many_steps_it_takes(name: str, size: tuple[int, ...]) -> None:
    """Four quarters of a batch are the whole. Must fail when lam is taken per step (tried)."""
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.randn(7, *size).double()
    state = homeostasis.init(value, seeded())
    _, whole = homeostasis.step(state, value, 1.0)
    for _ in range(4):
        _, state = homeostasis.step(state, value, 0.25)
    _alike(state, whole)


@every(HOMEOSTASES)
@SIZES
def test_homeostases_look_at_no_value_on_an_accelerator(name: str, size: tuple[int, ...]) -> None:
    """Tensors without data tell: must fail when a running moment is asked for its value (tried)."""
    homeostasis, value = _eager(made(HOMEOSTASES, name)), torch.empty(7, *size, device="meta")
    pull, after = homeostasis.step(homeostasis.init(value, seeded()), value, 1.0)
    assert pull.shape == value.shape and pull.device.type == "meta"
    homeostasis.step(after, value, 1.0)


@every(UPKEEPS)
@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (4, 3, 3, 3), (4, 2, 2, 3, 3, 3)])
def test_upkeeps_are_pure_and_pull_the_synapses_that_are_there(name: str, shape: tuple[int, ...]) -> None:
    upkeep: Any = made(UPKEEPS, name)
    present = (torch.rand(shape) < 0.7).double()
    synapses = Synapses(torch.randn(shape).double() * present, torch.randn(shape[0]).double())
    state, kept = upkeep.init(synapses), copy.deepcopy(synapses)
    before = copy.deepcopy(state)
    one, after = upkeep.step(state, synapses, present)
    two, _ = upkeep.step(state, synapses, present)
    assert torch.equal(one.weight, two.weight) and one.weight.shape == shape and one.weight.any()
    assert not one.weight[present == 0].any()
    assert all(torch.equal(a, b) for a, b in zip((*state, synapses.weight), (*before, kept.weight), strict=True))
    strong, _ = dataclasses.replace(upkeep, weight=3 * upkeep.weight).step(state, synapses, present)
    torch.testing.assert_close(strong.weight, 3 * one.weight)
    empty = Synapses(torch.empty(shape, device="meta"), None)
    upkeep.step(upkeep.init(empty), empty, None)  # looks at no value
    assert [t.shape for t in after] == [t.shape for t in state]
