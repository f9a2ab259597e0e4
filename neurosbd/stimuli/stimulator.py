"""All stimuli of a network at once, ahead of time and in whatever pieces they are asked for."""

from collections.abc import Mapping, Sequence
from typing import get_type_hints

import torch
from torch import Tensor

from neurosbd.distributions import sample_constants
from neurosbd.errors import UsageError, nearest
from neurosbd.filters import whole_steps
from neurosbd.schema.constants import Distribution
from neurosbd.schema.kinds import declared
from neurosbd.seeds import generator
from neurosbd.stimuli.stimulus import ReadFromFile, Span, Stimulation, warn_of_late

AHEAD = 64  # steps that are made at once, always from a multiple of it on, so that nothing depends on who asks


class Stimulator:
    """The drives that stimuli give to populations.

    Args:
        stimulations: what is given, where and when; several at one population add up.
        sizes: of all populations that can be driven, by name.
        like: in whose type and on whose device the drives are.
        examples: side by side; each has its own noise.
        dt: s.
        seed: of whatever is random.
    Raises:
        UsageError: naming the stimulus, if its population is not there, or cannot be given it.
    """

    def __init__(
        self,
        stimulations: Sequence[Stimulation],
        sizes: Mapping[str, tuple[int, ...]],
        like: Tensor,
        examples: int,
        dt: float,
        seed: int,
    ) -> None:
        self.dt = dt
        self.likes = {name: like.new_zeros((examples, *size)) for name, size in sizes.items()}
        self.stimulations: list[Stimulation] = []
        self.spans: list[Span] = []
        self.states: list[object] = []
        for number, given in enumerate(stimulations):
            source = generator(seed, "stimulus", number)
            try:
                own, span = _placed(given, sizes, dt, source)
                self.states.append(own.stimulus.init(self.likes[given.population], dt, source))
            except ValueError as problem:
                raise UsageError(f"stimulus {number}: {problem}") from None
            self.stimulations.append(own)
            self.spans.append(span)
        self.driven = tuple(dict.fromkeys(given.population for given in self.stimulations))
        self.block = -1  # number of the one that is there
        self._before = list(self.states)  # states at its beginning
        self._now: dict[str, Tensor] = {}

    def warn_of_late(self, steps: int) -> None:
        """Say which stimuli, or times of them, a run of so many steps is over before."""
        for number, (given, span) in enumerate(zip(self.stimulations, self.spans, strict=True)):
            warn_of_late(f"stimulus {number} at '{given.population}'", given.stimulus, span, steps, self.dt)

    def drives(self, first: int, steps: int) -> dict[str, Tensor]:
        """What the stimuli add at some steps, {population: [steps, B, *size]}; asked for in the order of time."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.driven}
        end = first + steps
        while first < end:
            number, at = divmod(first, AHEAD)
            until = min(AHEAD, at + end - first)
            if number != self.block:
                self._make(number)
            for name in self.driven:
                found[name].append(self._now[name][at:until])
            first += until - at
        return {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in found.items()}

    def _make(self, number: int) -> None:
        """The next block."""
        self._before, self.block, begin = list(self.states), number, number * AHEAD
        self._now = {name: self.likes[name].new_zeros((AHEAD, *self.likes[name].shape)) for name in self.driven}
        for n, (given, span) in enumerate(zip(self.stimulations, self.spans, strict=True)):
            low, high = span.within(begin, begin + AHEAD)
            if low < high:
                like = self.likes[given.population]
                drive, self.states[n] = given.stimulus.block(self.states[n], like, high - low, self.dt)
                self._now[given.population][low - begin : high - begin] += drive

    def content(self) -> list[str]:
        """What is in the files of stimuli that come from one; '' of all others."""
        return [g.stimulus.content(self.dt) if isinstance(g.stimulus, ReadFromFile) else "" for g in self.stimulations]

    def state(self) -> tuple[int, list[object]]:
        """The block that is there and the states at its beginning, to go on from."""
        return self.block, list(self._before)

    def go_on(self, block: int, states: Sequence[object]) -> None:
        """Go on from what `state` gave."""
        self.block, self.states, self._before = -1, list(states), list(states)
        if block >= 0:
            self._make(block)


def _placed(
    given: Stimulation, sizes: Mapping[str, tuple[int, ...]], dt: float, source: torch.Generator
) -> tuple[Stimulation, Span]:
    """A stimulation with its constants drawn, and its steps; ValueError if it does not fit."""
    name = given.population
    if name not in sizes:
        raise ValueError(f"there is no population '{name}' to stimulate{nearest(name, sizes)}")
    if not callable(getattr(given.stimulus, "block", None)):
        raise ValueError(f"must be made from an entry of neurosbd.stimuli, such as stimuli['poisson'](), got {given!r}")
    try:
        stimulus = sample_constants(given.stimulus, sizes[name], source, torch.float64, _of_units(given.stimulus))
        stimulus.check(sizes[name], dt)
    except UsageError:
        raise
    except ValueError as problem:
        raise ValueError(f"population '{name}': {problem}") from None
    start = whole_steps(given.start, dt, "start")
    stop = None if given.stop is None else whole_steps(given.stop, dt, "stop")
    return Stimulation(name, stimulus, given.start, given.stop), Span(start, stop)


def _of_units(stimulus: object) -> set[str]:
    """The constants of a stimulus that units may differ in."""
    hints = get_type_hints(type(stimulus), include_extras=True)
    return {name for name, hint in hints.items() if Distribution in declared(hint)[0]}
