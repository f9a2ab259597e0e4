"""Rewards of free runs: what earns them, and how they arrive."""

from collections.abc import Callable

from neurosbd.rewards.coincidence import Coincidence
from neurosbd.rewards.contingency import Contingency, Reinforcement, check_delay
from neurosbd.rewards.delivery import Delivery
from neurosbd.rewards.spike_count import SpikeCount
from neurosbd.rewards.unearned import RandomTimes, Times
from neurosbd.schema.namespace import is_table

REWARDS: dict[str, Callable[..., Contingency]] = {
    "times": Times,
    "poisson": RandomTimes,
    "coincidence": Coincidence,
    "spike_count": SpikeCount,
}
is_table(__name__, REWARDS)

__all__ = [
    "REWARDS", "Coincidence", "Contingency", "Delivery", "RandomTimes", "Reinforcement", "SpikeCount", "Times",
    "check_delay",
]  # fmt: skip
