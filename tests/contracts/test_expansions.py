"""Expansions: pure, as wide as they say, one example at a time."""

import copy
from typing import Any

import pytest
import torch

from neurosbd.expansions import EXPANSIONS
from neurosbd.losses import LOSSES
from tests.conditional import scored
from tests.contracts.tables import DT, every, made, seeded
from tests.targets import example


def _heard(name: str, dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    """An expansion and what it hears, of the first loss that it accepts."""
    block = EXPANSIONS[name]()
    for loss in LOSSES:
        made_loss = made(LOSSES, loss)
        output, target = example(made_loss, 6, 5)
        heard = scored(made_loss, output.to(dtype), target)
        try:
            block.init(heard, seeded())
        except ValueError:
            continue
        return block, heard
    raise AssertionError(f"no loss is good enough for the expansion {name}")


@every(EXPANSIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_expansions_are_pure_and_as_wide_as_they_say(name: str, dtype: torch.dtype) -> None:
    block, heard = _heard(name, dtype)
    assert block.weight == 1.0
    state = block.init(heard, seeded())
    before = copy.deepcopy(state)
    columns, after = block.step(state, heard, DT)
    again, _ = block.step(state, heard, DT)
    assert torch.equal(columns, again) and columns.dtype == dtype
    assert columns.shape == (6, block.width(heard)) and torch.isfinite(columns).all() and columns.any()
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True)) and type(after) is type(state)
    alone = heard._replace(
        score=heard.score[2:3] * 6,  # which carries 1/B
        output=heard.output[2:3],
        target=heard.target[2:3],
        activity={n: a._replace(value=a.value[2:3], potential=a.potential[2:3]) for n, a in heard.activity.items()},
    )
    torch.testing.assert_close(block.step(state, alone, DT)[0][0] / 6, columns[2])


@every(EXPANSIONS)
def test_expansions_look_at_no_value_on_an_accelerator(name: str) -> None:
    """So a step never waits for the device; tensors without data tell."""
    block, heard = _heard(name)
    state = block.init(heard, seeded())
    far = type(state)(*(tensor.to("meta") for tensor in state))
    activity = {n: a._replace(value=a.value.to("meta")) for n, a in heard.activity.items()}
    moved = heard._replace(
        score=heard.score.to("meta"), output=heard.output.to("meta"), target=heard.target.to("meta"), activity=activity
    )
    columns, _ = block.step(far, moved, DT)
    assert columns.device.type == "meta" and columns.shape == (6, block.width(heard))
