"""What every stimulus keeps: drives of the right shape, the same in whatever blocks they are asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosbd.stimuli import Stimulus
from neurosbd.testing.judging import DT, Check, Make, demand, identical, no_values, seeded

SIZE = (4, 4, 4)  # as many units as an item of digits has values
STEPS = 40


def _drives(stimulus: Stimulus, lengths: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """The drives of some blocks, one after another."""
    like = torch.zeros(3, *SIZE, dtype=dtype)
    state, found = stimulus.init(like, DT, seeded(seed)), []
    for steps in lengths:
        drive, state = stimulus.block(state, like, steps, DT)
        shape = (steps, 3, *SIZE)
        sentence = (
            f"A block of {steps} steps for {list(like.shape)} has shape {list(drive.shape)}; must be {list(shape)}"
        )
        demand(drive.shape == shape, sentence)
        demand(drive.dtype == dtype, f"The drive of a population in {dtype} is {drive.dtype}")
        demand(torch.isfinite(drive).all(), "A drive is not finite")
        found.append(drive)
    return torch.cat(found)


def drives_do_not_depend_on_the_blocks(make: Make) -> None:
    """One block gives what many give, bit for bit; a seed gives the same. Must fail for a clock that stands (tried)."""
    stimulus = make()
    stimulus.check(SIZE, DT)
    for dtype in (torch.float32, torch.float64):
        there = torch.get_rng_state()
        whole = _drives(stimulus, [STEPS], dtype=dtype)
        parts = _drives(stimulus, [1, 1, 7, STEPS - 9], dtype=dtype)
        identical(parts, whole, "Blocks of other lengths give other drives; the state must hold all that goes on")
        identical(_drives(stimulus, [STEPS], dtype=dtype), whole, "Two runs of the same generator give other drives")
        identical(torch.get_rng_state(), there, "The stimulus draws from the global generator, not from its own")


def stimulus_does_something(make: Make) -> None:
    """Within a second, at some unit."""
    demand(_drives(make(), [1000]).any(), "The stimulus gives no drive in 1,000 steps of 1 ms")


def stimulus_looks_at_no_value(make: Make) -> None:
    """So a step never waits for the device; tensors without data tell."""
    stimulus, like = make(), torch.zeros(3, *SIZE, device="meta")
    state = stimulus.init(like, DT, seeded())
    with no_values("stimulus"):
        drive, _ = stimulus.block(state, like, 5, DT)
    demand(drive.device.type == "meta", "A drive must be on the device of the population")


STIMULUS_CHECKS: tuple[Check, ...] = (
    drives_do_not_depend_on_the_blocks, stimulus_does_something, stimulus_looks_at_no_value,
)  # fmt: skip


def check_stimulus(make: Make) -> None:
    """Everything that the contract of a stimulus promises; see `check_neuron`."""
    for check in STIMULUS_CHECKS:
        check(make)
