"""What every expansion of the score keeps: pure, as wide as it says, one example at a time."""

import copy
from typing import TypeVar

import torch
from torch import Tensor

from neurosbd.expansions.expansion import Expansion
from neurosbd.losses import LOSSES, Described
from neurosbd.neuromodulators.neuromodulator import Broadcast
from neurosbd.neurons.neuron import Activity
from neurosbd.testing.judging import Check, Make, close, demand, identical, no_values, seeded
from neurosbd.testing.losses import example

S = TypeVar("S")  # the state of an expansion
_SIZES = {"input": (2, 3, 3), "conv": (4, 2, 2), "fc": (6,)}


def scored(loss: Described, output: Tensor, target: Tensor) -> Broadcast:
    """What an expansion sees: the score of a batch, and some activity that does not depend on the target."""
    batch = len(output)
    generator = torch.Generator().manual_seed(7)
    values = {name: torch.randn(1, *size, generator=generator) for name, size in _SIZES.items()}
    activity = {n: v.to(output).expand(batch, *v.shape[1:]) for n, v in values.items()}
    shown = {name: Activity(value, value) for name, value in (activity | {"output": output}).items()}
    return Broadcast(loss.score(output, target) / batch, output, target, loss, activity=shown)


def expanded(block: Expansion[S], state: S, broadcast: Broadcast) -> tuple[Tensor, S]:
    """The columns of one step, and the state after it: the one place that knows by which verbs they are made."""
    return block.columns(state, broadcast), block.update(state, block.statistics(state, broadcast), broadcast)


def _broadcast(block: Expansion, dtype: torch.dtype = torch.float64) -> Broadcast:
    """A broadcast of the first loss that the expansion accepts."""
    for make in list(LOSSES.values()):
        loss = make()
        output, target = example(loss, 6, 5)
        broadcast = scored(loss, output.to(dtype), target)
        try:
            block.init(broadcast, seeded())
        except ValueError:
            continue
        return broadcast
    raise AssertionError("The expansion refuses every loss that there is")


def expansion_is_pure(make: Make) -> None:
    """As wide as it says, finite, and an example alone has the columns that it has in a batch."""
    for dtype in (torch.float32, torch.float64):
        block = make()
        broadcast = _broadcast(block, dtype)
        state = block.init(broadcast, seeded())
        before = copy.deepcopy(state)
        columns, after = expanded(block, state, broadcast)
        again, _ = expanded(block, state, broadcast)
        demand(block.weight == 1.0, "`weight` must be 1 unless it is asked for")
        identical(columns, again, "Two steps from the same state give different columns")
        demand(columns.dtype == dtype and torch.isfinite(columns).all(), f"The columns must be finite, of {dtype}")
        demand(columns.shape == (6, block.width(broadcast)), "The columns are not as many as `width` says")
        demand(columns.any(), "All columns are 0")
        for a, b in zip(state, before, strict=True):
            identical(a, b, "A step changes the state that it was given")
        demand(type(after) is type(state), "The state after a step is of another kind")
        activity = {
            n: a._replace(value=a.value[2:3], potential=a.potential[2:3]) for n, a in broadcast.activity.items()
        }
        alone = broadcast._replace(
            score=broadcast.score[2:3] * 6,  # which carries 1/B
            output=broadcast.output[2:3], target=broadcast.target[2:3], activity=activity,
        )  # fmt: skip
        tolerance = 1.3e-6 if dtype == torch.float32 else 1e-7
        one, sentence = block.columns(state, alone)[0] / 6, "An example alone has other columns than in a batch"
        close(one, columns[2], sentence, tolerance, 1e-5 if dtype == torch.float32 else 1e-7)


def expansion_measures_sums(make: Make) -> None:
    """Statistics of two parts of a batch add up to those of the whole, and the columns are those of the whole."""
    block = make()
    broadcast = _broadcast(block)
    state, parts = block.init(broadcast, seeded()), [_rows(broadcast, rows) for rows in (slice(0, 2), slice(2, None))]
    whole, (one, other) = block.statistics(state, broadcast), (block.statistics(state, part) for part in parts)
    sentence = "The statistics of two parts of a batch do not add up to those of the whole"
    for all_of_it, a, b in zip(whole, one, other, strict=True):
        close(a + b, all_of_it, sentence, rtol=1e-7, atol=1e-9)
    halves, sentence = [block.columns(state, part) for part in parts], "A part of a batch has columns of its own"
    close(torch.cat(halves), block.columns(state, broadcast), sentence, rtol=1e-7, atol=1e-9)


def _rows(broadcast: Broadcast, rows: slice) -> Broadcast:
    """Some examples of a batch, whose scores carry the 1/B of the whole."""
    activity = {n: a._replace(value=a.value[rows], potential=a.potential[rows]) for n, a in broadcast.activity.items()}
    return broadcast._replace(
        score=broadcast.score[rows], output=broadcast.output[rows], target=broadcast.target[rows], activity=activity,
        batch_size=len(broadcast.score),
    )  # fmt: skip


def expansion_looks_at_no_value(make: Make) -> None:
    """So a step never waits for the device; tensors without data tell."""
    block = make()
    broadcast = _broadcast(block)
    state = block.init(broadcast, seeded())
    far = type(state)(*(tensor.to("meta") for tensor in state))
    activity = {n: a._replace(value=a.value.to("meta")) for n, a in broadcast.activity.items()}
    score, output, target = (t.to("meta") for t in (broadcast.score, broadcast.output, broadcast.target))
    moved = broadcast._replace(score=score, output=output, target=target, activity=activity)
    with no_values("expansion"):
        columns, _ = expanded(block, far, moved)
    demand(columns.device.type == "meta", "The columns must stay on the device of the score")
    demand(columns.shape == (6, block.width(broadcast)), "The columns are not as many as `width` says")


EXPANSION_CHECKS: tuple[Check, ...] = (
    expansion_is_pure, expansion_measures_sums, expansion_looks_at_no_value,
)  # fmt: skip


def check_expansion(make: Make) -> None:
    """Everything that the contract of an expansion promises; see `check_neuron`."""
    for check in EXPANSION_CHECKS:
        check(make)
