"""Who watches a batch: the steps of the network, and the learning itself."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from neurosbd.learning.simulation import Observer


class LearningObserver(Protocol):
    """Sees the learning itself, as an observer sees the dynamics; it changes nothing."""

    def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
        """The third factor of a population at this step, [B, *size]; None: there is none at this step."""
        ...

    def on_eligibility(self, connection: str, eligibility: Callable[[Tensor], Tensor]) -> None:
        """A connection has learned from this step; `eligibility` gives what waits there, [E] -> [E, *weight]."""
        ...

    def looks_at(self, connection: str) -> bool:
        """Whether it wants to know the eligibility of a connection, which costs as much again as learning does."""
        ...


class Watchers(NamedTuple):
    """Who watches a batch; nobody changes anything."""

    observers: tuple[Observer, ...] = ()  # of every step of the network
    learning: LearningObserver | None = None  # of third factors and eligibilities, of rules that have any
