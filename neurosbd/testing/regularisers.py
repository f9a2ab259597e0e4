"""What keeps units and weights alive: pure, proportional to its weight, however a batch is cut."""

import copy
import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.regularisers import Homeostasis, Part
from neurosbd.testing.judging import Check, Make, close, demand, drawn, identical, no_values, refusal, seeded

S = TypeVar("S")  # the state of a homeostasis
SIZES = ((6,), (3, 4, 5))
SHAPES = ((4, 9), (9, 4), (4, 3, 3, 3), (4, 2, 2, 3, 3, 3))


def eager(homeostasis: Any, **constants: object) -> Any:
    """The same with a weight that tolerances can see, all examples heard, and all renewed at every batch."""
    fields = {field.name for field in dataclasses.fields(homeostasis)}
    whole = {name: value for name, value in {"refresh": 1, "examples": 100}.items() if name in fields}
    return dataclasses.replace(homeostasis, **({"weight": 1.0} | whole | constants))


def pulled(homeostasis: Homeostasis[S], state: S, value: Tensor, share: float) -> tuple[Tensor, S]:
    """The pull of one step, and the state after it: the one place that knows by which verbs it is made."""
    part = Part(len(value))
    state = homeostasis.update(state, homeostasis.statistics(state, value, part), share)
    return homeostasis.apply(state, value, part), state


def _alike(one: Iterable[Tensor], two: Iterable[Tensor], sentence: str) -> None:
    for a, b in zip(one, two, strict=True):
        close(a, b, sentence, rtol=1e-6, atol=1e-7)


def homeostasis_is_pure_and_pulls(make: Make) -> None:
    """Nothing is written in place, every population is pulled, and the state keeps its form."""
    for size in SIZES:
        for dtype in (torch.float32, torch.float64):
            homeostasis, value = eager(make()), drawn(7, *size, dtype=dtype)
            state = homeostasis.init(value[:1], seeded())
            before, original = copy.deepcopy(state), value.clone()
            one, after = pulled(homeostasis, state, value, 1.0)
            two, again = pulled(homeostasis, state, value, 1.0)
            identical(one, two, "Two steps from the same state give different pulls")
            demand(
                one.shape == value.shape and one.dtype == dtype, "The pull must have the shape and dtype of the values"
            )
            demand(one.any(), "The homeostasis pulls no unit")
            for a, b in zip((*state, value), (*before, original), strict=True):
                identical(a, b, "A step changes the state or the values that it was given")
            for a, b, c in zip(after, again, state, strict=True):
                identical(a, b, "Two steps from the same state lead to different states")
                demand(a.shape == c.shape and a.dtype == c.dtype, "A step changes the shape or dtype of the state")


def homeostasis_grows_with_its_weight(make: Make) -> None:
    """In proportion; silence is left alone, and a weight below 0 refused."""
    for size in SIZES:
        homeostasis, value = eager(make()), drawn(7, *size)
        state = homeostasis.init(value, seeded())
        one, _ = pulled(homeostasis, state, value, 1.0)
        for factor in (0.0, 3.0):
            scaled, _ = pulled(eager(homeostasis, weight=factor * homeostasis.weight), state, value, 1.0)
            close(scaled, factor * one, "The pull is not proportional to `weight`", rtol=1e-7, atol=1e-7)
        silence, _ = pulled(homeostasis, state, torch.zeros_like(value), 1.0)
        demand(not silence.any(), "A population that is silent is pulled")
    with refusal("A weight of -1 is taken; it must raise a ValueError", ValueError):
        dataclasses.replace(make(), weight=-1.0)


def homeostasis_descends_a_mean(make: Make) -> None:
    """Every example twice: half the pull on each. Must fail when 1/B is left out (tried)."""
    for size in SIZES:
        homeostasis, value = eager(make()), drawn(7, *size)
        state = homeostasis.init(value, seeded())
        once, after = pulled(homeostasis, state, value, 1.0)
        twice, same = pulled(homeostasis, state, torch.cat((value, value)), 1.0)
        sentence = "The pull on an example is not 1/B of a mean over the batch"
        close(twice, torch.cat((once, once)) / 2, sentence, rtol=1e-7, atol=1e-7)
        _alike(after, same, "A batch in which every example stands twice leads to another state")


def homeostasis_measures_sums(make: Make) -> None:
    """Statistics of two parts of a batch add up to those of the whole, and its examples are pulled as in the whole.

    Must fail when a part is taken for the whole batch (tried).
    """
    for size in SIZES:
        for homeostasis in (make(), eager(make())):
            value = drawn(13, *size)
            state, parts = homeostasis.init(value, seeded()), (Part(13), Part(13, 0), Part(13, 5))
            shown = (value, value[:5], value[5:])
            whole, one, other = (homeostasis.statistics(state, v, p) for v, p in zip(shown, parts, strict=True))
            sentence = "The statistics of two parts of a batch do not add up to those of the whole"
            _alike(whole, [a + b for a, b in zip(one, other, strict=True)], sentence)
            state = homeostasis.update(state, whole, 1.0)
            for before, after in zip(whole, homeostasis.statistics(state, value, parts[0]), strict=True):
                identical(before, after, "The statistics depend on what `update` changes; a block measures them first")
            pull, *halves = (homeostasis.apply(state, v, p) for v, p in zip(shown, parts, strict=True))
            close(torch.cat(halves), pull, "A part of a batch is pulled in another way than in the whole", 1e-7, 1e-9)


def homeostasis_remembers_a_batch(make: Make) -> None:
    """Four quarters of a batch are the whole. Must fail when lam is taken per step (tried)."""
    for size in SIZES:
        homeostasis, value = eager(make()), drawn(7, *size)
        state = homeostasis.init(value, seeded())
        _, whole = pulled(homeostasis, state, value, 1.0)
        for _ in range(4):
            _, state = pulled(homeostasis, state, value, 0.25)
        _alike(state, whole, "Four steps that are a quarter of a batch each do not add up to one")


def homeostasis_looks_at_no_value(make: Make) -> None:
    """Tensors without data tell: must fail when a running moment is asked for its value (tried)."""
    for size in SIZES:
        homeostasis, value = eager(make()), torch.empty(7, *size, device="meta")
        with no_values("homeostasis"):
            pull, after = pulled(homeostasis, homeostasis.init(value, seeded()), value, 1.0)
            pulled(homeostasis, after, value, 1.0)
        demand(
            pull.shape == value.shape and pull.device.type == "meta", "The pull must stay on the device of the values"
        )


HOMEOSTASIS_CHECKS: tuple[Check, ...] = (
    homeostasis_is_pure_and_pulls, homeostasis_grows_with_its_weight, homeostasis_descends_a_mean,
    homeostasis_measures_sums, homeostasis_remembers_a_batch, homeostasis_looks_at_no_value,
)  # fmt: skip


def check_homeostasis(make: Make) -> None:
    """Everything that the contract of a homeostasis promises; see `check_neuron`."""
    for check in HOMEOSTASIS_CHECKS:
        check(make)


def upkeep_is_pure_and_pulls(make: Make) -> None:
    """The synapses that are there, in proportion to its weight, and without a look at their values."""
    for shape in SHAPES:
        present = (torch.rand(shape, generator=seeded()) < 0.7).double()
        _upkeep_pulls(make(), present, Synapses(drawn(*shape) * present, drawn(shape[0])))


def _upkeep_pulls(upkeep: Any, present: Tensor, synapses: Synapses) -> None:
    state, original = upkeep.init(synapses), copy.deepcopy(synapses)
    before = copy.deepcopy(state)
    one, after = upkeep.step(state, synapses, present)
    two, _ = upkeep.step(state, synapses, present)
    identical(one.weight, two.weight, "Two steps from the same state give different pulls")
    demand(one.weight.shape == present.shape and one.weight.any(), "The pull must have the weight's shape, and be one")
    demand(not one.weight[present == 0].any(), "Absent synapses are pulled")
    for a, b in zip((*state, synapses.weight), (*before, original.weight), strict=True):
        identical(a, b, "A step changes the state or the synapses that it was given")
    strong, _ = dataclasses.replace(upkeep, weight=3 * upkeep.weight).step(state, synapses, present)
    close(strong.weight, 3 * one.weight, "The pull is not proportional to `weight`", rtol=1e-7, atol=1e-7)
    empty = Synapses(torch.empty(present.shape, device="meta"), None)
    with no_values("upkeep"):
        upkeep.step(upkeep.init(empty), empty, None)
    for a, b in zip(after, state, strict=True):
        demand(a.shape == b.shape, "A step changes the shape of the state")


UPKEEP_CHECKS: tuple[Check, ...] = (upkeep_is_pure_and_pulls,)


def check_upkeep(make: Make) -> None:
    """Everything that the contract of an upkeep promises; see `check_neuron`."""
    for check in UPKEEP_CHECKS:
        check(make)
