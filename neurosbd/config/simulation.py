"""What a model file says of a free run: how long it goes on, which stimuli reach which population, what is rewarded."""

from typing import Annotated

from pydantic import model_validator

from neurosbd.rewards import Reinforcement, check_delay
from neurosbd.schema.constants import NotNegativeSeconds, Range, Seconds
from neurosbd.schema.schema import Entry, Record
from neurosbd.stimuli import Stimulation, check_span


class SimulationSpec(Record):
    """[simulation]: a network runs by itself for a time, and its weights move meanwhile."""

    duration: Seconds
    update: Seconds | None = None  # from one update of the weights to the next; none: every step
    report: Seconds | None = None  # from a line of metrics, row of weights and checkpoint to the next; none: 20 in all
    normalise: Seconds | None = None  # from one restoring of norms of weights to the next; none: at every update
    examples: Annotated[int, Range(least=1, most=2**31 - 1)] = 1  # side by side: same weights, noise of their own


class LabellingSpec(Record):
    """[labelling]: after a free run, which class each unit answers to, and how well they say it of other items."""

    population: str
    labelled: Annotated[int, Range(least=1)] = 1000  # items of the training split that say what a unit answers to
    tested: Annotated[int, Range(least=1)] = 1000  # items of the test split that they answer then


class StimulusEntry(Entry):
    """[[stimulus]]: the population that it drives, when, and what is given."""

    population: str
    start: NotNegativeSeconds = 0.0
    stop: Seconds | None = None  # none: to the end

    @model_validator(mode="after")
    def _stops_after_it_starts(self) -> "StimulusEntry":
        check_span(self.start, self.stop)
        return self

    def stimulation(self) -> Stimulation:
        """The stimulus that is described, where and when it is given."""
        return Stimulation(self.population, self.build(), self.start, self.stop)


class ReinforcementEntry(Entry):
    """[[reward]]: what earns it, and how it arrives; see `rewards.Reinforcement`."""

    amplitude: float = 1.0
    delay: NotNegativeSeconds = 0.0
    longest: NotNegativeSeconds | None = None  # none: all delays are the same
    tau: NotNegativeSeconds = 0.0
    start: NotNegativeSeconds = 0.0
    stop: Seconds | None = None  # none: to the end

    @model_validator(mode="after")
    def _in_order(self) -> "ReinforcementEntry":
        check_delay(self.delay, self.longest)
        check_span(self.start, self.stop)
        return self

    def reinforcement(self) -> Reinforcement:
        """The reward that is described."""
        return Reinforcement(self.build(), self.amplitude, self.delay, self.longest, self.tau, self.start, self.stop)
