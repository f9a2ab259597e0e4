"""What every contingency keeps: rewards of examples that do not know each other, the same for the same spikes."""

import torch
from torch import Tensor

from neurosbd.rewards import Contingency
from neurosbd.testing.judging import DT, Check, Make, demand, identical, seeded

SIZES = {"input": (2, 3), "output": (4,)}
STEPS, EXAMPLES = 1000, 4


def _spikes(examples: int) -> list[dict[str, Tensor]]:
    """Of every step, a tenth of the units."""
    source = seeded()
    drawn = {name: torch.rand(STEPS, EXAMPLES, *size, generator=source) < 0.1 for name, size in SIZES.items()}
    return [{name: value[t, :examples].float() for name, value in drawn.items()} for t in range(STEPS)]


def _earned(contingency: Contingency, examples: int) -> Tensor:
    """The rewards of all steps, [T, B]."""
    state, found = contingency.init(torch.zeros(examples), DT, seeded()), []
    for activity in _spikes(examples):
        earned, state = contingency.step(state, activity, DT)
        demand(earned.shape == (examples,), f"A step has earned {list(earned.shape)}; must be [{examples}]")
        found.append(earned)
    return torch.stack(found)


def rewards_are_earned_by_every_example_alone(make: Make) -> None:
    """Counts, the same twice, of an example alone as in a batch. Must fail for the mean over examples (tried)."""
    contingency = make()
    contingency.check(SIZES, DT)
    there = torch.get_rng_state()
    whole = _earned(contingency, EXAMPLES)
    demand(
        bool((whole >= 0).all()) and bool(torch.isfinite(whole).all()), "A number of rewards is below 0 or no number"
    )
    demand(whole.any(), f"Nothing is earned in {STEPS:,} steps in which every unit spikes in one of ten")
    identical(_earned(contingency, EXAMPLES), whole, "The same spikes earn other rewards the second time")
    identical(_earned(contingency, 1), whole[:, :1], "An example alone earns other rewards than in a batch")
    identical(torch.get_rng_state(), there, "Rewards are drawn from the global generator, not from the one given")


REWARD_CHECKS: tuple[Check, ...] = (rewards_are_earned_by_every_example_alone,)


def check_contingency(make: Make) -> None:
    """Everything that the contract of a contingency promises; see `check_neuron`."""
    for check in REWARD_CHECKS:
        check(make)
